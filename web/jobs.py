"""`/v1/jobs`: submit, list, read, cancel."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, Response, current_app, request

from llm_mcp.errors import InvalidInput
from llm_mcp.job import Status, Submission

from .body import Body
from .errors import job_id
from .reply import answer, job_object, service

blueprint = Blueprint("jobs", __name__, url_prefix="/v1/jobs")

_FIELDS = frozenset({"kind", "payload", "priority", "source", "max_attempts", "deadline_at", "delay_s"})
_MAX_PAGE = 200
_PAGE = 50


@blueprint.post("")
def submit() -> Response:
    """Accept a job: 202 with its id. The header `Idempotency-Key` makes a repeated submit return the first job."""
    body = Body(_FIELDS, limit_bytes=current_app.config["MAX_CONTENT_LENGTH"])
    new = service().submit(
        Submission(
            kind=body.text("kind"),
            payload=body.value("payload", {}),
            priority=body.integer("priority"),
            source=body.text("source"),
            max_attempts=body.integer("max_attempts"),
            deadline_at=body.instant("deadline_at"),
            delay_s=body.number("delay_s"),
            idempotency_key=request.headers.get("Idempotency-Key"),
        )
    )
    told: dict[str, object] = {"job_id": str(new)}
    if body.unknown:
        told["warnings"] = [f"unknown field {name!r} was ignored" for name in body.unknown[:20]]
    return answer(told, 202, {"Location": f"/v1/jobs/{new}"})


@blueprint.get("")
def page() -> Response:
    """List jobs, newest first: `status`, `kind` and `source` filter, `limit` and `cursor` page."""
    limit, status = _limit(), _status()
    jobs = service().page(
        limit=limit + 1,
        before=_cursor(),
        status=status,
        kind=request.args.get("kind"),
        source=request.args.get("source"),
    )
    more = len(jobs) > limit
    shown = jobs[:limit]
    items = [job_object(job, whole=False) for job in shown]
    return answer({"items": items, "next_cursor": str(shown[-1].id) if more else None})


@blueprint.get("/<text>")
def get(text: str) -> Response:
    """Return one job."""
    return answer(job_object(service().get(job_id(text))))


@blueprint.post("/<text>/cancel")
def cancel(text: str) -> Response:
    """End a job: 200 with it, 409 `already_finished`."""
    return answer(job_object(service().cancel(job_id(text))))


def _limit() -> int:
    text = request.args.get("limit", str(_PAGE))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MAX_PAGE):
        raise InvalidInput(f"must be a number from 1 to {_MAX_PAGE}", field="limit")
    return int(text)


def _status() -> Status | None:
    text = request.args.get("status")
    if not text:
        return None
    if text not in set(Status):
        raise InvalidInput(f"must be one of {', '.join(Status)}", field="status")
    return Status(text)


def _cursor() -> UUID | None:
    text = request.args.get("cursor")
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput("not a cursor of ours", field="cursor") from None
