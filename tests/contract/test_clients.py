"""Real clients, unmodified: two of them in our own environment always, all in environments of their own as a soak."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.acceptance.running import wait_gone
from tests.contract.clients import environments, trying
from tests.contract.clients.matrix import MATRIX
from tests.contract.clients.roster import CHECKS, CLIENTS, Client

INSTALLED = [client for client in CLIENTS if client.name in ("openai-py", "ollama-py")]
EVERY = [pytest.param(client, id=client.name) for client in CLIENTS]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The running product with real models behind it."""
    with MATRIX.serving() as served:
        yield served.told


class Empty(BaseHTTPRequestHandler):
    """Says `{}` to everybody, and that all is well."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = answer  # noqa: N815 - the names that http.server calls

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """Say nothing."""


@pytest.fixture(scope="module")
def empty() -> Iterator[str]:
    """A server that answers, and knows nothing."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


def faults(outcome: trying.Outcome) -> dict[str, str]:
    """Return what did not pass."""
    return {name: told for name, told in outcome.items() if told}


@pytest.mark.parametrize("client", INSTALLED, ids=lambda client: client.name)
def test_a_client_finds_all_it_looks_for(client: Client, url: str) -> None:
    outcome = trying.run(client, trying.own(client, url))
    assert faults(outcome) == {}
    assert set(outcome) == set(client.checks)


@pytest.mark.parametrize("client", INSTALLED, ids=lambda client: client.name)
def test_no_check_passes_where_there_is_nothing(client: Client, empty: str) -> None:
    assert set(faults(trying.run(client, trying.own(client, empty)))) == set(client.checks)


def test_what_a_script_does_not_say_has_failed(url: str) -> None:
    outcome = trying.run(INSTALLED[0], ["python3", "-c", """print('{"check": "chat", "ok": true, "told": ""}')"""])
    assert outcome["chat"] == ""
    assert all(told.startswith("not told: ended with 0") for name, told in outcome.items() if name != "chat")
    odd = trying.run(INSTALLED[0], ["python3", "-c", """print('{"check": "what", "ok": true, "told": ""}')"""])
    assert odd["what"] == "is not to be checked"


def test_a_script_that_goes_on_for_ever_is_ended_with_what_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "_RUN_S", 2.0)
    mark = f"{time.monotonic_ns()}"
    child = "import time; time.sleep(600)"
    goes_on = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, sys.argv[1]])"
    outcome = trying.run(INSTALLED[0], [sys.executable, "-c", goes_on, mark])
    assert set(outcome.values()) == {"not told: took over 2 s"}
    wait_gone(lambda command, _: mark in command)


def test_the_page_tells_of_every_client_and_the_versions_that_are_pinned() -> None:
    page = (trying.ROOT / MATRIX.page).read_text()
    for client in CLIENTS:
        assert set(client.checks) <= set(CHECKS)
        assert f"| {client.label} | {environments.versions(client)} |" in page


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", EVERY)
def test_a_client_of_its_own_environment_finds_all_it_looks_for(client: Client, url: str) -> None:
    assert faults(trying.run(client, environments.command(client, url))) == {}


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", EVERY)
def test_no_check_of_any_client_passes_where_there_is_nothing(client: Client, empty: str) -> None:
    assert set(faults(trying.run(client, environments.command(client, empty)))) == set(client.checks)
