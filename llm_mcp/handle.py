"""A job in the hand: what submitting from Python returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol
from uuid import UUID

import orjson

from .errors import InvalidInput, JobFailed
from .events import Cursor, Event
from .job import Job, Status


class Submits(Protocol):
    """An actor: what `then` submits a job of."""

    def submit(self, payload: Any = None, **options: Any) -> JobHandle:
        """Submit a job and return its handle."""


class Asks(Protocol):
    """What a handle asks: `Jobs`, or a client of a core that has them."""

    def get(self, job_id: UUID) -> Job:
        """Return one job whole."""

    def wait(self, job_id: UUID, *, timeout_s: float | None = None) -> Job:
        """Return the job once it is finished."""

    def follow(self, job_id: UUID, after: Cursor | None = None) -> Iterator[Job | Event | None]:
        """Yield a job's life as it happens."""

    def cancel(self, job_id: UUID) -> Job:
        """End a job that is not finished and return it."""


class JobHandle:
    """One job by its id; every call asks anew, so it works from any process and after any restart."""

    def __init__(self, jobs: Asks, job_id: UUID) -> None:
        self._jobs = jobs
        self.id = job_id

    def __repr__(self) -> str:
        return f"JobHandle({self.id})"

    def job(self) -> Job:
        """Return the job as it is now. Raises NotFound (a submit whose transaction is still open, or rolled back)."""
        return self._jobs.get(self.id)

    @property
    def status(self) -> Status:
        """The job's status now."""
        return self.job().status

    def wait(self, timeout: float | None = None) -> Any:
        """Return the result (a JSON value) once the job is done.

        Raises WaitTimeout after `timeout` seconds (the job goes on), JobFailed with its reason when it ended in error.
        """
        job = self._jobs.wait(self.id, timeout_s=timeout)
        if job.status is not Status.DONE:
            raise JobFailed(job.error or f"job {self.id}: {job.reason}", reason=str(job.reason))
        return None if job.result is None else orjson.loads(job.result)

    def stream(self) -> Iterator[Event]:
        """Yield the events of the job as they come, until it is finished.

        A `delta` carries text; after a `reset` the text so far is void, for a new attempt began.
        """
        for item in self._jobs.follow(self.id):
            if isinstance(item, Event):
                yield item

    def then(self, actor: Submits, payload: Any = None, **options: Any) -> JobHandle:
        """Submit a job that is run once this one is done, and return its handle.

        `options` are those of the actor's `submit`, and fields of the payload. The actor finds this job's result in
        `run.inputs()`. When this one ends in error that one does too, unless `after_error="run"`. Raises what `submit`
        raises.
        """
        return actor.submit(payload, **{**options, "after": [self, *options.get("after", ())]})

    def cancel(self) -> Job:
        """End the job and return it. Raises Conflict with code `already_finished`."""
        return self._jobs.cancel(self.id)


def ids(jobs: Iterable[Any]) -> tuple[UUID, ...]:
    """Return the ids of jobs that are given by handle or by id. Raises InvalidInput naming the place, `after[0]`."""
    given: object = jobs
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidInput("must be a list of handles or ids", field="after")
    found = []
    for place, job in enumerate(jobs):
        job_id = job.id if isinstance(job, JobHandle) else job
        if not isinstance(job_id, UUID):
            raise InvalidInput("must be a job's handle or id", field=f"after[{place}]")
        found.append(job_id)
    return tuple(found)
