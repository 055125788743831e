"""The dialect by its real server: clients that leave, two hundred of them, and a server that is told to stop."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

import llm_mcp.actors  # noqa: F401 - what the worker can run
from llm_mcp import runtime as runtimes
from llm_mcp.config import Settings
from llm_mcp.jobs import Jobs
from llm_mcp.providers.fake import Fake, Text, Used
from llm_mcp.runtime import Runtime
from llm_mcp.worker import Worker
from tests.contract.provider_peer import Peer, answer
from tests.integration.web.door import Door
from tests.integration.web.openai.conftest import HI
from tests.integration.web.openai.reading import chunks, deltas
from tests.integration.web.played import Player
from tests.waiting import until

Open = Callable[..., Door]
TAGS = {"models": [{"name": "play:latest"}]}


@pytest.fixture
def machine() -> Iterator[Peer]:
    """A machine that lists one model."""
    with Peer(answer(200, TAGS)) as made:
        yield made


def sent(door: Door, *, stream: bool) -> socket.socket:
    """Send a chat and return the connection, unread."""
    body = json.dumps({"model": "play", "messages": HI, "stream": stream}).encode()
    connection = socket.create_connection((door.host, door.port), timeout=30)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_gives_its_place_back_and_its_job_goes_on(
    open_door: Open, machine: Peer, jobs: Jobs, player: Player, stream: bool
) -> None:
    door = open_door(ollama_base_url=machine.url, max_streams=1)
    with sent(door, stream=stream):
        (job,) = until(jobs.page)
    again = until(lambda: _begun(door))
    assert again is not None
    again.close()
    attempt = player.claim(job.id, "ollama.chat")
    attempt.done({"response": "for nobody"})
    assert jobs.get(job.id).status == "done"


def _begun(door: Door) -> socket.socket | None:
    """Try to begin a stream; None when there is no place."""
    connection = sent(door, stream=True)
    connection.settimeout(0.3)
    try:
        refused = connection.recv(100)
    except TimeoutError:
        return connection  # it waits for its first word
    assert b"503" in refused
    connection.close()
    return None


def test_a_server_that_is_told_to_stop_answers_who_waits(open_door: Open, machine: Peer, jobs: Jobs) -> None:
    door = open_door(ollama_base_url=machine.url)
    with sent(door, stream=False) as waiting, sent(door, stream=True) as streaming:
        until(lambda: len(jobs.page()) == 2)
        door.terminate()
        for connection in (waiting, streaming):
            told = http.client.HTTPResponse(connection)
            told.begin()
            error = json.loads(told.read())["error"]
            assert (told.status, error["code"]) == (503, "server_draining")
            assert UUID(told.headers["x-llm-mcp-job"]) in {job.id for job in jobs.page()}


def test_two_hundred_clients_stream_at_once(
    open_door: Open, machine: Peer, settings: Settings, runtime: Runtime
) -> None:
    model = Fake([*(Text(f"{n} ") for n in range(5)), Used(1, 5)], models=["play:latest"])
    # A busy machine may keep a heart from beating for longer than the tests' short leases last.
    working = Runtime(settings.model_copy(update={"lease_s": 60.0}), providers={"ollama": model})
    runtimes.use(working)
    worker = Worker(working, threads=32)
    worker.start()
    try:
        door = open_door(ollama_base_url=machine.url)

        def one(_: int) -> str:
            with sent(door, stream=True) as connection:
                told = http.client.HTTPResponse(connection)
                told.begin()
                return "".join(delta.get("content", "") for delta in deltas(chunks(told.read().decode())))

        with ThreadPoolExecutor(200) as pool:
            assert set(pool.map(one, range(200))) == {"0 1 2 3 4 "}
        assert len(model.calls) == 200
    finally:
        worker.drain(0.0)
        runtimes.use(None)
        working.close()
