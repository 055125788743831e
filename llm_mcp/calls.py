"""Calls: a job submitted by somebody who waits for its answer. The job outlives whoever waits.

One row is written, one notice waited for, one row read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Event as Signal
from typing import Any, TypeVar
from uuid import UUID

import orjson
import uuid_utils.compat

from .errors import JobFailed, KeyReused, Unavailable, WaitTimeout
from .events import Cursor, Event
from .job import Job, Reason, Status, Submission
from .jobs import Jobs
from .store import calls as rows
from .store import jobs as job_rows
from .store.calls import Standing
from .store.listen import JOB_UPDATE
from .watch import PATIENCE_S

T = TypeVar("T")

# A notice may be missed: how often a call looks by itself, where notices are heard and where not, s.
_LOOK_ANYWAY_S = 2.0
_LOOK_ANYWAY_DEAF_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A call that was answered: the job's result, and how it came about.

    `queued_ms`: how long the job waited before its last attempt began, ms.
    """

    job_id: UUID
    result: Any = field(repr=False)
    attempts: int
    queued_ms: float | None = None
    worker_id: str | None = None


class CallFailed(JobFailed):
    """The call's job ended in error.

    Besides its `reason`: `job_id` and the job's `kind`; of a provider's refusal `status`, its HTTP status,
    `provider_code`, our word for it (see ProviderError) and `retry_after_s`, its wish, s; None where there was none.
    """

    def __init__(self, job_id: UUID, standing: Standing) -> None:
        super().__init__(standing.error or "the job failed", reason=standing.reason or Reason.FAILED)
        self.job_id = job_id
        self.kind = standing.kind
        told = standing.metrics if standing.reason is Reason.FAILED else {}
        self.status = _as(int, told.get("status"))
        self.provider_code = _as(str, told.get("failure"))
        self.retry_after_s = _as(float, told.get("retry_after_s"))


class CallTimeout(WaitTimeout):
    """The call's job is not finished in time; it goes on. `job_id` is where to ask later."""

    def __init__(self, job_id: UUID, timeout_s: float) -> None:
        super().__init__(f"job {job_id} is not finished after {timeout_s:g} s; it goes on")
        self.job_id = job_id


class CallStopped(WaitTimeout):
    """Who waited was told not to; the call's job goes on. `job_id` is where to ask later."""

    def __init__(self, job_id: UUID) -> None:
        super().__init__(f"job {job_id} is not waited for any more; it goes on")
        self.job_id = job_id


class Stop:
    """The string that ends a wait. Calling it, from any thread and at any time, is enough."""

    def __init__(self) -> None:
        self.called = False
        self._wake: Signal | None = None

    def __call__(self) -> None:
        self.called = True
        if self._wake is not None:
            self._wake.set()

    def wakes(self, wake: Signal) -> None:
        """Have `wake` set when it is called, or was."""
        self._wake = wake
        if self.called:
            wake.set()


class Calls:
    """Asks jobs and waits for what they answer. Cheap to make; safe for threads."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._runtime = jobs.runtime

    def submit(self, submission: Submission) -> UUID:
        """Submit a job and return its id.

        One asked for before is the same request, though it would be sent to another device today. Raises what
        `Jobs.submit` raises.
        """
        try:
            return self._jobs.submit(submission)
        except KeyReused:
            first = rows.keyed(self._runtime.db, submission.unique_key or "")
            if first is None or first[1] != submission.kind or _asked(first[2]) != _asked(submission.payload):
                raise
            return first[0]

    def ask(self, submission: Submission, *, timeout_s: float | None = None, stop: Stop | None = None) -> Answered:
        """Submit a job and return its answer; `timeout_s` (s) is how long to wait, None: as the settings say.

        A submission whose idempotency key was used before gets the answer of that first job. Raises what `Jobs.submit`
        raises, CallFailed, CallTimeout, CallStopped, and Unavailable when the database stays away.
        """
        until = time.monotonic() + self._patience(timeout_s)
        job_id = submission.id or uuid_utils.compat.uuid7()
        with self._runtime.listener.subscribe(JOB_UPDATE, str(job_id)) as wake:
            found = self.submit(replace(submission, id=job_id))
            if found == job_id:
                return self._answered(job_id, wake, until, timeout_s, stop or Stop())
        return self.wait(found, timeout_s=max(0.0, until - time.monotonic()), stop=stop)

    def run(
        self, submission: Submission, *, submit: Callable[[Submission], UUID], wait_s: float, stop: Stop
    ) -> tuple[UUID, Job | None]:
        """Submit a job and return its id, and the job: finished, or as it is after `wait_s` seconds or at a `stop`.

        `submit`: how it is written, ours or that of `Jobs`. What was written is told even when the database goes away:
        without the job then. Raises what `submit` raises.
        """
        until = time.monotonic() + wait_s
        job_id = submission.id or uuid_utils.compat.uuid7()
        with self._runtime.listener.subscribe(JOB_UPDATE, str(job_id)) as wake:
            found = submit(replace(submission, id=job_id))
            if found == job_id:
                return found, self._seen(found, wake, until, stop)
        with self._runtime.listener.subscribe(JOB_UPDATE, str(found)) as wake:
            wake.set()  # it was asked for before, and may be finished
            return found, self._seen(found, wake, until, stop)

    def wait(self, job_id: UUID, *, timeout_s: float | None = None, stop: Stop | None = None) -> Answered:
        """Return the answer of a job that was submitted before. Raises as `ask`, and NotFound."""
        until = time.monotonic() + self._patience(timeout_s)
        with self._runtime.listener.subscribe(JOB_UPDATE, str(job_id)) as wake:
            wake.set()
            return self._answered(job_id, wake, until, timeout_s, stop or Stop())

    def answer(self, job_id: UUID) -> Answered | None:
        """Return the answer of a job, None while it is not finished. Raises CallFailed, NotFound, Unavailable."""
        standing = rows.answer(self._runtime.db, job_id)
        if not standing.status.final:
            return None
        if standing.status is Status.ERROR:
            raise CallFailed(job_id, standing)
        return Answered(
            job_id=job_id,
            result=orjson.loads(standing.result or "null"),
            attempts=standing.attempts,
            queued_ms=standing.queued_ms,
            worker_id=standing.worker_id,
        )

    def stream(
        self, call: Submission | UUID, after: Cursor | None = None, *, quiet_s: float = 15.0
    ) -> tuple[UUID, Iterator[Event | Job | None]]:
        """Submit a job (or take one that was) and return its id and its life: see `Jobs.follow`.

        After its last item, the finished Job, `answer` says the same as `ask` would have. Raises what `Jobs.submit`
        raises; the iterator what `Jobs.follow` raises.
        """
        job_id = call if isinstance(call, UUID) else self.submit(call)
        return job_id, self._jobs.follow(job_id, after, quiet_s=quiet_s)

    def _patience(self, timeout_s: float | None) -> float:
        return self._runtime.settings.call_timeout_s if timeout_s is None else timeout_s

    def _answered(self, job_id: UUID, wake: Signal, until: float, timeout_s: float | None, stop: Stop) -> Answered:
        answered = self._wait(lambda: self.answer(job_id), wake, until, stop)
        if answered is not None:
            return answered
        raise CallStopped(job_id) if stop.called else CallTimeout(job_id, self._patience(timeout_s))

    def _seen(self, job_id: UUID, wake: Signal, until: float, stop: Stop) -> Job | None:
        """Return a job once it is finished, or as it was when the wait ended; None: the database was away."""
        job: Job | None = None

        def look() -> Job | None:
            nonlocal job
            over = stop.called or time.monotonic() >= until
            # Most are finished when there is something to see; of one that streams there is much to see.
            if job is None or over or job_rows.status(self._runtime.db, job_id).final:
                job = self._jobs.get(job_id)
            return job if job.status.final else None

        with suppress(Unavailable):
            self._wait(look, wake, until, stop)
        return job

    def _wait(self, look: Callable[[], T | None], wake: Signal, until: float, stop: Stop) -> T | None:
        """Return what is found once it is there; None when the time is over or somebody says stop.

        It is looked for when `wake` is set, and at the end. Raises Unavailable when the database stays away.
        """
        lost_at = math.inf
        stop.wakes(wake)
        while True:
            hears = self._runtime.listener.hears(JOB_UPDATE)
            left_s = until - time.monotonic()
            wake.wait(max(0.0, min(left_s, _LOOK_ANYWAY_S if hears else _LOOK_ANYWAY_DEAF_S)))
            wake.clear()
            try:
                found = look()
                lost_at = math.inf
            except Unavailable:
                lost_at = min(lost_at, time.monotonic())
                if time.monotonic() - lost_at >= PATIENCE_S:
                    raise
                found = None
            if found is not None or stop.called or left_s <= 0:
                return found


def _asked(payload: Any) -> Any:
    """Return a payload without what was decided here and not by its sender."""
    if not isinstance(payload, dict):
        return payload
    return {name: value for name, value in payload.items() if name != "device_id"}


def _as(kind: type[Any], value: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value if isinstance(value, kind) and not isinstance(value, bool) else None
