"""What a submission must be to become a row: every door's is held against the same bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

from . import strictjson
from .errors import InvalidInput, TooLarge
from .job import AfterError, Submission
from .kinds import KINDS, Kind, check_name

FARTHEST = timedelta(days=365 * 100)
"""The longest span there is."""
MAX_NEEDS = 1000
"""Jobs that one may wait for."""
_INT4 = 2**31
_MAX_SOURCE_CHARS = 200
_MAX_KEY_CHARS = 255
_MAX_PRINCIPAL_CHARS = 128
_FARTHEST_S = FARTHEST.total_seconds()
_BYTES_PER_CHAR = 4  # at most, in UTF-8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check(submission: Submission, *, limit_bytes: int) -> tuple[Kind, str]:
    """Refuse what must not become a row; return the kind of what may, and its payload as JSON text.

    `limit_bytes` is the size of the largest payload, bytes. Raises InvalidInput naming the field, TooLarge.
    """
    kind = KINDS.get(submission.kind) or Kind(submission.kind)
    check_name(submission.kind)
    _check_int4("priority", submission.priority)
    _check_int4("max_attempts", submission.max_attempts)
    _check_text("source", submission.source, _MAX_SOURCE_CHARS)
    if not 0 <= submission.delay_s <= _FARTHEST_S:
        raise InvalidInput("must be between 0 and a hundred years", field="delay_s")
    if submission.idempotency_key is not None:
        _check_text("idempotency_key", submission.idempotency_key, _MAX_KEY_CHARS)
        if submission.idempotency_key == "":
            raise InvalidInput("must not be empty", field="idempotency_key")
    if submission.unique_s is not None:
        _check_span("unique_s", submission.unique_s)
        if submission.idempotency_key is None:
            raise InvalidInput("needs an idempotency_key that is to be unique", field="unique_s")
    if submission.principal is not None:
        check_principal(submission.principal)
    if submission.result_ttl_s is not None:
        _check_span("result_ttl_s", submission.result_ttl_s)
    if submission.deadline_at is not None:
        _check_deadline(submission.deadline_at)
    if submission.after or submission.after_error != "stop":
        _check_needs(submission)
    if submission.id is not None and not isinstance(submission.id, UUID):
        raise InvalidInput("must be a UUID", field="id")
    strictjson.check(submission.payload, root="payload")
    payload = strictjson.dumps(submission.payload)
    if len(payload) > limit_bytes // _BYTES_PER_CHAR and (size := len(payload.encode())) > limit_bytes:
        raise TooLarge(f"{size} bytes; the limit is {limit_bytes}", field="payload", code="body_too_large")
    kind.validate(submission.payload)
    return kind, payload


def check_principal(name: str, *, field: str = "principal") -> None:
    """Refuse what is no principal's name. Raises InvalidInput naming `field`."""
    if not (name.strip() and len(name) <= _MAX_PRINCIPAL_CHARS and name.isascii() and name.isprintable()):
        raise InvalidInput(f"must be 1 to {_MAX_PRINCIPAL_CHARS} printable ASCII characters", field=field)


def _check_int4(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not -_INT4 <= value < _INT4:
        raise InvalidInput("must be a 32-bit integer", field=name)


def _check_text(name: str, text: str, most: int) -> None:
    if not (len(text) <= most and text.isprintable()):
        raise InvalidInput(f"must be at most {most} printable characters", field=name)


def _check_span(name: str, seconds: float) -> None:
    if not 0 < seconds <= _FARTHEST_S:
        raise InvalidInput("must be over 0 and at most a hundred years", field=name)


def _check_needs(submission: Submission) -> None:
    if submission.after_error not in get_args(AfterError):
        raise InvalidInput("must be stop or run", field="after_error")
    if len(submission.after) > MAX_NEEDS:
        raise InvalidInput(f"names {len(submission.after)} jobs; the limit is {MAX_NEEDS}", field="after")
    for place, job_id in enumerate(submission.after):
        if not isinstance(job_id, UUID):
            raise InvalidInput("must be a job's id", field=f"after[{place}]")


def _check_deadline(deadline_at: datetime) -> None:
    if deadline_at.tzinfo is None:
        raise InvalidInput("must carry a time zone", field="deadline_at", code="invalid_deadline_at")
    if deadline_at > datetime.now(UTC) + FARTHEST:
        raise InvalidInput("is more than a hundred years away", field="deadline_at", code="invalid_deadline_at")
    if deadline_at < _EPOCH:
        raise InvalidInput("is before 1970", field="deadline_at", code="invalid_deadline_at")
