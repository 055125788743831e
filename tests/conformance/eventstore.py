"""Streams of up to 2025-11-25 that can be taken up again: what was sent is kept, in memory, while the process lives."""

from __future__ import annotations

from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp_types import JSONRPCMessage


class Kept(EventStore):
    """Every event of every stream. An event's id is its number over all streams."""

    def __init__(self) -> None:
        self._events: list[tuple[StreamId, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        """Keep an event and return its id."""
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: EventId, send_callback: EventCallback) -> StreamId | None:
        """Send the stream's events after this one; return which stream that is, None when there is no such event."""
        if not last_event_id.isdecimal() or not 0 < int(last_event_id) <= len(self._events):
            return None
        first = int(last_event_id)
        stream = self._events[first - 1][0]
        for number, (of, message) in enumerate(self._events[first:], first + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream
