"""One HTTP request as it comes in, piece by piece: how much of it is there, and whether it is too much.

It finds where a request ends and leaves what it means to gunicorn's parser, which reads it from here once it is whole:
no thread ever waits for a client that sends. What both might see differently ends the connection.
"""

from __future__ import annotations

import re

from .refusals import Refusal

MAX_LINE_BYTES = 8190
MAX_FIELDS = 100
MAX_HEAD_BYTES = 64 * 1024
# The parser looks for the end of a chunk's first line no further.
_MAX_CHUNK_LINE_BYTES = MAX_LINE_BYTES + 1
# It reads a chunked body so far ahead of whom it reads for.
_READ_AHEAD_BYTES = 1024

_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)")
_CODING = re.compile(rb"\r\ntransfer-encoding[ \t]*:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)")
_EXPECT = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue[ \t]*\r\n")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_BARE_LF = re.compile(rb"(?<!\r)\n")


URI_TOO_LONG = Refusal("414 URI Too Long", "uri_too_long", f"the request line is over {MAX_LINE_BYTES} bytes")
HEAD_TOO_LARGE = Refusal(
    "431 Request Header Fields Too Large",
    "headers_too_large",
    f"more than {MAX_FIELDS} headers, one over {MAX_LINE_BYTES} bytes, or all over {MAX_HEAD_BYTES}",
)
BODY_TOO_LARGE = Refusal("413 Content Too Large", "body_too_large", "the body is over the limit")


class Incoming:
    """A request of which more and more is there. `recv` reads it, as the parser would read its socket.

    Parameters: `limit_bytes`, the largest body; `begun`, bytes that came with the request before.
    """

    def __init__(self, *, limit_bytes: int, begun: bytes = b"") -> None:
        self._limit = limit_bytes
        self._bytes = bytearray()
        self._read = 0
        # Up to where it is understood.
        self._at = 0
        self._head_end = 0
        self._end: int | None = None
        self._chunked = False
        self._in_chunk = 0
        self._payload = 0
        self._in_trailers = False
        self.ready = False
        """Whether the parser can do its work: it is whole, or enough of it is there to refuse it."""
        self.whole = False
        """Whether nothing of it is missing."""
        self.refusal: Refusal | None = None
        self.continues = False
        """Whether the client waits to be told to send the body. Whoever tells it resets this."""
        if begun:
            self.feed(begun)

    @property
    def begun(self) -> bool:
        """Whether any of it is there."""
        return bool(self._bytes)

    @property
    def size(self) -> int:
        """How many bytes of it are held."""
        return len(self._bytes)

    @property
    def head(self) -> bytes:
        """Request line and headers, as far as they are there."""
        return bytes(self._bytes[: self._head_end or MAX_HEAD_BYTES])

    @property
    def line(self) -> bytes:
        """The beginning of it, enough to tell which request it is."""
        return bytes(self._bytes[:32])

    @property
    def in_body(self) -> bool:
        """Whether its head is there."""
        return self._head_end > 0

    def feed(self, data: bytes) -> None:
        """Take more bytes in."""
        self._bytes += data
        if not self._head_end:
            self._seek_head()
        if self._head_end and not self.ready:
            self._seek_end()

    def recv(self, size: int) -> bytes:
        """Return the next bytes, up to `size`; b"" when there are no more."""
        piece = bytes(self._bytes[self._read : self._read + size])
        self._read += len(piece)
        return piece

    def rest(self) -> bytes:
        """Return, and let go of, what was not read: the beginning of the next request."""
        rest = bytes(self._bytes[self._read :])
        self._bytes, self._read = bytearray(), 0
        return rest

    def _seek_head(self) -> None:
        held = self._bytes
        # One empty line before a request is skipped, as the parser does.
        start = 2 if held.startswith(b"\r\n") else 0
        end = held.find(b"\r\n\r\n", max(start, self._at - 3))
        line_end = held.find(b"\r\n", start, start + MAX_LINE_BYTES + 2)
        if line_end < 0 and len(held) - start > MAX_LINE_BYTES + 1:
            self.refusal = URI_TOO_LONG
        elif (end if end >= 0 else len(held)) > MAX_HEAD_BYTES:
            self.refusal = HEAD_TOO_LARGE
        elif end >= 0:
            self._head_end = self._at = end + 4
            self._measure(bytes(held[: end + 4]))
        elif _BARE_LF.search(held, max(0, self._at - 1)):
            self.ready = True  # never a line's end: the parser says so
        else:
            self._at = len(held)

    def _measure(self, head: bytes) -> None:
        """Find out from the head how the body ends. What is not plain is for the parser to refuse."""
        folded = head.lower()
        lengths = _LENGTH.findall(folded) if b"content-length" in folded else []
        codings = _CODING.findall(folded) if b"transfer-encoding" in folded else []
        if codings:
            self._chunked = not lengths and codings[-1].rpartition(b",")[2].strip() == b"chunked"
            self.ready = not self._chunked
        elif lengths:
            plain = len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) <= 15
            length = int(lengths[0]) if plain else 0
            # One that is too large is refused by its length: nobody waits for it.
            self.ready = not plain or length > self._limit
            self._end = self._head_end + length
        else:
            self._end = self._head_end
        self.continues = not self.ready and _EXPECT.search(folded) is not None and b" http/1.0\r\n" not in folded

    def _seek_end(self) -> None:
        if self._chunked:
            self._seek_last_chunk()
        elif self._end is not None and len(self._bytes) >= self._end:
            self.ready = self.whole = True
        if self.ready or len(self._bytes) > self._head_end:
            self.continues = False

    def _seek_last_chunk(self) -> None:
        held = self._bytes
        while True:
            step = min(self._in_chunk, len(held) - self._at)
            self._at += step
            self._in_chunk -= step
            if self._payload - max(0, self._in_chunk - 2) > self._limit + _READ_AHEAD_BYTES:
                self.ready = True  # the application says that it is too much
                return
            if len(held) - self._head_end > 2 * self._limit + MAX_HEAD_BYTES:
                self.refusal = BODY_TOO_LARGE  # mostly framing
                return
            if step and not self._in_chunk and held[self._at - 2 : self._at] != b"\r\n":
                self.ready = True
                return
            end = -1 if self._in_chunk else held.find(b"\r\n", self._at, self._at + _MAX_CHUNK_LINE_BYTES)
            if end < 0:
                # No size and no trailer is so long: the parser says so.
                self.ready = not self._in_chunk and len(held) - self._at >= _MAX_CHUNK_LINE_BYTES
                return
            line = bytes(held[self._at : end])
            self._at = end + 2
            if self._in_trailers:
                if not line:
                    self.ready = self.whole = True
                    return
                continue
            size = line.partition(b";")[0].rstrip(b" \t")
            if not _SIZE.fullmatch(size):
                self.ready = True
                return
            count = int(size, 16)
            self._in_trailers = count == 0
            self._payload += count
            self._in_chunk = count + 2 if count else 0
