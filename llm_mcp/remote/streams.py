"""Streams of workers that come by a door: checked, bounded like our own, written under the lease."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from llm_mcp import strictjson
from llm_mcp.errors import InvalidInput, LeaseLost
from llm_mcp.events import DELTA, PROGRESS, USAGE
from llm_mcp.runtime import Runtime
from llm_mcp.store import events as rows
from llm_mcp.store import remote

MAX_BATCH = 500
"""Events of one batch at most."""
_TEXTS = ("text", "thinking")
_MOST = 4096
_INT4_MAX = 2**31 - 1

Item = tuple[int, str, str]
"""Number, type, data as JSON text."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a batch: the number of the last event there is; whether the stream ended at its bounds."""

    last: int
    truncated: bool


@dataclass(slots=True)
class _Tally:
    last: int
    bytes: int
    truncated: bool = False


class RemoteStreams:
    """What one process has seen of them. Safe for threads."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._mutex = threading.Lock()
        self._tallies: OrderedDict[int, _Tally] = OrderedDict()

    def checked(self, items: Sequence[tuple[int, str, Any]]) -> list[Item]:
        """Return items as they are written. Raises InvalidInput naming the place, `events[3].seq`."""
        if not 1 <= len(items) <= MAX_BATCH:
            raise InvalidInput(f"must be 1 to {MAX_BATCH}", field="events")
        found: list[Item] = []
        last = 0
        for place, (seq, kind, data) in enumerate(items):
            if not last < seq <= _INT4_MAX:
                raise InvalidInput("must be over 0 and rise from event to event", field=f"events[{place}].seq")
            _check(kind, data, f"events[{place}]")
            found.append((seq, kind, strictjson.dumps_lossy(data)))
            last = seq
        return found

    def append(self, job_id: UUID, token: int, items: Sequence[Item]) -> Appended | None:
        """Write items of a lease's attempt, but for those that are there; None when the lease ended."""
        tally = self._tally(job_id, token)
        if tally is None:
            return None
        settings = self._runtime.settings
        with self._mutex:
            batch: list[Item] = []
            size, last, truncated = tally.bytes, tally.last, tally.truncated
            for seq, kind, data in items:
                if seq <= tally.last or truncated:
                    continue
                size += len(data.encode())
                last = seq
                if size > settings.max_stream_bytes or seq >= settings.max_stream_events:
                    truncated = True
                    batch.append((seq, DELTA, '{"text":"","truncated":true}'))
                else:
                    batch.append((seq, kind, data))
        if batch:
            try:
                rows.append(self._runtime.db, job_id, token, batch)
            except LeaseLost:
                return None
            with self._mutex:
                tally.last, tally.bytes, tally.truncated = max(last, tally.last), max(size, tally.bytes), truncated
            self._runtime.announce(job_id)
        return Appended(last, truncated)

    def forget(self, token: int) -> None:
        """The attempt is over."""
        with self._mutex:
            self._tallies.pop(token, None)

    def _tally(self, job_id: UUID, token: int) -> _Tally | None:
        """Return what is known of an attempt's stream: of one we have not met, what the table says."""
        with self._mutex:
            tally = self._tallies.get(token)
            if tally is not None:
                self._tallies.move_to_end(token)
                return tally
        size = remote.stream_size(self._runtime.db, job_id, token)
        if size is None:
            return None
        with self._mutex:
            tally = self._tallies.setdefault(token, _Tally(size.last, size.bytes))
            if len(self._tallies) > _MOST:
                self._tallies.popitem(last=False)
            return tally


def _check(kind: str, data: Any, field: str) -> None:
    if kind not in (DELTA, PROGRESS, USAGE):
        raise InvalidInput("must be delta, progress or usage", field=f"{field}.type")
    if not isinstance(data, dict):
        raise InvalidInput("must be an object", field=f"{field}.data", code="invalid_json")
    if kind == DELTA:
        given = [name for name in _TEXTS if name in data]
        for name in given:
            if not isinstance(data[name], str):
                raise InvalidInput("must be text", field=f"{field}.data.{name}", code="invalid_json")
        if "tool_calls" in data and not isinstance(data["tool_calls"], list):
            raise InvalidInput("must be an array", field=f"{field}.data.tool_calls", code="invalid_json")
        if not given and "tool_calls" not in data:
            raise InvalidInput("must have text, thinking or tool_calls", field=f"{field}.data")
    elif kind == PROGRESS:
        fraction = data.get("fraction")
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
            raise InvalidInput("must be a number from 0 to 1", field=f"{field}.data.fraction")
