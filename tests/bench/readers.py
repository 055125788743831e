"""The clients of `tests.bench streams`, in a process of their own: one loop that reads every stream and asks between.

Commands come as lines of JSON on standard input, each is answered by one line.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import sys
import time
from typing import Any

_PIECE = re.compile(rb'id: \d+:(\d+)\nevent: delta\ndata: \{"text":"([^"]*)"\}\n')
_POST = json.dumps({"kind": "bench.posted"}).encode()
_ASKED = {
    "POST /v1/jobs": b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
    % (len(_POST), _POST),
    "GET /health": b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
}
_OPENING = 64
_PAUSE_S = 0.02


class Stream(asyncio.Protocol):
    """One open stream. A piece's text is `<number>@<nanoseconds> ` again and again."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._rest = b""
        self._seq: int | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.events = self.tokens = self.gaps = self.next = 0
        self.late_ms: list[float] = []
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        transport.write(f"GET /v1/jobs/{self._job_id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if not self.opened.done() and b"event: status" in (self._rest + data):
            self.opened.set_result(None)
        self._rest += data
        now, end = time.monotonic_ns(), 0
        for found in _PIECE.finditer(self._rest):
            end = found.end()
            seq = int(found[1])
            self.gaps += self._seq is not None and seq != self._seq + 1
            self._seq = seq
            self.events += 1
            for token in found[2].split():
                number, _, said = token.partition(b"@")
                self.gaps += int(number) != self.next
                self.next = int(number) + 1
                self.tokens += 1
                self.late_ms.append((now - int(said)) / 1e6)
        self._rest = self._rest[end:]

    def connection_lost(self, _: Exception | None) -> None:
        self.lost = True
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("closed before it began"))


class Readers:
    """All streams, and what is asked for between."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._streams: list[Stream] = []

    async def open(self, job_ids: list[str]) -> dict[str, Any]:
        """Open a stream of each job; answer how long each took to its first event, ms."""
        gate = asyncio.Semaphore(_OPENING)

        async def one(job_id: str) -> float:
            async with gate:
                began = time.perf_counter()
                _, stream = await asyncio.get_running_loop().create_connection(lambda: Stream(job_id), *self._address)
                await asyncio.wait_for(stream.opened, 30)
                self._streams.append(stream)
                return (time.perf_counter() - began) * 1000

        return spread(await asyncio.gather(*(one(job_id) for job_id in job_ids)))

    async def ask(self, seconds: float) -> dict[str, Any]:
        """Ask for each thing in turn, on fresh connections, for so long; answer how long they took, ms."""
        took: dict[str, list[float]] = {name: [] for name in _ASKED}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, request in _ASKED.items():
                began = time.perf_counter()
                reader, writer = await asyncio.open_connection(*self._address)
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                took[name].append((time.perf_counter() - began) * 1000)
                assert head.startswith((b"HTTP/1.1 202", b"HTTP/1.1 200")), head
                writer.close()
                await asyncio.sleep(_PAUSE_S)
        return {name: spread(times) for name, times in took.items()}

    async def take(self) -> dict[str, Any]:
        """Answer what was read since the last time: events, tokens, gaps, streams lost, and how late they were, ms."""
        late: list[float] = []
        counts = {"events": 0, "tokens": 0, "gaps": 0, "lost": 0}
        for stream in self._streams:
            late += stream.late_ms
            for name in counts:
                counts[name] += int(getattr(stream, name))
            stream.late_ms, stream.events, stream.tokens = [], 0, 0
        return {**counts, **spread(late)}


def spread(values: list[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the largest, rounded."""
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1), "max": round(max(values), 1)}


async def _main(host: str, port: int) -> None:
    readers, loop = Readers(host, port), asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        name, argument = json.loads(line)
        verb = getattr(readers, name)
        print(json.dumps(await (verb(argument) if argument is not None else verb())), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
