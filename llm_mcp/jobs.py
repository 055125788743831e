"""What can be done with jobs: the service behind every door."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from uuid import UUID

import orjson
import uuid_utils.compat
from psycopg import Connection

from . import (
    answers,
    checks,
    needs,
    payloads,  # noqa: F401 - registers the kinds we ship, so that every door knows their payloads
)
from .errors import Conflict, InvalidInput
from .events import Cursor, Event
from .job import Attempt, Job, Reason, Status, Submission
from .runtime import Runtime
from .store import events, sweeps, workers
from .store import jobs as rows
from .store.listen import JOB_ENDED, JOB_QUEUED
from .store.workers import Worker
from .watch import PATIENCE_S, Wait, Watch, wait_final

_BATCH = 1000


class Jobs:
    """The verbs on jobs for doors, actors and services. Cheap to make; safe for threads."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def submit(self, submission: Submission, *, conn: Connection[object] | None = None) -> UUID:
        """Check a submission, write it as one row and return the job's id.

        A submission whose `idempotency_key` was used before adds nothing: the first job's id is returned, as it was
        submitted then. Kind and payload decide whether it is the same request; KeyReused when it is not. On `conn`
        the row joins the caller's transaction: nothing runs until it commits, nothing stays when it rolls back
        (workers then find it by polling, within a second or so), and what breaks the transaction is raised as psycopg
        raises it. Raises InvalidInput naming the field, TooLarge, Unavailable.
        """
        try:
            (job_id,) = self._write([self.checked(submission)], conn)
        except InvalidInput as error:
            error.field = error.field.removeprefix("[0].")  # there is but one
            raise
        return job_id

    def submit_many(self, submissions: Iterable[Submission], *, conn: Connection[object] | None = None) -> list[UUID]:
        """Submit a batch in one statement and return the jobs' ids, in its order; all are written or none.

        Each is checked, and may have a key, as in `submit`; what is wrong with one names its place, `[3].payload.text`.
        Raises what `submit` raises.
        """
        new = []
        for place, submission in enumerate(submissions):
            try:
                new.append(self.checked(submission))
            except InvalidInput as error:
                error.field = f"[{place}].{error.field}" if error.field else f"[{place}]"
                raise
        return self._write(new, conn)

    def get(self, job_id: UUID, *, principal: str | None = None) -> Job:
        """Return one job whole. Raises NotFound; also for one that is not this principal's (None: whoever's)."""
        return rows.get(self.runtime.db, job_id, principal=principal)

    def check_owner(self, job_id: UUID, principal: str | None) -> None:
        """Raise NotFound unless the job is there and this principal's (None: whoever's)."""
        if principal is not None:
            rows.status(self.runtime.db, job_id, principal=principal)

    def said(self, job: Job) -> str:
        """Return what a job has said so far: its answer's text, else that of its newest attempt.

        "" for one that waits, and for one whose answer is no text.
        """
        if job.status is Status.DONE:
            return (answers.finished(orjson.loads(job.result)).text or "") if job.result else ""
        if job.status is Status.QUEUED:
            return ""  # what an attempt before said is void
        deltas = events.said(self.runtime.db, job.id)
        return "".join(text for delta in deltas if isinstance(text := delta.get("text"), str))

    def attempts(self, job_id: UUID) -> list[Attempt]:
        """Return the tries of a job, first to last."""
        return rows.attempts(self.runtime.db, job_id)

    def page(
        self,
        *,
        limit: int = 50,
        before: UUID | None = None,
        status: Status | None = None,
        kind: str | None = None,
        source: str | None = None,
        principal: str | None = None,
    ) -> list[Job]:
        """Return up to `limit` jobs, newest first, older than the job `before`; without payload and result."""
        return rows.page(
            self.runtime.db, n=limit, before=before, status=status, kind=kind, source=source, principal=principal
        )

    def cancel(self, job_id: UUID) -> Job:
        """End a job that is not finished and return it.

        Its running call is cut at the socket; jobs that need it end too, or run, as they said. Raises NotFound, or
        Conflict with code `already_finished`.
        """
        if not rows.cancel(self.runtime.db, job_id):
            raise Conflict(f"job {job_id} is {self.get(job_id).status}", code="already_finished")
        self.runtime.notifier.notify(JOB_ENDED, str(job_id))
        self.runtime.announce(job_id)
        needs.advance(self.runtime, [job_id])
        return self.get(job_id)

    def retry(self, job_ids: Sequence[UUID]) -> list[UUID]:
        """Queue jobs that ended in error again, with fresh tries, and return the ids of those that were.

        A job in another status stays as it is, and so does one that ended because a job it waited for did. The streams
        and attempts there are stay; a deadline that passed is lifted. To whoever watched them, they had ended.
        """
        return self._queued_again(rows.retry(self.runtime.db, n=len(job_ids), job_ids=job_ids))

    def retry_errors(
        self, *, reason: Reason | None = None, kind: str | None = None, limit: int | None = None
    ) -> Iterator[int]:
        """Queue all jobs again that ended in error until now, as `retry` does; yields how many, a batch at a time.

        `reason`, `kind`: only these; `limit`: so many at the most, the oldest first. What fails again meanwhile is not
        taken a second time.
        """
        until = rows.now(self.runtime.db)
        left = 2**62 if limit is None else limit
        while left > 0:
            n = min(left, _BATCH)
            queued = self._queued_again(rows.retry(self.runtime.db, n=n, reason=reason, kind=kind, until=until))
            left -= len(queued)
            if queued:
                yield len(queued)
            if len(queued) < n:
                return

    def requeue(self, job_ids: Sequence[UUID]) -> list[UUID]:
        """Take running jobs from their workers, queue them again, and return the ids of those that were running.

        The tries do not count. The running call is cut at its socket; until that is done another worker may have begun.
        """
        taken = rows.requeue(self.runtime.db, job_ids)
        for job_id in taken:
            self.runtime.notifier.notify(JOB_ENDED, str(job_id))
        return self._queued_again(taken)

    def prunable(self, *, days: int, status: Status | None = None) -> int:
        """Return how many jobs `prune` would delete. Raises InvalidInput naming the field."""
        _check_pruned(days, status)
        return sweeps.prunable(self.runtime.db, days=days, status=status)

    def prune(self, *, days: int, status: Status | None = None) -> Iterator[int]:
        """Delete jobs that finished over `days` days ago; yields how many, a batch at a time.

        `status`: only those that are `done`, or in `error`. Raises InvalidInput naming the field.
        """
        _check_pruned(days, status)
        while n := sweeps.prune_some(self.runtime.db, days=days, status=status, n=_BATCH):
            yield n
            if n < _BATCH:
                return

    def wait(self, job_id: UUID, *, timeout_s: float | None = None, patience_s: float = PATIENCE_S) -> Job:
        """Return the job once it is finished.

        Raises WaitTimeout after `timeout_s` seconds (None: never), NotFound, and Unavailable when the database stays
        away for `patience_s` seconds; the job goes on in any case.
        """
        wait_final(self.runtime, job_id, timeout_s=timeout_s, patience_s=patience_s)
        return self.get(job_id)

    def follow(
        self,
        job_id: UUID,
        after: Cursor | None = None,
        *,
        quiet_s: float = 15.0,
        patience_s: float = PATIENCE_S,
    ) -> Generator[Job | Event | None, None, None]:
        """Yield a job's life as it happens, from the place `after` on, until it is finished.

        Items: a Job at once and at every change of status (the finished one last, after all its events); an Event for
        each new one; None when nothing came for `quiet_s` seconds. Only the newest attempt is told: when another one
        begins, a `reset` event says to forget the text so far. No database connection is held between looks.
        Raises NotFound, and Unavailable when the database stays away for `patience_s` seconds.
        """
        return self.watch(job_id, after).items(quiet_s=quiet_s, patience_s=patience_s)

    def watch(self, job_id: UUID, after: Cursor | None = None, *, line: bool = False) -> Watch:
        """Return a watch of a job, whose `items` are those of `follow`; another thread may `nudge` it.

        `line`: have an event `queue` too while the job waits, at most one a second, when its place has changed.
        """
        return Watch(self.runtime, job_id, get=self.get, after=after or Cursor(), line=line)

    def waiter(self, job_id: UUID) -> Wait:
        """Return one who waits until a job is `final`; another thread may `nudge` it."""
        return Wait(self.runtime, job_id)

    def workers(self) -> list[Worker]:
        """Return the workers seen within the last minute."""
        return workers.alive(self.runtime.db)

    def unserved(self) -> dict[str, int]:
        """Return the kinds with waiting jobs that no live worker takes, with how many wait."""
        return rows.unserved(self.runtime.db)

    def checked(self, submission: Submission) -> rows.New:
        """Refuse what must not become a row, and return what will.

        Raises InvalidInput naming the field, TooLarge.
        """
        kind, payload = checks.check(submission, limit_bytes=self.runtime.settings.max_body_bytes)
        return rows.New(
            submission.id or uuid_utils.compat.uuid7(),
            submission,
            payload,
            kind.queue,
            submission.max_attempts or kind.max_attempts,
            self.runtime.settings.result_ttl_s,
        )

    def _queued_again(self, job_ids: list[UUID]) -> list[UUID]:
        """Tell the workers, and who watches these jobs."""
        if job_ids:
            self.runtime.notifier.notify(JOB_QUEUED)
            self.runtime.announce(*job_ids)
        return job_ids

    def _write(self, new: list[rows.New], conn: Connection[object] | None) -> list[UUID]:
        if not new:
            return []
        self.runtime.admission.admit(new, conn=conn)
        job_ids = rows.submit(self.runtime.db, new, conn=conn)
        if any(one.submission.after for one in new):
            needs.settle(self.runtime, job_ids, conn=conn)
        if conn is None:
            self.runtime.notifier.notify(JOB_QUEUED)
        return job_ids


def _check_pruned(days: int, status: Status | None) -> None:
    if not 0 <= days <= checks.FARTHEST.days:
        raise InvalidInput("must be 0 to a hundred years", field="days")
    if status is not None and not status.final:
        raise InvalidInput("must be done or error", field="status")
