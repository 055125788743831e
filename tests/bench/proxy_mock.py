"""A provider that costs nearly nothing: OpenAI's dialect with prebuilt answers, as a program of its own.

The model's name says what is wanted: `mock-64x20` says 64 words, one each 20 ms, the first at once; `mock-8x0` says
eight in one piece. A word is `w<number>@<ns of the monotonic clock>;`, so that whoever reads it knows which it is and
how old. A request that does not want a stream gets all words at once. Its one answer on stdout is its port.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
import time
from collections.abc import Callable

_MODEL = re.compile(rb'"model"\s*:\s*"(?:openai/)?mock-(\d+)x(\d+)"')
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_CHUNK = (
    b'data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1,"model":"mock",'
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":"%s"},"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1,"model":"mock",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1,"model":"mock","choices":[],'
    b'"usage":{"prompt_tokens":8,"completion_tokens":%d,"total_tokens":%d}}\n\ndata: [DONE]\n\n'
)
_WHOLE = (
    b'{"id":"chatcmpl-mock","object":"chat.completion","created":1,"model":"mock","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"%s"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":8,"completion_tokens":%d,"total_tokens":%d}}'
)
_UNKNOWN = b'{"error":{"message":"no such model","type":"invalid_request_error"}}'
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_JSON_HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
_END = b"0\r\n\r\n"


def word(number: int) -> bytes:
    """Return the word of this number, of now."""
    return b"w%d@%d;" % (number, time.monotonic_ns())


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _json(status: bytes, body: bytes) -> bytes:
    return _JSON_HEAD % (status, len(body), body)


class Provider(asyncio.Protocol):
    """One connection; requests on it are answered one after another."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heard = b""
        self._timer: asyncio.TimerHandle | None = None
        self._write: Callable[[bytes], None] = lambda _: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._write = transport.write

    def connection_lost(self, exc: Exception | None) -> None:
        """Say no more."""
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is whole."""
        self._heard += data
        end = self._heard.find(_HEAD_END)
        if end < 0:
            return
        length = _LENGTH.search(self._heard, 0, end + 2)
        whole = end + len(_HEAD_END) + (int(length[1]) if length else 0)
        if len(self._heard) >= whole:
            asked, self._heard = self._heard[:whole], self._heard[whole:]
            self._answer(asked, end + len(_HEAD_END))

    def _answer(self, asked: bytes, body: int) -> None:
        if not asked.startswith(b"POST "):
            self._write(_json(b"200 OK", b'{"object":"list","data":[],"models":[],"version":"0.0.0"}'))
            return
        wanted = _MODEL.search(asked, body)
        if wanted is None:
            self._write(_json(b"404 Not Found", _UNKNOWN))
            return
        words, gap_ms = int(wanted[1]), int(wanted[2])
        if _STREAM.search(asked, body) is None:
            said = b"".join(map(word, range(words)))
            self._write(_json(b"200 OK", _WHOLE % (said, words, words + 8)))
        elif gap_ms == 0:
            said = b"".join(_CHUNK % word(number) for number in range(words))
            self._write(_STREAM_HEAD + _framed(said + _LAST % (words, words + 8)) + _END)
        else:
            self._write(_STREAM_HEAD)
            self._say(0, words, gap_ms / 1000, self._loop.time())

    def _say(self, number: int, words: int, gap_s: float, due: float) -> None:
        data = _framed(_CHUNK % word(number))
        if number + 1 == words:
            self._write(data + _framed(_LAST % (words, words + 8)) + _END)
            return
        self._write(data)
        self._timer = self._loop.call_at(due + gap_s, self._say, number + 1, words, gap_s, due + gap_s)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0, backlog=2048)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    gc.freeze()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until whoever started us is gone


if __name__ == "__main__":
    sys.stdin.readline()  # the request, which says nothing
    asyncio.run(_serve())
