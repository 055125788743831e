"""Every answer and every log line of a request has its id: the client's own when it fits, else a new one."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from llm_mcp.web.request_id import chosen, of_head
from tests.integration.web.client import Client
from tests.integration.web.door import Door
from tests.waiting import until

FITS = ["a", "req_1.2-3", "A" * 128, "01a2144b-5d20-70a6-afc6-473eda9a8dd9"]
DOES_NOT = ["", " ", "a b", "a,b", "a" * 129, "é", "<x>", "a\tb", "a;b", 'a"b']


def is_ours(name: str) -> bool:
    """Say whether this is a UUIDv7."""
    return UUID(name).version == 7


@pytest.mark.parametrize("said", FITS)
def test_what_fits_is_taken(client: Client, said: str) -> None:
    for path, status in (("/health", 200), ("/v1/jobs", 200), ("/nowhere", 404), ("/v1/jobs?limit=x", 400)):
        answer = client.get(path, headers={"X-Request-ID": said})
        assert (answer.status_code, answer.headers.getlist("X-Request-ID")) == (status, [said])
    assert of_head(b"GET / HTTP/1.1\r\nx-request-ID : %s \r\n\r\n" % said.encode()) == said


@pytest.mark.parametrize("said", DOES_NOT)
def test_what_does_not_is_replaced(client: Client, said: str) -> None:
    [name] = client.get("/health", headers={"X-Request-ID": said}).headers.getlist("X-Request-ID")
    assert is_ours(name)
    assert is_ours(of_head(b"GET / HTTP/1.1\r\nX-Request-ID: %s\r\n\r\n" % said.encode()))


def test_each_has_its_own() -> None:
    names = {chosen(None) for _ in range(100)}
    assert len(names) == 100
    assert all(map(is_ours, names))
    assert is_ours(of_head(b"GET / HTTP/1.1\r\nX-Request-ID: a\r\nX-Request-ID: b\r\n\r\n"))
    assert is_ours(of_head(b"GET / HTTP/1.1\r\nX-Request-ID: cut o"))


def test_every_way_to_refuse_has_it(client: Client) -> None:
    for method, path, options in (
        ("POST", "/v1/jobs", {"data": b"{"}),
        ("DELETE", "/v1/jobs", {}),
        ("OPTIONS", "/v1/jobs", {}),
        ("HEAD", "/v1/jobs", {}),
        ("GET", "/v1/jobs", {"headers": {"Origin": "http://evil.example"}}),
        ("GET", "/v1/jobs", {"headers": {"Host": "evil.example"}}),
        ("POST", "/v1/chat/completions", {"data": b"{"}),
    ):
        [name] = client.open(path, method=method, **options).headers.getlist("X-Request-ID")
        assert is_ours(name)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /health HTTP/1.1\r\n%s\r\n", 200),
        (b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n%s\r\n", 404),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n%s\r\n", 400),
        (b"GET /health HTTP/9.9\r\n%s\r\n", 400),
        (b"GET /health HTTP/1.1\r\n%sExpect: the-moon\r\n\r\n", 417),
        (b"GET /health HTTP/1.1\r\n%s" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /health HTTP/1.1\r\n%s" + b"A: b\r\n" * 20000, 431),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: 99999999\r\n\r\n", 413),
    ],
)
def test_below_the_application_too(door: Door, request_bytes: bytes, status: int) -> None:
    found, headers, _ = door.exchange(request_bytes.replace(b"%s", b"X-Request-ID: mine.1\r\n"))
    assert (found, headers["x-request-id"]) == (status, "mine.1")
    assert is_ours(door.exchange(request_bytes.replace(b"%s", b""))[1]["x-request-id"])


def test_where_the_id_itself_did_not_arrive(door: Door) -> None:
    status, headers, _ = door.exchange(b"GET /" + b"x" * 9000)
    assert status == 414
    assert is_ours(headers["x-request-id"])


def test_a_stream_has_it(door: Door, kind: str) -> None:
    job_id = door.submit(kind)
    said = f"GET /v1/jobs/{job_id}/stream HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: stream-1\r\n\r\n"
    with socket.create_connection((door.host, door.port), timeout=20) as connection:
        connection.sendall(said.encode())
        head = connection.recv(65536).partition(b"\r\n\r\n")[0]
    assert head.count(b"\r\nX-Request-ID: stream-1") == 1


def test_each_log_line_of_a_request_names_it(open_door: Callable[..., Door]) -> None:
    door = open_door(db_dsn=SecretStr("postgresql://127.0.0.1:1/nobody-listens"))
    mine = f"log-{uuid4().hex}"
    status, _ = door.call("GET", "/v1/jobs", X_Request_ID=mine)
    assert status == 503
    assert door.call("GET", "/health")[0] == 200
    lines = until(lambda: [json.loads(line) for line in door.log.splitlines() if "database_away" in line])
    assert [line.get("request_id") for line in lines] == [mine]
