"""The paths of older clients that the core's HTTP door answers: what goes there, and what comes back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llm_mcp.config import Settings
from llm_mcp.mcp_bridge.tokens import new
from tests.integration.mcp.served import Bridge

_PATHS = [
    ("POST", "/llm/request"),
    ("GET", "/dashboard"),
    ("GET", "/costs/summary"),
    ("GET", "/costs/balance"),
    ("GET", "/benchmarks"),
    ("GET", "/models/stats"),
    ("POST", "/feedback"),
    ("POST", "/knowledge/ingest"),
    ("POST", "/models/sync"),
    ("GET", "/discovery"),
]


class Core:
    """An HTTP server that says what it was asked. `status`, `sort` and `body` are what it answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.status, self.sort, self.body = 200, "application/json", b'{"ok":true}'
        core = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                core.asked.append((self.command, self.path, headers, body))
                self.send_response(core.status)
                self.send_header("Content-Type", core.sort)
                self.send_header("Content-Length", str(len(core.body)))
                self.send_header("Set-Cookie", "a=b")
                self.end_headers()
                self.wfile.write(core.body)

            do_GET = do_POST = answer  # noqa: N815 - the names http.server calls

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def core() -> Iterator[Core]:
    """What stands for the core's HTTP door."""
    made = Core()
    yield made
    made.close()


@pytest.fixture(scope="module")
def passing(core: Core, bridge_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge before it."""
    chosen = bridge_settings.model_copy(update={"core_http_url": core.url})
    with Bridge(chosen, tmp_path_factory.mktemp("log") / "mcp.log") as bridge:
        assert bridge.url, bridge.log.read_text()
        yield bridge


@pytest.fixture(autouse=True)
def _fresh(core: Core) -> None:
    core.asked.clear()
    core.status, core.sort, core.body = 200, "application/json", b'{"ok":true}'


@pytest.mark.parametrize(("method", "path"), _PATHS)
def test_status_sort_and_body_are_as_they_are(passing: Bridge, core: Core, method: str, path: str) -> None:
    core.status, core.sort, core.body = 418, "text/plain; charset=utf-8", b"\x00 as it is"
    sent = b'{"a" : 1}' if method == "POST" else None
    told = passing.ask(method, path, sent)
    assert (told.status, told.headers["content-type"], told.body) == (418, core.sort, core.body)
    assert "set-cookie" not in told.headers
    (asked,) = core.asked
    assert (asked[0], asked[1], asked[3]) == (method, f"/v1{path}", sent or b"")
    assert asked[2].get("content-type") == ("application/json" if sent else None)


def test_a_query_goes_where_it_may(passing: Bridge, core: Core) -> None:
    for path in ("/costs/summary?period=week", "/benchmarks?limit=3&x=%2F%20y"):
        assert passing.ask("GET", path).status == 200
        assert core.asked[-1][1] == f"/v1{path}"
    core.asked.clear()
    for path in ("/dashboard?x=1", "/costs/balance?x=1", "/models/stats?x"):
        told = passing.ask("GET", path)
        assert (told.status, told.json["error"]) == (404, "not_found"), path
    assert core.asked == []


def test_what_a_client_proves_itself_with_stays_here(
    core: Core, bridge_settings: Settings, tmp_path: Path, log: Path
) -> None:
    token, line = new("ann", ["llm:read", "llm:submit", "llm:cloud", "llm:admin"])
    (tmp_path / "tokens").write_text(line)
    changed = {"core_http_url": core.url, "mcp_tokens": tmp_path / "tokens"}
    with Bridge(bridge_settings.model_copy(update=changed), log) as bridge:
        for method, path in _PATHS:
            told = bridge.ask(
                method, path, {} if method == "POST" else None, Authorization=f"Bearer {token}", Cookie="a=b"
            )
            assert told.status == 200, path
    assert len(core.asked) == len(_PATHS)
    assert not any(token in json.dumps(headers) or "cookie" in headers for _, _, headers, _ in core.asked)


def test_a_core_that_is_away(served: Bridge, bridge_settings: Settings, log: Path) -> None:
    with Bridge(bridge_settings.model_copy(update={"core_http_url": "http://127.0.0.1:1"}), log) as bridge:
        for method, path in _PATHS:
            told = bridge.ask(method, path, {} if method == "POST" else None)
            assert told.status == 502
            assert told.json == {"error": "core unavailable: it does not answer"}
    assert served.ask("GET", "/health").status == 200
