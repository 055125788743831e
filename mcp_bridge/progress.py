"""What a waiting client is told: at once, then at most five times a second, and at least every ten seconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import orjson

from llm_mcp.rpc import llm_pb2 as pb

from . import untrusted

LEAST_S = 0.2
MOST_S = 10.0
_LONGEST = 200

Report = Callable[[float, float | None, str | None], Awaitable[None]]


class Progress:
    """The words for one job, and the rhythm they are told in.

    Parameters: `report`, which tells the client a number, a total and a message; `job_id`.
    """

    def __init__(self, report: Report, job_id: str) -> None:
        self._report = report
        self._job_id = job_id
        self._words = "asked for"
        self._said = ""
        self._changed = anyio.Event()

    def note(self, event: pb.JobEvent) -> None:
        """Take an event of the job into account."""
        self._words = self._after(event)
        self._changed.set()

    async def tell(self) -> None:
        """Tell until cancelled."""
        began_at = anyio.current_time()
        last = 0.0
        while True:
            self._changed = anyio.Event()
            # Seconds, which only grow; a clock that stands still must not repeat a number.
            last = max(round(anyio.current_time() - began_at, 2), last + 0.01)
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # who left is cancelled, in a moment
                await self._report(last, None, self.message())
            await anyio.sleep(LEAST_S)
            with anyio.move_on_after(MOST_S - LEAST_S):
                await self._changed.wait()

    def message(self) -> str:
        """Return what is told now, a line of at most 200 characters."""
        return untrusted.line(f"job {self._job_id} {self._words}", limit=_LONGEST)

    def _after(self, event: pb.JobEvent) -> str:
        if event.type == "status":
            return event.message
        data = orjson.loads(event.data_json) if event.data_json else {}
        if event.type == "delta":
            # Only its end is shown: enough is kept to see a character that was cut in two.
            self._said = (self._said + str(data.get("text") or ""))[-2000:]
            return f"running: {untrusted.tail(self._said)}" if self._said else "running: thinking"
        if event.type == "progress":
            share, note = data.get("fraction"), untrusted.line(str(data.get("note") or ""), limit=100)
            done = f"{share:.0%}" if isinstance(share, int | float) else ""
            return " ".join(filter(None, ("running:", done, note)))
        if event.type == "queue":
            ahead = data.get("position")
            return f"queued, place {ahead}" if isinstance(ahead, int) else "queued"
        if event.type == "reset":
            self._said = ""
            return "running: begun anew"
        return self._words
