"""A page in somebody's browser cannot use the door: foreign hosts and origins are refused, ours pass."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from llm_mcp.config import Settings
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.integration.web.client import Client
from tests.integration.web.door import Door

BODY = b'{"kind": "test.guard"}'


def guarded(settings: Settings, **changes: object) -> Client:
    """The application as it is under these settings."""
    return Client(create_app(Runtime(settings.model_copy(update=changes))))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "[::1]:8080"])
def test_names_of_loopback_pass(settings: Settings, host: str) -> None:
    assert guarded(settings).get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8080", "192.168.0.7", "[::2]", "a@localhost:b", "["],
)
def test_a_name_pointed_at_loopback_is_refused(settings: Settings, host: str) -> None:
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/health")):
        answer = guarded(settings).open(path, method=method, data=BODY, headers={"Host": host})
        assert answer.status_code in (400, 421), (method, path)
        if answer.status_code == 421:
            assert (answer.json["error"], answer.json["field"]) == ("misdirected_request", "Host")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://localhost.evil.example",
        "null",
        "",
        "file://",
        "http://localhost:9999",
        "http://[",
    ],
)
def test_a_page_of_another_site_is_refused_and_nothing_is_written(
    settings: Settings, runtime: Runtime, origin: str
) -> None:
    client = Client(create_app(runtime))
    answer = client.post("/v1/jobs", data=BODY, headers={"Host": "localhost:8080", "Origin": origin})
    assert (answer.status_code, answer.json["error"]) == (403, "origin_not_allowed")
    assert client.get("/v1/jobs?kind=test.guard").json["items"] == []


def test_a_page_of_ours_and_a_client_without_an_origin_pass(settings: Settings) -> None:
    client = guarded(settings)
    for headers in ({"Host": "localhost:8080", "Origin": "http://localhost:8080"}, {"Host": "localhost:8080"}):
        assert client.post("/v1/jobs", data=b'{"kind": "echo"}', headers=headers).status_code == 202


def test_further_names_are_the_ones_that_are_set(settings: Settings) -> None:
    client = guarded(settings, allowed_hosts="box.tail.ts.net, Pages.Example")
    for headers in (
        {"Host": "box.tail.ts.net:8080"},
        {"Host": "localhost", "Origin": "https://pages.example"},
        {"Host": "pages.example", "Origin": "https://pages.example:444"},
    ):
        assert client.get("/health", headers=headers).status_code == 200, headers
    assert client.get("/health", headers={"Host": "other.tail.ts.net"}).status_code == 421


def test_beyond_loopback_every_host_passes_and_foreign_pages_still_do_not(settings: Settings, tmp_path: Path) -> None:
    client = guarded(settings, http_addr="0.0.0.0:8080")
    assert client.get("/health", headers={"Host": "core:8080"}).status_code == 200
    answer = client.get("/v1/jobs", headers={"Host": "core:8080", "Origin": "http://evil.example"})
    assert answer.status_code == 403


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost:1", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost:1", "Origin": "null"}, 403),
        ({"Host": "localhost:1", "Origin": "https://localhost:2"}, 403),
    ],
)
def test_no_page_of_another_site_gets_a_websocket(door: Door, kind: str, headers: dict[str, str], status: int) -> None:
    path = f"/v1/jobs/{door.submit(kind)}/ws"
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**HANDSHAKE, **headers}.items())
    found, _, body = door.exchange(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
    assert found == status
    assert b'"error"' in body
    ours = "".join(f"{name}: {value}\r\n" for name, value in {**HANDSHAKE, "Host": "localhost:1"}.items())
    with socket.create_connection((door.host, door.port), timeout=20) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nOrigin: http://localhost:1\r\n{ours}\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 101 ")
