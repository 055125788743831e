"""A stream that is cut two hundred times, on two servers of which one is killed, is told without a gap or a repeat."""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from llm_mcp.dialect.request import Wanted
from llm_mcp.jobs import Jobs
from llm_mcp.routing import Route
from llm_mcp.runtime import Runtime
from tests.integration.web.door import Door
from tests.integration.web.played import Attempt, Player
from tests.integration.web.responses.conftest import events

CUTS = 200


class Cutter:
    """A proxy that takes each connection to the next of its targets and cuts it after some bytes of the answer."""

    def __init__(self, targets: list[Door], dice: random.Random) -> None:
        self.targets = targets
        self.cuts = 0
        self._dice = dice
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _serve(self) -> None:
        number = 0
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            number += 1
            target = self.targets[number % len(self.targets)]
            left = self._dice.randint(1, 6000) if self.cuts < CUTS else 2**30
            threading.Thread(target=self._carry, args=(client, target, left), daemon=True).start()

    def _carry(self, client: socket.socket, target: Door, left: int) -> None:
        with client, suppress(OSError), socket.create_connection((target.host, target.port), timeout=30) as server:
            server.sendall(client.recv(65536))
            while left > 0 and (data := server.recv(min(left, 65536))):
                client.sendall(data)
                left -= len(data)
        if left <= 0:
            self.cuts += 1


def read(port: int, path: str) -> bytes:
    """Return as much of an answer's body as came before its connection broke."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    found = b""
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", path, headers={"Host": "localhost"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        while data := answer.read1(65536):
            found += data
    connection.close()
    return found


def patient(port: int, name: str) -> list[Any]:
    """Read a stream to its end, going on after the last whole event whenever it breaks."""
    found: list[Any] = []
    while not (found and found[-1]["type"] == "response.completed"):
        place = f"&starting_after={found[-1]['sequence_number']}" if found else ""
        body = read(port, f"/v1/responses/{name}?stream=true{place}")
        whole, _, _ = body.rpartition(b"\n\n")
        found += [event for event in events(whole.decode()) if event["type"] != "error"]
    return found


@pytest.fixture
def doors(open_door: Callable[..., Door]) -> list[Door]:
    """Two servers over one database."""
    return [open_door(), open_door()]


def written(attempt: Attempt, cutter: Cutter, dice: random.Random, halfway: Callable[[], None]) -> str:
    """Say words until there were cuts enough, and finish; return what was said."""
    said, number = "", 0
    while cutter.cuts < CUTS:
        words = [f"w{number + n} " for n in range(dice.randint(1, 4))]
        number += len(words)
        if number % 50 < 4:
            attempt.add(("delta", {"thinking": f"t{number} "}))
        attempt.say(*words)
        said += "".join(words)
        if cutter.cuts >= CUTS // 2:
            halfway()
        threading.Event().wait(0.03)
    attempt.done({"response": said, "tokens_in": 1, "tokens_out": number, "data": {"done_reason": "stop"}})
    return said


def test_a_stream_that_is_cut_again_and_again(
    jobs: Jobs, player: Player, doors: list[Door], open_door: Callable[..., Door], runtime: Runtime
) -> None:
    seed = random.SystemRandom().randint(0, 2**32)
    dice = random.Random(seed)
    route = Route(kind="ollama.chat", provider="ollama", model="play")
    job_id = jobs.submit(Wanted.read({"input": "hi", "background": True}).submission(route))
    name = f"resp_{job_id.hex}"
    attempt = player.claim(job_id, "ollama.chat")
    cutter = Cutter(doors, random.Random(seed + 1))
    told: list[Any] = []
    killed = threading.Event()

    def kill() -> None:
        if not killed.is_set():
            killed.set()
            doors[0].kill()
            cutter.targets[0] = open_door()

    reader = threading.Thread(target=lambda: told.extend(patient(cutter.port, name)), daemon=True)
    reader.start()
    try:
        said = written(attempt, cutter, dice, kill)
        reader.join(60)
    finally:
        cutter.close()
    assert not reader.is_alive(), seed
    assert cutter.cuts >= CUTS
    assert [event["sequence_number"] for event in told] == list(range(len(told))), seed
    assert "".join(event["delta"] for event in told if event["type"] == "response.output_text.delta") == said
    whole = events(read(doors[1].port, f"/v1/responses/{name}?stream=true").decode())
    assert told == whole, seed
    shown = json.loads(read(doors[1].port, f"/v1/responses/{name}"))
    assert UUID(shown["id"].removeprefix("resp_")) == job_id
    assert [item["type"] for item in shown["output"]] == ["message"]
