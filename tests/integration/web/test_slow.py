"""Slow clients: they are cut, and change nothing for anybody else."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.integration.web.door import Door
from tests.integration.web.played import Player
from tests.integration.web.sloths import SORTS, Sloths
from tests.integration.web.test_connections import HEALTH, OpenDoor, spoken
from tests.waiting import until

CUT_S = 20.0


def threads(door: Door) -> int:
    """Return how many threads the serving process has."""
    [pid] = door.pids()
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def sockets(door: Door) -> int:
    """Return how many sockets it has."""
    [pid] = door.pids()
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += str(entry.readlink()).startswith("socket:")
    return found


class Asking:
    """Asks `/health` all the time, on new connections, and counts answers that failed or took over 3 s."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.asked = 0
        self.failures: list[Exception] = []

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.05):
            try:
                assert self._door.call("GET", "/health", timeout_s=3.0)[0] == 200
            except (OSError, AssertionError) as error:
                self.failures.append(error)
            self.asked += 1


def test_sixty_of_every_sort_are_cut_and_take_no_thread(open_door: OpenDoor) -> None:
    door = open_door(max_streams=1)
    assert door.call("GET", "/health")[0] == 200
    before = sockets(door)
    with ExitStack() as stack, Asking(door) as asking:
        crowds = {sort: stack.enter_context(Sloths(door.host, door.port, sort, 60)) for sort in SORTS}
        until(lambda: sockets(door) - before > 400)
        most = 0
        while any(crowd.left for crowd in crowds.values()):
            most = max(most, threads(door))
            assert time.monotonic() - crowds["says nothing"].began_at < CUT_S
            time.sleep(0.1)
        assert most < 12  # its main thread, those of probes, and what little else it needs
        for sort, crowd in crowds.items():
            told = set(crowd.told)
            if sort == "says nothing":
                assert told == {b""}
            else:
                assert {spoken(answer) for answer in told} == {(408, "request_timeout")}, sort
    assert asking.asked > 20
    assert asking.failures == []
    until(lambda: sockets(door) <= before)


def test_more_that_drip_than_there_are_threads(open_door: OpenDoor) -> None:
    door = open_door(max_streams=200)
    with ExitStack() as stack, Asking(door) as asking:
        heads, bodies = (
            stack.enter_context(Sloths(door.host, door.port, sort, 550))
            for sort in ("a head that drips", "a body that drips")
        )
        until(lambda: sockets(door) > 1000)
        assert door.submit("test.unserved")
        assert threads(door) < 12
        until(lambda: not heads.left and not bodies.left, timeout_s=CUT_S)
    assert asking.failures == []


def test_an_upload_that_takes_long_and_goes_on_is_taken(open_door: OpenDoor) -> None:
    door = open_door()
    body = b'{"kind": "test.unserved", "payload": "%s"}' % (b"x" * 60_000)
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection((door.host, door.port), timeout=20) as connection:
        connection.sendall(head)
        pause = threading.Event()
        for start in range(0, len(body), 10_000):
            connection.sendall(body[start : start + 10_000])
            pause.wait(2.0)  # what makes it slow: longer in all than a body that stops is waited for
        assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize("farewell", ["never reads", "vanishes"])
def test_watchers_who_take_nothing_are_gone_and_leave_nothing(
    open_door: OpenDoor, player: Player, kind: str, farewell: str
) -> None:
    door = open_door(max_streams=120)
    job_id = door.submit(kind)
    attempt = player.claim(job_id, kind)
    counted: list[int] = []
    with door.watch(job_id) as watch:
        watch.next()
        before = sockets(door)
    for _ in range(2):
        with ExitStack() as stack:
            watches = [stack.enter_context(door.watch(job_id, receive_bytes=4096)) for _ in range(100)]
            until(lambda: sockets(door) >= before + 99)
            attempt.say(*("x" * 100_000 for _ in range(10)))
            attempt.say(*("x" * 100_000 for _ in range(10)))  # more than all buffers between us hold
            began = time.monotonic()
            if farewell == "vanishes":
                for watch in watches:
                    watch.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    watch.close()
            with Asking(door) as asking:
                until(lambda: sockets(door) <= before, timeout_s=CUT_S)
            assert time.monotonic() - began < (5.0 if farewell == "vanishes" else 14.0)
            assert asking.failures == []
            counted.append(threads(door))
    assert counted[1] <= counted[0] + 4
    assert "rror" not in door.log


def test_a_body_that_nobody_reads_does_not_keep_its_connection_busy(open_door: OpenDoor) -> None:
    door = open_door()
    with socket.create_connection((door.host, door.port), timeout=20) as connection:
        body = b"x" * 200_000
        connection.sendall(
            b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + body + HEALTH
        )
        heard = b""
        while b'"status"' not in heard:
            piece = connection.recv(65536)
            assert piece, heard
            heard += piece
    assert heard.startswith(b"HTTP/1.1 404 ")
