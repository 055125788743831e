"""What a core says over gRPC, in the words we have for it here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import grpc
import orjson

from .errors import (
    Conflict,
    InvalidInput,
    KeyReused,
    LeaseLost,
    LlmMcpError,
    ModelNotFound,
    NoProvider,
    NotFound,
    QueueFull,
    TooLarge,
    Unavailable,
)
from .events import Cursor, Event
from .job import Job, Reason, Status
from .rpc import llm_pb2 as pb

PRINCIPAL = "llm-mcp-principal"
"""The metadata that says in whose name a call is made."""
_SOON_S = 1.0


def job_of(told: pb.Job) -> Job:
    """Return a job as it was told. `run_at` is not told: it is when the job was queued."""
    queued_at = datetime.fromisoformat(told.queued_at)
    return Job(
        id=UUID(told.id),
        kind=told.kind,
        queue=told.queue,
        status=Status(told.status),
        reason=Reason(told.reason) if told.reason else None,
        attempts=told.attempts,
        max_attempts=told.max_attempts,
        priority=told.priority,
        source=told.source,
        queued_at=queued_at,
        updated_at=datetime.fromisoformat(told.updated_at),
        run_at=queued_at,
        lease_until=instant(told.lease_until),
        deadline_at=instant(told.deadline_at),
        finished_at=instant(told.finished_at),
        worker_id=told.worker_id or None,
        error=told.error or None,
        payload=told.payload_json or None,
        result=told.result_json or None,
        served=not told.warnings,
    )


def status_job(event: pb.JobEvent) -> Job:
    """Return the job that a status event tells."""
    job = pb.Job()
    for name, value in orjson.loads(event.data_json).items():
        field = pb.Job.DESCRIPTOR.fields_by_name.get(name)
        if isinstance(value, list):
            getattr(job, name).extend(value)
        elif field is not None:
            # 64-bit numbers are texts in the JSON form of messages.
            setattr(job, name, int(value) if name == "lease_token" else value)
    return job_of(job)


def event_of(event: pb.JobEvent, place: Cursor) -> Event:
    """Return an event as it was told; one without a number of its own stands at `place`."""
    cursor = Cursor.parse(event.id, field="id") if event.id else place
    data = orjson.loads(event.data_json)
    if event.type == "reset":
        cursor = Cursor(data["attempt"], 0)
    return Event(cursor.attempt, cursor.seq, event.type, data)


def ours(error: grpc.RpcError) -> LlmMcpError:
    """Return our error for a call that failed; what nobody foresaw is Unavailable."""
    code, words = error.code(), error.details() or ""
    trailers: Any = error.trailing_metadata() or ()
    told = {name: value for name, value in trailers if isinstance(value, str)}
    word, field = told.get("error", ""), told.get("field", "")
    words = words.removeprefix(f"{field}: ") if field else words
    retry_after_s = float(told.get("retry-after-s", _SOON_S))
    known: dict[str, Callable[[], LlmMcpError]] = {
        "lease_lost": lambda: LeaseLost(words),
        "idempotency_key_reused": lambda: KeyReused(words),
        "model_not_found": lambda: ModelNotFound(words),
        "queue_full": lambda: QueueFull(words, retry_after_s=retry_after_s),
        **dict.fromkeys(
            ("no_device", "not_local", "no_api_key"),
            lambda: NoProvider(words, code=word, retry_after_s=retry_after_s),
        ),
        "body_too_large": lambda: TooLarge(words, field=field, code=word),
        "too_large": lambda: TooLarge(words, field=field, code=word),
    }
    if word in known:
        return known[word]()
    made: dict[Any, Callable[[], LlmMcpError]] = {
        grpc.StatusCode.INVALID_ARGUMENT: lambda: InvalidInput(words, field=field, code=word),
        grpc.StatusCode.NOT_FOUND: lambda: NotFound(words),
        grpc.StatusCode.FAILED_PRECONDITION: lambda: Conflict(words, code=word),
        grpc.StatusCode.RESOURCE_EXHAUSTED: lambda: TooLarge(words),
    }
    return made.get(code, lambda: Unavailable(f"the core does not answer: {words}", retry_after_s=retry_after_s))()


def instant(text: str) -> datetime | None:
    """Return an instant as it was told; None for ""."""
    return datetime.fromisoformat(text) if text else None
