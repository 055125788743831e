"""Every route there is, by the methods it has and those it has not."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator

import pytest
from werkzeug.routing import Rule

from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.integration.web.client import Client
from tests.integration.web.door import Door

ANY = {"/health", "/version", "/livez", "/readyz"}
ID = "01a2144b-5d20-70a6-afc6-473eda9a8dd9"


def paths(runtime: Runtime) -> Iterator[tuple[str, set[str]]]:
    """Yield each path of the application, with an id where one belongs, and the methods it has."""
    rules: dict[str, set[str]] = {}
    for rule in create_app(runtime).url_map.iter_rules():
        if isinstance(rule, Rule) and rule.methods is not None and not rule.endpoint.endswith(".unknown"):
            rules.setdefault(re.sub("<[^>]+>", ID, rule.rule), set()).update(rule.methods)
    return iter(rules.items())


def test_options_says_what_a_path_has(client: Client, runtime: Runtime) -> None:
    seen = 0
    for path, methods in paths(runtime):
        answer = client.open(path, method="OPTIONS")
        assert (answer.status_code, answer.data) == (204, b""), path
        assert set(answer.headers["Allow"].split(", ")) == methods | {"OPTIONS"}, path
        assert not {name for name, _ in answer.headers} & {"Content-Type", "Access-Control-Allow-Origin"}, path
        seen += 1
    assert seen >= 8


def test_every_other_method_is_a_405_that_says_the_same(client: Client, runtime: Runtime) -> None:
    for path, methods in paths(runtime):
        if path.startswith("/api/blobs/"):
            continue  # its door says 404, as of every path it does not know
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "FROB"} - methods:
            answer = client.open(path, method=method)
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["Allow"].split(", ")) == methods | {"OPTIONS"}, (method, path)
            if method != "HEAD" and not path.startswith("/api/"):  # Ollama says it in plain words
                said = answer.json["error"]
                assert (said if isinstance(said, str) else said["code"]) == "method_not_allowed", (method, path)


def test_options_of_no_path(client: Client) -> None:
    answer = client.open("/v1/nowhere", method="OPTIONS")
    assert (answer.status_code, answer.json["error"]) == (404, "not_found")
    assert "Allow" not in answer.headers


def test_options_of_the_server_itself(door: Door) -> None:
    status, headers, body = door.exchange(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (status, body) == (204, b"")
    assert "GET" in headers["allow"]


def test_options_of_a_page_elsewhere_says_nothing(client: Client) -> None:
    answer = client.open("/v1/jobs", method="OPTIONS", headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403


def test_head_is_what_get_would_say_without_saying_it(client: Client, runtime: Runtime, kind: str) -> None:
    job_id = client.post("/v1/jobs", json={"kind": kind}).json["job_id"]
    volatile = {"Date", "X-Request-ID"}
    for path, methods in paths(runtime):
        if "GET" not in methods or path.endswith("/stream"):
            continue
        asked = path.replace(ID, job_id)
        got, headed = client.get(asked), client.head(asked)
        assert (headed.status_code, headed.data) == (got.status_code, b""), path
        assert {n: v for n, v in headed.headers if n not in volatile} == {
            n: v for n, v in got.headers if n not in volatile
        }, path
    for path in ANY:
        assert client.head(path).data == b""


def test_head_opens_no_stream(open_door: Callable[..., Door], kind: str) -> None:
    door = open_door(max_streams=1)
    job_id = door.submit(kind)
    head = f"HEAD /v1/jobs/{job_id}/stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    for _ in range(3):
        status, headers, body = door.exchange(head)
        assert (status, headers["content-type"], body) == (200, "text/event-stream; charset=utf-8", b"")
    with door.watch(job_id) as watch:
        assert watch.status == 200
        assert watch.next().event == "status"


@pytest.mark.parametrize("path", sorted(ANY))
def test_heads_on_one_connection_follow_each_other(door: Door, path: str) -> None:
    head = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    last = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    with socket.create_connection((door.host, door.port), timeout=20) as connection:
        connection.sendall(head + head + last)
        heard = b"".join(iter(lambda: connection.recv(65536), b""))
    assert heard.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert heard.endswith(b"\r\n\r\n")
    assert b"{" not in heard
