"""The client of the proxy bench, as a program of its own: as many connections as asked for, in one thread.

    python -m tests.bench.proxy_load whole|streams

Its request is one JSON line on stdin (see `Asked`), its answer one on stdout (see `Found`). Every answer is read to
its end and every word of it looked at.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

_WORD = re.compile(rb"w(\d+)@(\d+);")
_STATUS = re.compile(rb"HTTP/1\.1 (\d+)")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_PATIENCE_S = 180.0
_TOLD = 3


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be done.

    Parameters: `clients`, how many ask at once, each again and again: for `seconds` s, or `each` times; `ramp_s`,
    over how long the first of them are spread, s; `words`, how many an answer of `model` has; `key`, the bearer token.
    """

    port: int
    model: str
    words: int
    clients: int
    key: str = "bench"
    seconds: float = 0.0
    each: int = 0
    ramp_s: float = 0.0


@dataclass
class Found:
    """What was found: times of each answer, ms; words that were read, were missing, came again or out of turn."""

    ms: list[float] = field(default_factory=list)
    """From just before the request to the whole answer."""
    first_ms: list[float] = field(default_factory=list)
    """From just before the request to the first word."""
    late_ms: list[float] = field(default_factory=list)
    """From the provider's saying a word to its being read."""
    words: int = 0
    lost: int = 0
    repeated: int = 0
    failed: int = 0
    faults: list[str] = field(default_factory=list)
    """What the first failures were."""
    seconds: float = 0.0

    def fault(self, what: str) -> None:
        """Count a failure."""
        self.failed += 1
        if len(self.faults) < _TOLD:
            self.faults.append(what)


class Line(asyncio.Protocol):
    """One connection, and the answer that is being read from it."""

    def __init__(self, streams: bool) -> None:
        self._streams = streams
        self._transport: asyncio.Transport | None = None
        self._begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where requests go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer that was being read."""
        self._transport = None
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"hung up: {exc or 'in the middle'}"))

    @property
    def open(self) -> bool:
        """Whether it can be used."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send a request; what is returned is done when its answer was read."""
        assert self._transport is not None
        self._begin()
        self._transport.write(request)
        return self.done

    def _begin(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.body = b""
        self.words: list[tuple[int, int, int]] = []
        """Of each word: number, when it was said, when it was read (ns)."""
        self._raw = b""
        self._left: int | None = None
        self._chunked = False
        self._closes = False

    def data_received(self, data: bytes) -> None:
        """Read what there is."""
        now = time.monotonic_ns()
        self._raw += data
        if not self.status and not self._head():
            return
        body = self._unchunked() if self._chunked else self._plain()
        self.body += body
        self._look(now)
        if self._left == 0 and not self.done.done():
            if self._closes:
                self.close()
            self.done.set_result(None)

    def _head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            return False
        head, self._raw = self._raw[: end + 2], self._raw[end + 4 :]
        status = _STATUS.match(head)
        self.status = int(status[1]) if status else -1
        self._chunked = _CHUNKED.search(head) is not None
        self._closes = _CLOSES.search(head) is not None
        length = _LENGTH.search(head)
        self._left = int(length[1]) if length and not self._chunked else None
        return True

    def _plain(self) -> bytes:
        body, self._raw = self._raw, b""
        if self._left is not None:
            self._left -= len(body)
        return body

    def _unchunked(self) -> bytes:
        body = b""
        while True:
            size_end = self._raw.find(b"\r\n")
            if size_end < 0:
                return body
            size = int(self._raw[:size_end].split(b";")[0], 16)
            end = size_end + 2 + size + 2
            if len(self._raw) < end:
                return body
            body += self._raw[size_end + 2 : end - 2]
            self._raw = self._raw[end:]
            if size == 0:
                self._left = 0
                return body

    def _look(self, now: int) -> None:
        """Take the words out of the lines that are whole."""
        end = self.body.rfind(b"\n") + 1 if self._streams else len(self.body) if self._left == 0 else 0
        for found in _WORD.finditer(self.body, 0, end):
            self.words.append((int(found[1]), int(found[2]), now))
        if self._streams and self.status == 200:  # of a refusal the words are kept
            self.body = self.body[end:]


class Crowd:
    """All clients of one measurement."""

    def __init__(self, asked: Asked, *, streams: bool) -> None:
        self._asked = asked
        self._streams = streams
        self._found = Found()
        message = {"role": "user", "content": "Say something, and say it slowly."}
        body = json.dumps({"model": asked.model, "messages": [message], "stream": streams}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{asked.port}\r\n"
            f"Authorization: Bearer {asked.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body

    async def run(self) -> Found:
        """Do it."""
        began = time.monotonic()
        until = began + self._asked.seconds if self._asked.seconds else None
        await asyncio.gather(*(self._client(number, until) for number in range(self._asked.clients)))
        self._found.seconds = time.monotonic() - began
        return self._found

    async def _client(self, number: int, until: float | None) -> None:
        await asyncio.sleep(self._asked.ramp_s * number / self._asked.clients)
        line: Line | None = None
        asked = 0
        while (time.monotonic() < until) if until else (asked < self._asked.each):
            asked += 1
            try:
                if line is None or not line.open:
                    line = await self._connect()
                began = time.monotonic_ns()
                await asyncio.wait_for(line.ask(self._request), _PATIENCE_S)
            except (OSError, TimeoutError) as error:
                self._found.fault(f"{type(error).__name__}: {error}")
                self._count(line.words if line else [])
                if line is not None:
                    line.close()
                line = None
                continue
            self._keep(line, began)
        if line is not None:
            line.close()

    async def _connect(self) -> Line:
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(lambda: Line(self._streams), "127.0.0.1", self._asked.port)
        return line

    def _keep(self, line: Line, began: int) -> None:
        """Keep what an answer says."""
        found = self._found
        if line.status != 200:
            found.fault(f"{line.status}: {line.body[:200].decode(errors='replace')}")
            return
        self._count(line.words)
        found.ms.append((time.monotonic_ns() - began) / 1e6)
        if line.words:
            found.first_ms.append((line.words[0][2] - began) / 1e6)
            found.late_ms.extend((read - said) / 1e6 for _, said, read in line.words)

    def _count(self, words: list[tuple[int, int, int]]) -> None:
        numbers = [number for number, _, _ in words]
        self._found.words += len(numbers)
        self._found.lost += self._asked.words - len(set(numbers))
        self._found.repeated += len(numbers) - len(set(numbers)) + (sorted(numbers) != numbers)


def main() -> None:
    """Do what the request line says and tell what was found."""
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    asked.pop("options", None)
    gc.disable()  # what is measured is not this program
    found = asyncio.run(Crowd(Asked(**asked), streams=sys.argv[1] == "streams").run())
    found.late_ms = sorted(found.late_ms)[:: max(1, len(found.late_ms) // 2000)]
    print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main()
