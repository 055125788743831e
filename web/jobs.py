"""`/v1/jobs`: submit, list, read, cancel."""

from __future__ import annotations

import re
from uuid import UUID

from flask import Blueprint, Response, request

from llm_mcp.errors import InvalidInput
from llm_mcp.job import Status, Submission

from . import ids
from .body import Body
from .fields import Field
from .idempotency import idempotency_key
from .reply import answer, job_object, service
from .streams import streams

blueprint = Blueprint("jobs", __name__, url_prefix="/v1/jobs")

_INT4 = 2**31
SUBMIT = (
    Field(name="kind", sort="text", required="kind_required", longest=200, about="Which actor runs it."),
    Field(name="payload", sort="any", unless={}, about="What the actor gets; `null` stays `null`."),
    Field(name="priority", sort="integer", least=-_INT4, most=_INT4 - 1, unless=0, about="Higher goes first."),
    Field(name="source", sort="text", longest=200, unless="", about="Who asks."),
    Field(
        name="max_attempts",
        sort="integer",
        least=-_INT4,
        most=_INT4 - 1,
        unless=0,
        about="Tries at most; 0: what the kind says, mostly 3; below 0: one.",
    ),
    Field(
        name="deadline_at",
        sort="instant",
        about="RFC 3339 with `T` and a zone, from 1970 to a hundred years ahead: a job is ended when it has passed.",
    ),
    Field(
        name="delay_s",
        sort="number",
        least=0,
        most=365 * 100 * 86400,
        unless=0,
        about="Seconds before it may start.",
    ),
)
"""The fields of a submission."""
_FILTERS = frozenset({"status", "kind", "source", "limit", "cursor"})
_MAX_PAGE = 200
_MAX_WAIT_S = 60
_SECONDS = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3})?")
_PAGE = 50


@blueprint.post("")
def submit() -> Response:
    """Accept a job: 202 with its id. The header `Idempotency-Key` makes a repeated submit return the first job."""
    jobs = service()
    body = Body(SUBMIT, limit_bytes=jobs.runtime.settings.max_body_bytes)
    new = jobs.submit(
        Submission(
            kind=body.text("kind"),
            payload=body.value("payload", {}),
            priority=body.integer("priority"),
            source=body.text("source"),
            max_attempts=body.integer("max_attempts"),
            deadline_at=body.instant("deadline_at"),
            delay_s=body.number("delay_s"),
            idempotency_key=idempotency_key(),
        )
    )
    told: dict[str, object] = {"job_id": str(new)}
    if body.warnings:
        told["warnings"] = body.warnings
    return answer(told, 202, {"Location": f"/v1/jobs/{new}"})


@blueprint.get("")
def page() -> Response:
    """List jobs, newest first: `status`, `kind` and `source` filter, `limit` and `cursor` page.

    An empty value filters nothing.
    """
    limit = _limit()
    jobs = service().page(
        limit=limit + 1, before=_cursor(), status=_status(), kind=_filter("kind"), source=_filter("source")
    )
    shown = jobs[:limit]
    listed: dict[str, object] = {
        "items": [job_object(job, whole=False) for job in shown],
        "next_cursor": str(shown[-1].id) if len(jobs) > limit else None,
    }
    unknown = sorted(set(request.args) - _FILTERS)
    if unknown:
        listed["warnings"] = [f"unknown parameter {name[:100]!r} was ignored" for name in unknown[:20]]
    return answer(listed)


@blueprint.get("/<text>")
def get(text: str) -> Response:
    """Return one job: at once, or with `wait_s` as soon as it is finished, after so many seconds in any case."""
    wanted, wait_s, jobs = ids.job_id(text), _wait_s(), service()
    job = jobs.get(wanted)
    if wait_s and not job.status.final:
        _await(wanted, wait_s)
        job = jobs.get(wanted)
    return answer(job_object(job))


@blueprint.post("/<text>/cancel")
def cancel(text: str) -> Response:
    """End a job: 200 with it, 409 `already_finished`."""
    return answer(job_object(service().cancel(ids.job_id(text))))


def _await(job_id: UUID, wait_s: float) -> None:
    """Wait until a job is finished, its client left or the process is about to stop, `wait_s` seconds at most."""
    waiter, place = service().waiter(job_id), streams().enter()
    try:
        place.watch(request.environ.get("gunicorn.socket"), waiter.nudge)
        waiter.final(timeout_s=wait_s)
    finally:
        place()


def _wait_s() -> float:
    text = request.args.get("wait_s") or "0"
    if not _SECONDS.fullmatch(text) or float(text) > _MAX_WAIT_S:
        raise InvalidInput(f"must be a number of seconds from 0 to {_MAX_WAIT_S}", field="wait_s")
    return float(text)


def _filter(name: str) -> str | None:
    text = request.args.get(name) or None
    if text is not None and not text.isprintable():
        raise InvalidInput("holds a control character", field=name)
    return text


def _limit() -> int:
    text = request.args.get("limit") or str(_PAGE)
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
    found = ids.read(text)
    if found is None:
        raise InvalidInput("not a cursor of ours", field="cursor")
    return found
