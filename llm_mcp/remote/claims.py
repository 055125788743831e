"""Claiming: one job at a time, at once or when one comes, and once for each claim id."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Condition
from uuid import UUID

import uuid_utils.compat

from llm_mcp.errors import InvalidInput, LlmMcpError, NotFound, Unavailable
from llm_mcp.job import Job, Lease, Status
from llm_mcp.runtime import Runtime
from llm_mcp.store import jobs as job_rows
from llm_mcp.store import leases as rows
from llm_mcp.store import remote as leases
from llm_mcp.store.listen import JOB_QUEUED
from llm_mcp.store.remote import Found

from . import desk
from .desk import Waiter
from .presence import Presence

log = logging.getLogger(__name__)

# Waiting for an earlier request of the same claim to end, s.
_PATIENCE_S = 5.0
# How long a wait may be before the worker is noted again as one that is there, s.
_NOTE_S = 20.0


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that was leased: `token` names the lease, which is `lease_s` seconds long."""

    job: Job
    token: int
    lease_s: float


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for a job of which kinds (none: of every kind), and for how long, s."""

    worker_id: str
    kinds: tuple[str, ...]
    lease_s: float


class Claims:
    """Claims for workers that come by a door. Safe for threads."""

    def __init__(self, runtime: Runtime, presence: Presence) -> None:
        self._runtime = runtime
        self._presence = presence
        self._changed = Condition()
        self._claiming: dict[tuple[str, UUID], Waiter] = {}

    def claim(self, asked: Asked, waiter: Waiter, *, wait_s: float, claim_id: UUID | None) -> Claimed | None:
        """Lease a job, or return None when none came for `wait_s` seconds; see `Remote.claim`."""
        if claim_id is None:
            return self._claim(asked, waiter, wait_s)
        with self._only(asked.worker_id, claim_id, waiter):
            return self._again(asked, claim_id) or self._claim(asked, waiter, wait_s, claim_id=claim_id)

    def give_back(self, claimed: Claimed) -> None:
        """Let others have a job whose claimer left before it was answered; the try does not count. Never raises."""
        with suppress(LlmMcpError):
            rows.release(self._runtime.db, [(claimed.job.id, claimed.token)])
            self._runtime.notifier.notify(JOB_QUEUED)
            self._runtime.announce(claimed.job.id)

    def _claim(self, asked: Asked, waiter: Waiter, wait_s: float, *, claim_id: UUID | None = None) -> Claimed | None:
        """Look until there is a job or the time is over."""
        self._presence.seen(asked.worker_id, asked.kinds)
        if wait_s == 0:
            return self._look(asked, claim_id)[0]
        until, due_s = time.monotonic() + wait_s, None
        look = True
        with desk.of(self._runtime).line(frozenset(asked.kinds), waiter):
            while True:
                if look:
                    claimed, due_s = self._look(asked, claim_id)
                    if claimed is not None:
                        return claimed
                left_s = until - time.monotonic()
                if left_s <= 0 or waiter.nudged:
                    return None
                look = desk.of(self._runtime).wait(waiter, most_s=min(left_s, _NOTE_S), due_s=due_s)
                if waiter.nudged:
                    return None
                self._presence.seen(asked.worker_id, asked.kinds)

    def _look(self, asked: Asked, claim_id: UUID | None) -> tuple[Claimed | None, float | None]:
        """Return the next job, else in how many seconds there may be one."""
        made = claim_id or uuid_utils.compat.uuid7()
        while True:
            try:
                found = self._lease(asked, made)
            except Unavailable:
                # It may have been leased all the same.
                again = self._again(asked, made)
                if again is None:
                    raise
                return again, None
            if found.passed:
                self._runtime.notifier.notify(JOB_QUEUED)
            if found.lease is None:
                return None, found.wait_s
            if claim_id is not None:
                claimed = self._again(asked, made)
            else:
                claimed = self._whole(asked, found.lease.job_id, found.lease.token)
            if claimed is not None:
                return claimed, None

    def _lease(self, asked: Asked, claim_id: UUID) -> Found:
        db, ageing_s = self._runtime.db, self._runtime.settings.ageing_s
        try:
            if not asked.kinds:
                return leases.claim_any(db, asked.worker_id, claim_id, lease_s=asked.lease_s, ageing_s=ageing_s)
            turn = rows.turn(
                db, asked.worker_id, claim_id, kinds=asked.kinds, n=1, lease_s=asked.lease_s, ageing_s=ageing_s
            )
        except InvalidInput as error:  # a job that cannot be leased is nothing the worker could mend
            log.warning("a claim was refused", extra={"action": "turn_refused", "error": str(error)})
            return Found(None, passed=False, wait_s=None)
        return Found(turn.leases[0] if turn.leases else None, passed=turn.left > 0, wait_s=turn.wait_s)

    def _again(self, asked: Asked, claim_id: UUID) -> Claimed | None:
        """Return what an earlier request of this claim leased, its time renewed; None when nothing stands of it."""
        db = self._runtime.db
        found = sorted(rows.claimed(db, asked.worker_id, claim_id), key=_token)
        if not found:
            return None
        first, *others = found
        if others:  # two processes had the same claim at once; all of them agree on which it is
            rows.release(db, [(lease.job_id, lease.token) for lease in others])
            self._runtime.notifier.notify(JOB_QUEUED)
        if not rows.heartbeat(db, [(first.job_id, first.token)], lease_s=asked.lease_s):
            return None
        return self._whole(asked, first.job_id, first.token)

    def _whole(self, asked: Asked, job_id: UUID, token: int) -> Claimed | None:
        """Return a leased job as its worker is told of it; None when the lease ended meanwhile."""
        self._runtime.announce(job_id)
        try:
            job = job_rows.get(self._runtime.db, job_id)
        except NotFound:
            return None
        except LlmMcpError:
            with suppress(LlmMcpError):
                rows.release(self._runtime.db, [(job_id, token)])
            raise
        if job.status is not Status.RUNNING or job.worker_id != asked.worker_id:
            return None
        return Claimed(job, token, asked.lease_s)

    @contextmanager
    def _only(self, worker_id: str, claim_id: UUID, waiter: Waiter) -> Iterator[None]:
        """Be the only request of this claim: an earlier one, whose client gave it up, ends."""
        key, until = (worker_id, claim_id), time.monotonic() + _PATIENCE_S
        with self._changed:
            while (other := self._claiming.get(key)) is not None:
                other.nudge()
                if time.monotonic() > until:
                    raise Unavailable("the same claim is being made")
                self._changed.wait(_PATIENCE_S)
            self._claiming[key] = waiter
        try:
            yield
        finally:
            with self._changed:
                del self._claiming[key]
                self._changed.notify_all()


def _token(lease: Lease) -> int:
    return lease.token
