"""Reading requests within bounds of time and size."""

from __future__ import annotations

import io
import socket
import time
from email.message import Message
from typing import Any

from llm_mcp.ollama_words.wire import Refusal

MAX_BODY_BYTES = 16 * 2**20
_BODY_S = 60.0
_TOO_LARGE = f"request body too large: the limit is {MAX_BODY_BYTES} bytes"


class BodyRefused(Refusal):
    """A body that was not read to its end: the connection is of no use after the answer."""

    def __init__(self, text: str) -> None:
        super().__init__(400, text)


class Inlet(io.RawIOBase):
    """Reads a socket until a moment that the reader sets; after it, TimeoutError. Owned by the connection's thread."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._until = 0.0

    def within(self, seconds: float) -> None:
        """Let reading take until `seconds` from now, s."""
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has come, at least a byte; 0 at the end."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._source.settimeout(left)
        return self._source.recv_into(buffer)


def has_body(headers: Message) -> bool:
    """Return whether a request says that a body follows."""
    return headers.get("Content-Length", "0").strip("0") != "" or "Transfer-Encoding" in headers


def body(inlet: Inlet, source: io.BufferedIOBase, headers: Message) -> bytes:
    """Return the request's body, of a said length or in chunks.

    Raises BodyRefused over MAX_BODY_BYTES and for a framing that cannot be read, OSError when it does not come.
    """
    inlet.within(_BODY_S)
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        return _chunked(source)
    length = headers.get("Content-Length", "0").strip()
    if not length.isascii() or not length.isdigit():
        raise BodyRefused("invalid Content-Length")
    if len(length) > 18 or int(length) > MAX_BODY_BYTES:
        raise BodyRefused(_TOO_LARGE)
    return _exactly(source, int(length))


def _chunked(source: io.BufferedIOBase) -> bytes:
    whole = bytearray()
    while True:
        size = source.readline(1024).partition(b";")[0].strip()
        if not size or len(size) > 8 or size.strip(b"0123456789abcdefABCDEF"):
            raise BodyRefused("invalid chunk")
        length = int(size, 16)
        if len(whole) + length > MAX_BODY_BYTES:
            raise BodyRefused(_TOO_LARGE)
        if not length:
            break
        whole += _exactly(source, length)
        if source.readline(2).strip():
            raise BodyRefused("invalid chunk")
    trailers = 0
    while source.readline(1024).strip():
        trailers += 1
        if trailers > 100:
            raise BodyRefused("too many trailers")
    return bytes(whole)


def _exactly(source: io.BufferedIOBase, length: int) -> bytes:
    data = source.read(length)
    if len(data) < length:
        raise ConnectionAbortedError
    return data
