"""A WebSocket as a strict client sees it: raw frames on a socket of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from tests.integration.web.frames import Frame

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Refused(Exception):
    """The handshake was answered with another status than 101: `status` and the JSON `body`."""

    def __init__(self, status: int, headers: dict[str, str], body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.headers = headers
        self.body = body


class Socket:
    """One open WebSocket of a job; `code` is the server's closing code, once it has closed."""

    def __init__(
        self,
        address: tuple[str, int],
        path: str,
        *,
        receive_bytes: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.code: int | None = None
        self.raw = socket.socket()
        if receive_bytes is not None:
            self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.raw.settimeout(30)
        self._rest = b""
        try:
            self.raw.connect(address)
            self._shake_hands(path, headers or {})
        except BaseException:
            self.raw.close()
            raise

    def _shake_hands(self, path: str, headers: Mapping[str, str]) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        fields = {
            "Host": "localhost",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Extensions": "permessage-deflate",
            **headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
        self.raw.sendall(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        head = self._until(b"\r\n\r\n").decode().split("\r\n")
        status = int(head[0].split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        assert self.headers["x-request-id"] == fields.get("X-Request-ID", self.headers["x-request-id"])
        if status != 101:
            body = self._take(int(self.headers["content-length"]))
            raise Refused(status, self.headers, json.loads(body))
        accepted = base64.b64encode(hashlib.sha1(key.encode() + _MAGIC).digest()).decode()
        assert self.headers["sec-websocket-accept"] == accepted
        assert "sec-websocket-extensions" not in self.headers

    def frames(self) -> Iterator[Frame]:
        """Yield the frames told, up to the server's close, which is answered; pings are answered on the way."""
        while True:
            opcode, payload = self.frame()
            if opcode == TEXT:
                told = json.loads(payload)
                assert set(told) - {"retry"} == {"event", "id", "data"}
                yield Frame(told["event"], told["id"] or "", told["data"], told.get("retry"))
            elif opcode == PING:
                self.send(PONG, payload)
            elif opcode == CLOSE:
                self.code = struct.unpack("!H", payload[:2])[0]
                self.send(CLOSE, payload[:2])
                return

    def frame(self) -> tuple[int, bytes]:
        """Return the opcode and payload of the next frame. Raises EOFError at the connection's end."""
        first, second = self._take(2)
        assert first & 0x80, "in pieces"
        assert not first & 0x70, "compressed"
        assert not second & 0x80, "masked"
        size = second
        if size == 126:
            size = struct.unpack("!H", self._take(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", self._take(8))[0]
        return first & 0x0F, self._take(size)

    def send(self, opcode: int, payload: bytes, *, final: bool = True) -> None:
        """Send a frame, masked as a client's has to be."""
        mask = os.urandom(4)
        if len(payload) < 126:
            size = bytes([0x80 | len(payload)])
        else:
            size = bytes([0x80 | 126]) + struct.pack("!H", len(payload))
        masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
        self.raw.sendall(bytes([(0x80 if final else 0) | opcode]) + size + mask + masked)

    def say(self, message: Any) -> None:
        """Send a message: any JSON value, or text as it is."""
        self.send(TEXT, (message if isinstance(message, str) else json.dumps(message)).encode())

    def close(self) -> None:
        """Hang up."""
        self.raw.close()

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _until(self, end: bytes) -> bytes:
        while end not in self._rest:
            self._more()
        found, _, self._rest = self._rest.partition(end)
        return found

    def _take(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def _more(self) -> None:
        piece = self.raw.recv(65536)
        if not piece:
            raise EOFError
        self._rest += piece
