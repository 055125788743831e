"""The web process told to stop or to reload, with a hundred streams open: nobody loses a word, nobody is refused."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from llm_mcp.config import Settings
from llm_mcp.runtime import Runtime
from llm_mcp.worker import Worker
from tests.integration.web import paced
from tests.integration.web.door import Door, Watch, alive
from tests.integration.web.frames import Frame, text
from tests.waiting import until

OpenDoor = Callable[..., Door]

STREAMS = 100
BODY = b'{"kind": "test.unserved"}'


@pytest.fixture
def open_door(settings: Settings, tmp_path: Path) -> Iterator[OpenDoor]:
    """Start web processes that know the kind of `paced`; each is stopped at the end."""
    opened: list[Door] = []
    chosen = settings.model_copy(update={"modules": paced.__name__})

    def start(**options: object) -> Door:
        opened.append(Door(chosen, log=tmp_path / f"web{len(opened)}.log", **options))  # type: ignore[arg-type] # passed on as they are
        return opened[-1]

    yield start
    for door in opened:
        door.close()


@pytest.fixture
def worker(runtime: Runtime) -> Iterator[Worker]:
    """A worker in this process, so that the test says when it goes on; a machine that is slow costs it no lease."""
    runtime.settings = runtime.settings.model_copy(update={"lease_s": 120.0})
    made = Worker(runtime, threads=2)
    made.start()
    yield made
    made.drain(0.0)


class Asking:
    """Asks `/health` all the time, each time anew, and keeps what went wrong and how long the longest took, s."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.asked = 0
        self.longest_s = 0.0
        self.failures: list[str] = []

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.02):
            began = time.monotonic()
            try:
                status, _ = self._door.call("GET", "/health")
                if status != 200:
                    self.failures.append(str(status))
            except (OSError, ValueError) as error:
                self.failures.append(repr(error))
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.asked += 1


def all_told(watches: list[Watch]) -> list[list[Frame]]:
    """Return what every stream says until it ends, read at once."""
    with ThreadPoolExecutor(STREAMS) as pool:
        return list(pool.map(Watch.rest, watches))


def resume(door: Door, job_id: str, told: list[list[Frame]], stack: ExitStack) -> list[Watch]:
    """Open every stream again where it ended."""
    lasts = [[frame.id for frame in frames if frame.id][-1] for frames in told]
    return [stack.enter_context(door.watch(job_id, after=last)) for last in lasts]


def speak(words: int, watches: list[Watch], told: list[list[Frame]]) -> None:
    """Have the job say so many words, and every stream hear them."""
    for _ in range(words):
        paced.permits.release()
        for watch, frames in zip(watches, told, strict=True):
            frames.extend(watch.until("delta"))


def is_whole(told: list[Frame], words: int) -> bool:
    """Say whether a stream, with its resumptions, told every word of its job once and in order."""
    ids = [frame.id for frame in told if frame.id]
    return (
        ids == [f"1:{n}" for n in range(1, words + 1)]
        and text(told) == "".join(f"word{n} " for n in range(words))
        and told[-1] == Frame("end", "", {"status": "done"})
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stop_ends_a_hundred_streams_well_and_the_next_process_goes_on(
    open_door: OpenDoor, worker: Worker, processes: int
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as owned, ExitStack() as stack:
        door = open_door(fd=owned.fileno(), processes=processes)
        job_id = door.submit(paced.KIND, {"count": 6})
        watches = [stack.enter_context(door.watch(job_id)) for _ in range(STREAMS)]
        told: list[list[Frame]] = [[] for _ in watches]
        speak(3, watches, told)
        took_s = door.terminate()
        assert door.process.returncode == 0
        ended = all_told(watches)
        assert [frames[-1] for frames in ended] == [Frame("bye", "", {}, 500)] * STREAMS
        assert {len(frames) for frames in ended} == {1}
        assert took_s < 6.0
        paced.permits.release()  # said while nobody is there to tell
        door = open_door(fd=owned.fileno(), processes=processes)
        watches = resume(door, job_id, told, stack)
        paced.permits.release(2)
        for frames, rest in zip(told, all_told(watches), strict=True):
            frames.extend(rest)
        assert all(is_whole(frames, 6) for frames in told)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_reload_ends_a_hundred_streams_well_and_refuses_nobody(
    open_door: OpenDoor, worker: Worker, processes: int
) -> None:
    door = open_door(processes=processes)
    old = until(lambda: door.pids() if len(door.pids()) == processes else [])
    with ExitStack() as stack:
        job_id = door.submit(paced.KIND, {"count": 6})
        watches = [stack.enter_context(door.watch(job_id)) for _ in range(STREAMS)]
        told: list[list[Frame]] = [[] for _ in watches]
        speak(3, watches, told)
        half = stack.enter_context(socket.create_connection((door.host, door.port), timeout=20))
        half.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY[:9])
        kept = stack.enter_context(socket.create_connection((door.host, door.port), timeout=20))
        asking = stack.enter_context(Asking(door))
        until(lambda: asking.asked > 5)
        os.kill(door.process.pid, signal.SIGHUP)
        ended = [watches[0].rest()]  # so it has begun to drain
        half.sendall(BODY[9:])
        assert half.recv(65536).startswith(b"HTTP/1.1 202 ")
        ended += all_told(watches[1:])
        assert [frames[-1] for frames in ended] == [Frame("bye", "", {}, 500)] * STREAMS
        watches = resume(door, job_id, told, stack)
        speak(2, watches, told)
        until(lambda: not any(alive(pid) for pid in old), timeout_s=20)
        assert kept.recv(1) == b""
        paced.permits.release()
        for frames, rest in zip(told, all_told(watches), strict=True):
            frames.extend(rest)
        assert all(is_whole(frames, 6) for frames in told)
        until(lambda: len(door.pids()) == processes)  # who is dead is a child until the master looked
        assert asking.asked > 20
    assert asking.failures == []
    assert asking.longest_s < 3.0
    assert door.process.poll() is None


def test_a_reload_while_idle_and_a_stop_right_after(open_door: OpenDoor) -> None:
    door = open_door()
    [old] = door.pids()
    os.kill(door.process.pid, signal.SIGHUP)
    until(lambda: door.pids() and old not in door.pids(), timeout_s=20)
    assert door.call("GET", "/health")[0] == 200
    os.kill(door.process.pid, signal.SIGHUP)
    assert door.terminate() < 12.0
    assert door.process.returncode == 0
