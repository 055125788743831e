"""What the bridge's guard lets pass, on every path, and that whoever comes next is served."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from llm_mcp.config import Settings
from llm_mcp.mcp_bridge.pace import Pace
from tests.integration.mcp.served import Bridge, Told

_JOB = "00000000-0000-7000-8000-000000000000"
_PATHS = [
    ("GET", "/health"),
    ("POST", "/submit"),
    ("GET", f"/jobs/{_JOB}"),
    ("GET", f"/jobs/{_JOB}/stream"),
    ("POST", "/llm/request"),
    ("GET", "/dashboard"),
    ("GET", "/nothing"),
    ("GET", "/mcp"),
    ("POST", "/mcp"),
    ("DELETE", "/mcp"),
]
_BOTH = "application/json, text/event-stream"
_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
}
_PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@pytest.fixture(autouse=True)
def _the_next_is_served(served: Bridge) -> Iterator[None]:
    """Whatever a test sent, the next client is served."""
    yield
    assert served.ask("GET", "/health").json == {"status": "ok"}


def _word(told: Told) -> str:
    """Return the word of a refusal: of JSON-RPC's errors it is in `data`."""
    error = told.json["error"]
    return str(error["data"]["error"] if isinstance(error, dict) else error)


@pytest.mark.parametrize(("method", "path"), _PATHS)
def test_a_host_of_another_is_misdirected(served: Bridge, method: str, path: str) -> None:
    for host in ("evil.example", f"evil.example:{urlsplit(served.url).port}", "localhost.evil.example", "[::1", ""):
        told = served.ask(method, path, _PING if method == "POST" else None, Host=host)
        assert (told.status, _word(told)) == (421, "misdirected_request"), host
        assert told.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("method", "path"), _PATHS)
def test_pages_of_others_are_refused(served: Bridge, method: str, path: str) -> None:
    port = urlsplit(served.url).port
    for origin in ("https://evil.example", "null", f"http://localhost:{port}", "http://127.0.0.1", "file://"):
        told = served.ask(method, path, _PING if method == "POST" else None, Origin=origin)
        assert (told.status, _word(told)) == (403, "origin_not_allowed"), origin


def test_every_name_of_loopback_is_ours_with_and_without_a_port(served: Bridge) -> None:
    port = urlsplit(served.url).port
    for name in ("localhost", "127.0.0.1", "[::1]", "LOCALHOST"):
        for host in (name, f"{name}:{port}"):
            assert served.ask("GET", "/health", Host=host, Origin=f"http://{host}").status == 200, host
            # Past us the SDK has its say of them.
            told = served.ask("POST", "/mcp", _INITIALIZE, Host=host, Origin=f"http://{host}", Accept=_BOTH)
            assert told.status == 200, (host, told)


@pytest.mark.parametrize("path", ["/submit", "/mcp", "/llm/request", "/feedback", "/nothing"])
def test_a_form_of_a_page_is_no_request(served: Bridge, path: str) -> None:
    for sort in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
    ):
        told = served.ask("POST", path, b'{"kind": "echo"}', Content_Type=sort)
        assert (told.status, _word(told)) == (415, "unsupported_media_type"), sort
    assert served.ask("POST", "/submit", b"[]", Content_Type="Application/JSON; charset=utf-8").status == 400


@pytest.mark.parametrize("path", ["/submit", "/mcp", "/llm/request"])
def test_a_body_over_the_limit(served: Bridge, bridge_settings: Settings, path: str) -> None:
    for size in (bridge_settings.max_body_bytes + 1, 20 * 2**20):
        told = served.ask("POST", path, b" " * size)
        assert (told.status, _word(told)) == (413, "body_too_large"), size


def test_a_body_whose_size_nobody_said(served: Bridge, bridge_settings: Settings) -> None:
    """Who sends on and on is heard out, within reason: what is cut while it sends may never see why."""
    for path in ("/submit", "/mcp"):
        for times in (1, 8):
            with closing(http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=30)) as connection:
                pieces = [b" " * 2**19] * (times * bridge_settings.max_body_bytes // 2**19 + 1)
                sort = {"Content-Type": "application/json"}
                connection.request("POST", path, body=iter(pieces), headers=sort, encode_chunked=True)
                answer = connection.getresponse()
                assert answer.status == 413
                assert "body_too_large" in answer.read().decode()


def test_who_stops_in_the_middle_of_too_large_a_body_is_told_by_and_by(
    served: Bridge, bridge_settings: Settings
) -> None:
    with closing(http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=30)) as connection:
        connection.putrequest("POST", "/submit")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(bridge_settings.max_body_bytes + 1))
        connection.endheaders(b" " * 1000)
        assert connection.getresponse().status == 413


def test_who_asks_before_sending_too_large_a_body_sends_none_of_it(served: Bridge, bridge_settings: Settings) -> None:
    where = urlsplit(served.url)
    with socket.create_connection((where.hostname, where.port), timeout=4) as connection:
        length = bridge_settings.max_body_bytes + 1
        sort = "Content-Type: application/json\r\nExpect: 100-continue"
        connection.sendall(
            f"POST /submit HTTP/1.1\r\nHost: {where.netloc}\r\n{sort}\r\nContent-Length: {length}\r\n\r\n".encode()
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"null", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (json.dumps([_PING, _PING]).encode(), 400),
        (b"[" * 5000, 400),
        (b'{"jsonrpc": "2.0", "id": 1}', 400),
    ],
)
def test_what_is_no_message_is_refused_by_one(served: Bridge, body: bytes, status: int) -> None:
    told = served.ask("POST", "/mcp", body, Accept=_BOTH, Content_Type="application/json")
    assert told.status == status
    assert told.json["error"]["code"] in (-32700, -32600, -32602, -32000)


def test_unknown_paths_and_methods(served: Bridge) -> None:
    assert (told := served.ask("GET", "/nothing")).status == 404
    assert told.json["error"] == "not_found"
    for method, path in (("GET", "/submit"), ("POST", f"/jobs/{_JOB}"), ("PUT", "/health"), ("POST", "/dashboard")):
        told = served.ask(method, path)
        assert (told.status, told.json["error"]) == (405, "method_not_allowed"), path


def test_who_asks_too_often_is_told_when_to_come_again(bridge_settings: Settings, log: Path) -> None:
    with Bridge(bridge_settings.model_copy(update={"mcp_calls_per_minute": 3}), log) as bridge:
        assert [bridge.ask("GET", "/nothing").status for _ in range(3)] == [404, 404, 404]
        told = bridge.ask("GET", "/nothing")
        assert (told.status, _word(told)) == (429, "rate_limited")
        assert 1 <= int(told.headers["retry-after"]) <= 20
        told = bridge.ask("POST", "/mcp", _PING)
        assert (told.status, told.json["error"]["code"]) == (429, -32005)
        assert bridge.ask("GET", "/health").status == 200


def test_a_bucket_fills_as_time_goes_by() -> None:
    now = 0.0
    pace = Pace(60, clock=lambda: now)
    assert [pace.wait_s("a") for _ in range(61)] == [0.0] * 60 + [1.0]
    assert pace.wait_s("b") == 0.0
    now = 0.5
    assert pace.wait_s("a") == 0.5
    now = 1.0
    assert pace.wait_s("a") == 0.0
    now = 1000.0
    assert [pace.wait_s("a") for _ in range(61)] == [0.0] * 60 + [1.0]
