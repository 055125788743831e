"""`/v1/batches`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from flask import Response

from llm_mcp.batches import WINDOW, Batch, Batches
from llm_mcp.dialect.fields import Fields
from llm_mcp.dialect.lines import ENDPOINTS

from ..fields import Field
from ..idempotency import idempotency_key
from ..openai.asked import Asked
from ..reply import answer, service
from . import asked

_PAGE, _MOST_PAGE = 20, 100
CREATE = (
    Field(name="endpoint", sort="text", required="invalid_value", words=tuple(ENDPOINTS), about="What all lines ask."),
    Field(name="completion_window", sort="text", required="invalid_value", words=(WINDOW,)),
    Field(name="input_file_id", sort="text", required="missing_required_parameter", about="A file of `/v1/files`."),
    Field(name="metadata", sort="object", about="16 entries of text at most."),
)
"""What of a request for a batch is read, here and in `llm_mcp.batches`."""


def create() -> Response:
    """Begin a batch of an uploaded file. The header `Idempotency-Key` makes a repeated request return the first one."""
    jobs = service()
    fields = Fields(Asked.read(jobs.runtime.settings.max_body_bytes).fields)
    named = fields.text("input_file_id")
    input_file = asked.file_id(named) if named else None
    return answer(shown(Batches(jobs).create(fields, input_file, key=idempotency_key())))


def page() -> Response:
    """List batches, newest first: `after` and `limit` page."""
    limit = asked.limit(_PAGE, _MOST_PAGE)
    found = Batches(service()).page(n=limit + 1, before=asked.after(asked.batch_id))
    return answer(asked.listed(found, limit, shown))


def get(name: str) -> Response:
    """Return a batch."""
    return answer(shown(Batches(service()).get(asked.batch_id(name))))


def cancel(name: str) -> Response:
    """Have a batch end: what is done already stays done."""
    return answer(shown(Batches(service()).cancel(asked.batch_id(name))))


def shown(batch: Batch) -> dict[str, Any]:
    """Return the `batch` object."""
    errors = None if batch.errors is None else {"object": "list", "data": orjson.loads(batch.errors)}
    over = batch.finished_at is not None
    ended = {word: _at(batch.finished_at) if batch.status == word else None for word in _ENDS}
    counts = {
        "total": batch.total,
        "completed": batch.completed + batch.done_now,
        "failed": batch.failed + batch.failed_now,
    }
    return {
        "id": asked.BATCH + batch.id.hex,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": errors,
        "input_file_id": asked.FILE + batch.input_file_id.hex,
        "completion_window": WINDOW,
        "status": batch.status,
        "output_file_id": asked.FILE + batch.output_file_id.hex if over and batch.completed else None,
        "error_file_id": asked.FILE + batch.error_file_id.hex if over and batch.failed else None,
        "created_at": _at(batch.created_at),
        "in_progress_at": _at(batch.in_progress_at),
        "expires_at": _at(batch.expires_at),
        "finalizing_at": _at(batch.finalizing_at),
        "completed_at": ended["completed"],
        "failed_at": ended["failed"],
        "expired_at": ended["expired"],
        "cancelling_at": _at(batch.cancelling_at),
        "cancelled_at": ended["cancelled"],
        "request_counts": counts,
        "metadata": orjson.loads(batch.metadata) or None,
    }


_ENDS = ("completed", "failed", "expired", "cancelled")


def _at(instant: datetime | None) -> int | None:
    return None if instant is None else int(instant.timestamp())
