"""Batches: the requests of a file, run as jobs of low priority, their answers written to files.

A batch is driven by short jobs of the kind `batch.run`, its steps. Each notes what is done, submits the next portion,
and submits the step after it, which waits for jobs of lines: no worker's thread ever waits. A step may be run twice or
by two at once: lines are taken, and outcomes noted, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson
import uuid_utils.compat
from pydantic import BaseModel, ConfigDict

from .dialect.fields import Fields
from .dialect.lines import ENDPOINTS
from .errors import Conflict, KeyReused, NotFound
from .files import Files
from .job import Submission
from .jobs import Jobs
from .kinds import KINDS, Kind
from .store import batches as rows
from .store import calls
from .store.batches import Batch

__all__ = ["KIND", "MAX_ATTEMPTS", "Batch", "Batches", "Step", "submit_step"]

KIND = "batch.run"
MAX_ATTEMPTS = 20
WINDOW = "24h"
LINE_PRIORITY = -10
SOURCE = "batch"
_WINDOW_S = 86400.0
# Before the lines it would wait behind.
_STEP_PRIORITY = -9
_FINISHED = ("done", "error")


class Step(BaseModel):
    """Payload of a step: the batch, by its id in hex, and the step's number."""

    model_config = ConfigDict(extra="forbid")

    batch_id: UUID
    step: int


KINDS.add(Kind(KIND, Step, max_attempts=MAX_ATTEMPTS))


class Batches:
    """The verbs on batches. Cheap to make; safe for threads."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._runtime = jobs.runtime
        self._db = jobs.runtime.db

    def create(self, asked: Fields, input_file: UUID | None, *, key: str | None = None) -> Batch:
        """Begin a batch of a request's fields and return it; one with the same `key` returns the first one.

        `input_file`: the id that `input_file_id` means, None when it means none. Raises InvalidInput naming the field,
        KeyReused.
        """
        endpoint = asked.word("endpoint", *ENDPOINTS)
        if endpoint is None:
            raise asked.wrong("endpoint", f"must be one of {', '.join(ENDPOINTS)}")
        if asked.word("completion_window", WINDOW) is None:
            raise asked.wrong("completion_window", f"must be {WINDOW}")
        metadata = _metadata(asked)
        asked.needed("input_file_id")
        try:
            file = Files(self._runtime).get(input_file)
        except NotFound:
            raise asked.wrong("input_file_id", "no file of that id", "file_not_found") from None
        if file.purpose != "batch":
            raise asked.wrong("input_file_id", "its purpose is not batch")
        batch_id = rows.add(
            self._db,
            uuid_utils.compat.uuid7(),
            endpoint=endpoint,
            input_file_id=file.id,
            metadata=orjson.dumps(metadata).decode(),
            key=key,
            window_s=_WINDOW_S,
            output_file_id=uuid_utils.compat.uuid7(),
            error_file_id=uuid_utils.compat.uuid7(),
        )
        batch = self._there(batch_id)
        if (batch.endpoint, batch.input_file_id) != (endpoint, file.id):
            raise KeyReused("this key was used for another request")
        submit_step(self._jobs, batch_id, 1)
        return batch

    def get(self, batch_id: UUID | None) -> Batch:
        """Return a batch; one that nothing drives any more goes on. Raises NotFound."""
        if batch_id is None:
            raise NotFound("no batch of that id")
        return self._driven(self._there(batch_id))

    def page(self, *, n: int, before: UUID | None) -> list[Batch]:
        """Return up to `n` batches, newest first, older than `before`."""
        return [self._driven(batch) for batch in rows.page(self._db, n=n, before=before)]

    def cancel(self, batch_id: UUID | None) -> Batch:
        """Have a batch end and return it. Raises NotFound, and Conflict when it is over."""
        batch = self.get(batch_id)
        if rows.cancel(self._db, batch.id):
            submit_step(self._jobs, batch.id, batch.step, word="cancel", priority=0)
        elif batch.status not in ("cancelling", "cancelled"):
            raise Conflict(f"this batch is {batch.status}", code="batch_not_cancellable")
        return self._there(batch.id)

    def _there(self, batch_id: UUID) -> Batch:
        found = rows.get(self._db, batch_id)
        if found is None:
            raise NotFound("no batch of that id")
        return found

    def _driven(self, batch: Batch) -> Batch:
        """Have a batch go on whose step ended without a next one, as no step of ours does, and return it."""
        if batch.finished_at is not None:
            return batch
        step = max(1, batch.step)  # the first one is not noted before it runs
        first = calls.keyed(self._db, _key(batch.id, str(step)))
        if first is None or calls.answer(self._db, first[0]).status in _FINISHED:
            now = self._there(batch.id)
            if now.finished_at is None and now.step == batch.step:
                submit_step(self._jobs, batch.id, step + 1)
            return now
        return batch


def submit_step(
    jobs: Jobs,
    batch_id: UUID,
    step: int,
    *,
    after: tuple[UUID, ...] = (),
    delay_s: float = 0.0,
    word: str = "",
    priority: int = _STEP_PRIORITY,
) -> None:
    """Submit a step of a batch, once.

    Parameters: `after`, jobs it waits for, whatever becomes of them; `delay_s`, s; `word`: what names the step instead
    of its number.
    """
    submission = Submission(
        kind=KIND,
        payload={"batch_id": batch_id.hex, "step": step},
        priority=priority,
        source=SOURCE,
        delay_s=delay_s,
        idempotency_key=_key(batch_id, word or str(step)),
        after=after,
        after_error="run",
    )
    jobs.submit(submission)


def _key(batch_id: UUID, word: str) -> str:
    return f"batch:{batch_id.hex}:{word}"


def _metadata(asked: Fields) -> Mapping[str, Any]:
    metadata = asked.object("metadata")
    if metadata is None:
        return {}
    if len(metadata.values) > 16:
        raise asked.wrong("metadata", "holds more than 16 entries")
    for name, value in metadata.values.items():
        if not isinstance(value, str) or len(value) > 512:
            raise metadata.wrong(name[:64], "must be text of at most 512 characters")
    return metadata.values
