"""A worker played by the test: it claims, streams and settles exactly when it is told to."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import uuid_utils.compat

from llm_mcp.job import Lease, Status
from llm_mcp.runtime import Runtime
from llm_mcp.store import events, leases, workers
from tests.waiting import until

NAME = "played"


class Attempt:
    """One attempt in the player's hands. Every verb is seen by watchers at once."""

    def __init__(self, runtime: Runtime, lease: Lease) -> None:
        self.lease = lease
        self.job_id = lease.job_id
        self._runtime = runtime
        self._seq = 0

    def add(self, *items: tuple[str, dict[str, Any]]) -> None:
        """Append events (type, data) in one batch."""
        rows = [(self._seq + i, kind, orjson.dumps(data).decode()) for i, (kind, data) in enumerate(items, 1)]
        events.append(self._runtime.db, self.job_id, self.lease.token, rows)
        self._seq += len(items)
        self._runtime.announce(self.job_id)

    def say(self, *texts: str) -> None:
        """Append a delta for each text."""
        self.add(*(("delta", {"text": text}) for text in texts))

    def done(self, result: Any) -> None:
        """Hand in the result."""
        leases.complete(self._runtime.db, self.job_id, self.lease.token, result=orjson.dumps(result).decode())
        self._runtime.announce(self.job_id)

    def fail(self, error: str, *, retryable: bool = True) -> Status:
        """Report a failure; a retry may begin at once."""
        status = leases.fail(
            self._runtime.db, self.job_id, self.lease.token, error=error, retryable=retryable, delay_s=0.0
        )
        self._runtime.announce(self.job_id)
        return status


class Player:
    """Claims for the test."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def claim(self, job_id: UUID | str | None, kind: str, *, lease_s: float = 60.0) -> Attempt:
        """Begin the next job of a kind, which must be this one (None: whichever it is)."""
        [lease] = leases.claim(
            self._runtime.db, NAME, uuid_utils.compat.uuid7(), kinds=[kind], n=1, lease_s=lease_s, ageing_s=600.0
        )
        assert job_id is None or str(lease.job_id) == str(job_id)
        self._runtime.announce(lease.job_id)
        return Attempt(self._runtime, lease)

    def claim_soon(self, kind: str, *, lease_s: float = 60.0) -> Attempt:
        """Begin the next job of a kind, once there is one."""

        def look() -> Attempt | None:
            try:
                return self.claim(None, kind, lease_s=lease_s)
            except ValueError:  # none yet
                return None

        attempt = until(look)
        assert attempt is not None
        return attempt

    def report(self, *kinds: str) -> None:
        """Say that a live worker takes these kinds."""
        workers.seen(
            self._runtime.db, NAME, name=NAME, host="here", pid=1, version="0", kinds=kinds, threads=1, running=0
        )

    def leave(self) -> None:
        """Say that it is gone again."""
        workers.stopped(self._runtime.db, NAME)
