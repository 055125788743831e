"""A connection that breaks two hundred times, anywhere: every event arrives, once, by its id."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.integration.web.cutting import cutting
from tests.integration.web.door import Door
from tests.integration.web.frames import Frame, parse
from tests.integration.web.played import Attempt, Player
from tests.integration.web.sockets import Socket

_CUTS = 200
_BREAKS = (OSError, EOFError, http.client.HTTPException, ValueError)


def by_stream(address: tuple[str, int], job_id: str, after: str) -> Iterator[Frame]:
    """Read on by server-sent events; the last one is dropped when it is not whole."""
    connection = http.client.HTTPConnection(*address, timeout=20)
    try:
        connection.request("GET", f"/v1/jobs/{job_id}/stream", headers={"Last-Event-ID": after} if after else {})
        answer = connection.getresponse()
        if answer.status == 200:
            yield from parse(_whole(answer))
    finally:
        connection.close()


def _whole(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    rest = b""
    with suppress(*_BREAKS):
        while piece := answer.read1(65536):
            blocks, end, rest = (rest + piece).rpartition(b"\n\n")
            yield blocks + end


def by_socket(address: tuple[str, int], job_id: str, after: str) -> Iterator[Frame]:
    """Read on by WebSocket."""
    with Socket(address, f"/v1/jobs/{job_id}/ws?starting_after={after}") as ws:
        yield from ws.frames()


def write(attempt: Attempt, stop: threading.Event) -> None:
    """Say numbered words, some at a time, until there were breaks enough; then finish."""
    number = 0
    while not stop.wait(0.002):
        size = number % 7 + 1
        attempt.say(*(f"{number + n} " for n in range(size)))
        number += size
    attempt.done({})


@pytest.mark.parametrize("read", [by_stream, by_socket])
def test_two_hundred_cuts_cost_nothing(door: Door, player: Player, kind: str, read: type) -> None:
    job_id = door.submit(kind)
    attempt = player.claim(job_id, kind)
    dice, stop = random.Random(7), threading.Event()
    writer = threading.Thread(target=write, args=(attempt, stop))
    told: list[Frame] = []
    last, ended = "", False
    with cutting((door.host, door.port), lambda: dice.randint(100, 4000)) as proxy:
        writer.start()
        try:
            while not ended:
                with suppress(*_BREAKS):
                    for frame in read(proxy.address, job_id, last):
                        ended = frame.event == "end"
                        if frame.id:
                            told.append(frame)
                            last = frame.id
                if proxy.cuts >= _CUTS:
                    stop.set()
        finally:
            stop.set()
            writer.join(20)
    assert proxy.cuts >= _CUTS
    assert [frame.id for frame in told] == [f"1:{n}" for n in range(1, len(told) + 1)]
    assert [frame.data["text"] for frame in told] == [f"{n} " for n in range(len(told))]
    with door.watch(job_id) as whole:
        assert len([frame for frame in whole.rest() if frame.id]) == len(told)
