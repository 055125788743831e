"""A job's life as server-sent events: numbered, kept alive, and over when the job is or when its watcher left."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import orjson
from anyio.streams.memory import MemoryObjectSendStream
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llm_mcp.errors import LlmMcpError
from llm_mcp.rpc import llm_pb2 as pb

from .core import Stopping
from .replies import error_body

KEEP_ALIVE_S = 15.0
_RETRY_MS, _BYE_RETRY_MS = 2000, 500
_KEEP_ALIVE = b": keep-alive\n\n"


class Telling(Response):
    """The response that tells events. Parameters: `events`, of one job; closed at the end, whatever it is."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[pb.JobEvent]) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell until the job is finished, its watcher left, or the bridge is about to stop."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await self._events.aclose()
            await send({"type": "http.response.body", "body": b""})
            return

        async def until_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(until_gone)
            await self._tell(send)
            group.cancel_scope.cancel()

    async def _tell(self, send: Send) -> None:
        into, out = anyio.create_memory_object_stream[bytes](0)
        async with anyio.create_task_group() as group, out:
            group.start_soon(self._write, into)
            while True:
                block = _KEEP_ALIVE
                try:
                    with anyio.move_on_after(KEEP_ALIVE_S):
                        block = await out.receive()
                except anyio.EndOfStream:
                    break
                await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _write(self, into: MemoryObjectSendStream[bytes]) -> None:
        """Put each event, as a block of the stream, into `into`, and close it."""
        retry = b"retry: %d\n" % _RETRY_MS
        with into:
            try:
                async with aclosing(self._events) as events:
                    async for event in events:
                        await into.send(retry + _block(event.type, event.data_json.encode(), event.id))
                        retry = b""
            except Stopping:
                await into.send(b"retry: %d\n" % _BYE_RETRY_MS + _block("bye", b"{}"))
            except LlmMcpError as error:
                await into.send(_block("error", orjson.dumps(error_body(error))))


def _block(event: str, data: bytes, id: str = "") -> bytes:  # noqa: A002 - the field's own name
    place = f"id: {id}\n".encode() if id else b""
    # JSON has line breaks between its texts only, where they mean nothing.
    data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"%sevent: %s\ndata: %s\n\n" % (place, event.encode(), data)
