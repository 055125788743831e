"""What slow clients cost everybody else: `python -m tests.bench.slow`.

One web process over an embedded Postgres; a fresh connection asks `/health` all the time while crowds of slow clients
sit there. Prints figures and asserts none.
"""

from __future__ import annotations

import shutil
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from llm_mcp import config
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.runtime import Runtime
from llm_mcp.store.migrate import migrate
from tests.conftest import new_scratch
from tests.integration.web.door import Door
from tests.integration.web.played import Player
from tests.integration.web.sloths import SORTS, Sloths

_PATIENCE_S = 30.0
_ASK = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def main() -> None:
    """Run every crowd and print a line for each."""
    scratch = new_scratch("slow")
    try:
        with EmbeddedPostgres(scratch / "data") as server:
            migrate(server.dsn)
            for sort in SORTS:
                with _door(server.dsn, scratch, max_streams=5) as door:
                    _crowd(door, sort, 60)
            for sort in ("a head that drips", "a body that drips"):
                with _door(server.dsn, scratch) as door:
                    _crowd(door, sort, 1100)
            with _door(server.dsn, scratch) as door:
                _never_reading(door, Runtime(config.load(db_dsn=server.dsn, data_dir=scratch)), 200)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _door(dsn: str, scratch: Path, **settings: int) -> Iterator[Door]:
    door = Door(config.load(db_dsn=dsn, data_dir=scratch, **settings), log=scratch / "web.log")
    try:
        yield door
    finally:
        door.close()


def _crowd(door: Door, sort: str, count: int) -> None:
    before = _figures(door)
    with Sloths(door.host, door.port, sort, count) as sloths:
        asked = _ask_until(door, lambda: not sloths.left)
        cut = sorted(sloths.cut_s)
        rest = sloths.left
    gone = f"cut {statistics.median(cut):.1f} s, last {cut[-1]:.1f} s" if cut else "none cut"
    print(f"{count} × {sort}: {_shown(asked)}; {gone}, {rest} left; {before} -> {_figures(door)}", flush=True)


def _never_reading(door: Door, runtime: Runtime, count: int) -> None:
    kind = "bench.slow"
    job_id = door.submit(kind)
    attempt = Player(runtime).claim(job_id, kind)
    before = _figures(door)
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(door.watch(job_id, receive_bytes=4096))
        for _ in range(30):
            attempt.say(*("x" * 100_000 for _ in range(1)))
        there = _figures(door)
        began = time.monotonic()
        asked = _ask_until(door, lambda: _sockets(door) < 20)
        took_s = time.monotonic() - began
    print(
        f"{count} × never reads a stream: {_shown(asked)}; gone after {took_s:.1f} s; {before} -> {there}"
        f" -> {_figures(door)}",
        flush=True,
    )
    runtime.close()


def _ask_until(door: Door, done: Callable[[], bool]) -> list[float]:
    """Ask `/health` until it is done or patience ends, and return how long each answer took, s."""
    took: list[float] = []
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and not done():
        began = time.monotonic()
        try:
            with socket.create_connection((door.host, door.port), timeout=20) as connection:
                connection.sendall(_ASK)
                ok = connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        except OSError:
            ok = False
        took.append(time.monotonic() - began if ok else float("inf"))
        time.sleep(0.05)
    return took


def _shown(took: list[float]) -> str:
    if not took:
        return "never asked"
    ordered = sorted(took)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"/health p50 {ordered[len(ordered) // 2] * 1e3:.1f} p99 {p99 * 1e3:.0f} max {ordered[-1] * 1e3:.0f} ms"


def _sockets(door: Door) -> int:
    return sum(_links(f"/proc/{pid}/fd").count("socket:") for pid in door.pids())


def _links(folder: str) -> str:
    found = ""
    for entry in Path(folder).iterdir():
        try:
            found += str(entry.readlink())
        except FileNotFoundError:
            continue
    return found


def _figures(door: Door) -> str:
    [pid] = door.pids()
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    return (
        f"{int(status['VmRSS'].split()[0]) // 1024} MB, {status['Threads'].strip()} threads, {_sockets(door)} sockets"
    )


if __name__ == "__main__":
    main()
