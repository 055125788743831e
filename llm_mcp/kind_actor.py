"""Actors: functions that jobs of one kind are run by. One decorator gives a function everything a job has.

from llm_mcp import Run, actor

class Summary(BaseModel):
    text: str

@actor("acme.summary", payload=Summary)
def summary(payload: Summary, run: Run) -> dict:
    run.progress(0.5, "reading")
    run.text("So far: ")
    return {"summary": …}

handle = summary.submit(text="…")
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import dramatiq
import orjson
from psycopg import Connection
from pydantic import BaseModel

from . import run as running
from . import strictjson
from .broker import QUEUE, broker
from .errors import InvalidInput, SetupError
from .handle import JobHandle, ids
from .job import DEFAULT_MAX_ATTEMPTS, AfterError, Submission
from .jobs import Jobs
from .kinds import KINDS, Kind
from .limits import declared_limit
from .run import Run
from .runtime import current
from .surroundings import surrounded

Work = Callable[..., Any]


class KindActor(dramatiq.Actor[..., Any]):
    """A Dramatiq actor whose messages are jobs of one kind. `.send()` works as ever and enters the same row.

    Called with arguments it is the decorated function itself, for tests and for other actors; without any it is
    Dramatiq's call of the attempt this thread works on.
    """

    def __init__(self, work: Work, kind: Kind, *, takes_run: bool) -> None:
        self.work = work
        self.kind = kind
        self._takes_run = takes_run
        functools.update_wrapper(self, work)
        super().__init__(self._perform, broker=broker, actor_name=kind.name, queue_name=QUEUE, priority=0, options={})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the decorated function with these arguments; without any, run the current attempt."""
        return self.work(*args, **kwargs) if args or kwargs else super().__call__()

    def __repr__(self) -> str:
        return f"KindActor({self.actor_name})"

    def submit(
        self,
        payload: Any = None,
        *,
        conn: Connection[Any] | None = None,
        priority: int = 0,
        source: str = "python",
        max_attempts: int = 0,
        deadline_at: datetime | None = None,
        delay_s: float = 0.0,
        idempotency_key: str | None = None,
        unique_s: float | None = None,
        result_ttl_s: float | None = None,
        after: Iterable[JobHandle | UUID] = (),
        after_error: AfterError = "stop",
        **fields: Any,
    ) -> JobHandle:
        """Submit a job of this kind and return its handle.

        The payload is `payload`, any JSON value, or the keyword arguments that are not options; both are merged when
        `payload` is an object. `conn`, an open psycopg connection, lets the job join the caller's transaction.
        `priority`: higher goes first. `max_attempts`: 0 is the kind's own number. `deadline_at`: an aware instant;
        `delay_s`: seconds. `idempotency_key` names the job for as long as it is kept, or for `unique_s` seconds.
        `result_ttl_s`: seconds the result is kept (None: as the settings say). `after`: jobs, by handle or id, a
        thousand at most, that are to be finished before it starts
        (`run.inputs()` has their results); `after_error`: when one of them ends in error, `stop` ends this one too,
        `run` runs it all the same. Raises InvalidInput naming the field, TooLarge, KeyReused, QueueFull, Unavailable.
        """
        jobs = Jobs(current())
        submission = self.prepare(
            payload,
            priority=priority,
            source=source,
            max_attempts=max_attempts,
            deadline_at=deadline_at,
            delay_s=delay_s,
            idempotency_key=idempotency_key,
            unique_s=unique_s,
            result_ttl_s=result_ttl_s,
            after=after,
            after_error=after_error,
            **fields,
        )
        return JobHandle(jobs, jobs.submit(submission, conn=conn))

    def prepare(
        self,
        payload: Any = None,
        *,
        priority: int = 0,
        source: str = "python",
        max_attempts: int = 0,
        deadline_at: datetime | None = None,
        delay_s: float = 0.0,
        idempotency_key: str | None = None,
        unique_s: float | None = None,
        result_ttl_s: float | None = None,
        after: Iterable[JobHandle | UUID] = (),
        after_error: AfterError = "stop",
        **fields: Any,
    ) -> Submission:
        """Return what `submit` would submit, for a chain, a group or `Jobs.submit_many`. Nothing is written.

        Parameters as in `submit`. Raises InvalidInput naming the field.
        """
        return Submission(
            kind=self.actor_name,
            payload=merged(payload, fields),
            priority=priority,
            source=source,
            max_attempts=max_attempts,
            deadline_at=deadline_at,
            delay_s=delay_s,
            idempotency_key=idempotency_key,
            unique_s=unique_s,
            result_ttl_s=result_ttl_s,
            after=ids(after),
            after_error=after_error,
        )

    def _perform(self) -> None:
        self.perform(running.current())

    def perform(self, run: Run) -> None:
        """Make an attempt, in all that surrounds it, and leave its result on the run. Raises what the actor raises."""
        value = run.payload = self.kind.validate(_value(run.lease.payload))
        call = functools.partial(self.work, value, run) if self._takes_run else functools.partial(self.work, value)
        run.result = surrounded(run, call)
        run.check()


def actor(
    kind: str,
    *,
    payload: type[BaseModel] | None = None,
    queue: str = "default",
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    max_running: int | None = None,
    rate: str | None = None,
) -> Callable[[Work], KindActor]:
    """Make a function the actor of a kind.

    `payload`: the model its payload must fit (None: any JSON value). The function gets the payload (a model instance,
    or the value) and, when it takes a second parameter, the Run it streams and reports through; it returns the result,
    any JSON value. What it raises fails the attempt: it is tried again, up to `max_attempts` times, unless the error
    says that this cannot help. `queue` is a name rows carry for those who sort them; any worker takes any queue.
    `max_running`, jobs at once, and `rate`, such as `10/m`, hold for all workers together; a worker's start writes them
    where the kind has no limit yet, and what an operator wrote stands.
    Raises SetupError when the kind has another definition or an actor already, the function cannot be one, or a limit
    makes no sense.
    """
    definition = Kind(kind, payload, queue, max_attempts, max_running, rate)
    try:
        declared_limit(kind, max_running, rate)
    except InvalidInput as error:
        raise SetupError(f"kind {kind!r}: {error.field} {error}") from None

    def decorate(work: Work) -> KindActor:
        if kind in broker.actors:
            raise SetupError(f"kind {kind!r} has an actor already")
        takes_run = _takes_run(work, kind)
        return KindActor(work, KINDS.add(definition), takes_run=takes_run)

    return decorate


def merged(payload: Any, fields: Mapping[str, Any]) -> Any:
    """Return the payload that a value and keyword arguments make together. Raises InvalidInput."""
    if payload is None:
        return fields
    if fields and not isinstance(payload, Mapping):
        raise InvalidInput("only an object can be merged with keyword arguments", field="payload")
    return {**payload, **fields} if fields else payload


def _value(payload: str) -> Any:
    """Return the value of a row's payload. Raises InvalidInput for one that somebody wrote past our doors."""
    if payload.count("[") + payload.count("{") <= strictjson.MAX_DEPTH and "\\u" not in payload:
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(payload)
    return strictjson.loads(payload, limit_bytes=sys.maxsize, root="payload")


def _takes_run(work: Work, kind: str) -> bool:
    """Say whether a function wants the Run beside the payload. Raises SetupError when it can take neither."""
    parameters = inspect.signature(work).parameters.values()
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if inspect.iscoroutinefunction(work) or not 1 <= len(places) <= 2 or named:
        raise SetupError(f"kind {kind!r}: an actor is a plain function of the payload, or of the payload and the run")
    return len(places) == 2
