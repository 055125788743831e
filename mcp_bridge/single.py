"""An answer of one message is sent as such, in JSON: not as a stream of one event.

The SDK opens a stream for every request of the protocols of 2025, where a server may choose (2025-11-25, "Sending
Messages to the Server"). A client that has its answer hangs up on a stream: each call would cost it a connection.
"""

from __future__ import annotations

from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_STREAM, _JSON = b"text/event-stream", b"application/json"
# As the SDK writes an event that cannot be taken up again.
_BEFORE, _AFTER = b"event: message\r\ndata: ", b"\r\n\r\n"


class Single:
    """An application that answers so. Parameters: `app`; `path`, where it opens streams."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == self._path:
            held = _Held(send)
            await self._app(scope, receive, held)
            await held.end()
        else:
            await self._app(scope, receive, send)


class _Held:
    """What is sent of one answer. The head of a stream waits for what comes first: an event, or the ping after 15 s."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: Message | None = None
        self._said = False

    async def __call__(self, message: Message) -> None:
        if self._said:  # the end of a stream that was none
            return
        if message["type"] == "http.response.start":
            self._head = message if _is_stream(message) else None  # an error takes the place of what was not sent
            if self._head is not None:
                return
        if self._head is not None:
            head, self._head = self._head, None
            if text := _answer(message.get("body", b"")):
                self._said = True
                head, message = _as_json(head, text), {"type": "http.response.body", "body": text}
            await self._send(head)
        await self._send(message)

    async def end(self) -> None:
        """Nothing more comes: a stream that was cut before its first event is one all the same."""
        if self._head is not None:
            await self._send(self._head)


def _is_stream(head: Message) -> bool:
    return any(name == b"content-type" and value.startswith(_STREAM) for name, value in head["headers"])


def _answer(chunk: bytes) -> bytes | None:
    """Return the message of a chunk that is one event with an answer, after which nothing comes; else None."""
    if not (chunk.startswith(_BEFORE) and chunk.endswith(_AFTER)):
        return None
    text = chunk[len(_BEFORE) : -len(_AFTER)]
    try:
        said: dict[str, Any] = orjson.loads(text)
    except orjson.JSONDecodeError:  # it has several lines, or half a character
        return None
    return text if "method" not in said else None


def _as_json(head: Message, text: bytes) -> Message:
    kept = [(name, value) for name, value in head["headers"] if name not in (b"content-type", b"content-length")]
    return {**head, "headers": [*kept, (b"content-type", _JSON), (b"content-length", str(len(text)).encode())]}
