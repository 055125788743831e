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

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import dramatiq
import orjson
from psycopg import Connection
from pydantic import BaseModel

from . import run as running
from .broker import QUEUE, broker
from .errors import SetupError
from .handle import JobHandle
from .job import DEFAULT_MAX_ATTEMPTS, Submission
from .jobs import Jobs
from .kinds import KINDS, Kind
from .runtime import current

Work = Callable[..., Any]


class KindActor(dramatiq.Actor[..., Any]):
    """A Dramatiq actor whose messages are jobs of one kind. `.send()` works as ever and enters the same row."""

    def submit(
        self,
        payload: Mapping[str, Any] | None = None,
        *,
        conn: Connection[Any] | None = None,
        priority: int = 0,
        source: str = "python",
        max_attempts: int = 0,
        deadline_at: datetime | None = None,
        delay_s: float = 0.0,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> JobHandle:
        """Submit a job of this kind and return its handle.

        The payload is `payload`, or the keyword arguments that are not options, or both merged. `conn`, an open
        psycopg connection, lets the job join the caller's transaction. `priority`: higher goes first. `max_attempts`:
        0 is the kind's own number. `deadline_at`: an aware instant; `delay_s`: seconds. Raises InvalidInput naming the
        field, TooLarge, KeyReused, Unavailable.
        """
        jobs = Jobs(current())
        submission = Submission(
            kind=self.actor_name,
            payload={**(payload or {}), **fields},
            priority=priority,
            source=source,
            max_attempts=max_attempts,
            deadline_at=deadline_at,
            delay_s=delay_s,
            idempotency_key=idempotency_key,
        )
        return JobHandle(jobs, jobs.submit(submission, conn=conn))


def actor(
    kind: str,
    *,
    payload: type[BaseModel] | None = None,
    queue: str = "default",
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
) -> Callable[[Work], KindActor]:
    """Make a function the actor of a kind.

    `payload`: the model its payload must fit (None: any JSON value). The function gets the payload (a model instance,
    or the value) and, when it takes a second parameter, the Run it streams and reports through; it returns the result,
    any JSON value. What it raises fails the attempt: it is tried again, up to `max_attempts` times, unless the error
    says that this cannot help. Raises SetupError when the kind has another definition already.
    """
    known = KINDS.get(kind)
    definition = known if known is not None and payload is None else Kind(kind, payload, queue, max_attempts)
    KINDS.add(definition)

    def decorate(work: Work) -> KindActor:
        if kind in broker.actors:
            raise SetupError(f"kind {kind!r} has an actor already")
        wants_run = len(inspect.signature(work).parameters) > 1

        def perform() -> None:
            run = running.current()
            value = definition.validate(orjson.loads(run.lease.payload))
            run.result = work(value, run) if wants_run else work(value)
            run.check()

        perform.__name__ = work.__name__
        perform.__doc__ = work.__doc__
        return KindActor(perform, actor_name=kind, queue_name=QUEUE, priority=0, broker=broker, options={})

    return decorate
