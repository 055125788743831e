"""`/v1/workers`: register, claim, heartbeat, events, complete, fail, for workers in any language."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from llm_mcp import strictjson
from llm_mcp.errors import InvalidInput, TooLarge
from llm_mcp.remote import Claimed, Described, Remote, Waiter

from . import ids
from .body import Body
from .fields import Field, Table, sort_out
from .reply import answer, job_object, service
from .streams import streams

blueprint = Blueprint("workers", __name__, url_prefix="/v1")

_ID = "worker_id_job_id_required"
_A_CENTURY_S = 365 * 100 * 86400
_HELD = (
    Field(name="worker_id", sort="text", required=_ID, longest=200, about="Who speaks."),
    Field(name="job_id", sort="text", required=_ID, about="Of which job."),
    Field(
        name="lease_token",
        sort="integer",
        about="What the claim returned. Without it (or with 0) one speaks for the lease that one holds now.",
    ),
)
_METRICS = Field(name="metrics", sort="object", about="Figures of the attempt, 64 KiB of JSON at most.")
_SAID = tuple(
    Field(name=name, sort="text", longest=200, about=about)
    for name, about in (
        ("id", "Its own name for itself; a blank one gets a new id."),
        ("name", "What people call it."),
        ("platform", "Its operating system."),
        ("arch", "Its processor."),
        ("host", "Its name in the network."),
    )
)
REGISTER = (
    Field(
        name="worker",
        sort="object",
        about="What a worker's machine says of itself.",
        fields=(*_SAID, Field(name="tags", sort="object", about="Anything else, 64 KiB of JSON at most.")),
    ),
)
CLAIM = (
    Field(name="worker_id", sort="text", required="worker_id_required", longest=200, about="Who claims."),
    Field(
        name="kinds",
        sort="array",
        longest=1000,
        items=Field(sort="text", longest=200),
        about="Kinds it can run; none: every kind.",
    ),
    Field(
        name="lease_seconds",
        sort="integer",
        unless=60,
        about="How long the lease is to be, s: 0 or less is 60, more than an hour is an hour.",
    ),
    Field(name="wait_s", sort="number", least=0, most=60, unless=0, about="How long to wait when there is nothing, s."),
    Field(
        name="claim_id",
        sort="uuid",
        about="A UUID of the client's own for each job it wants: the same claim again brings the same job.",
    ),
)
HEARTBEAT = (*_HELD, Field(name="extend_seconds", sort="integer", unless=30, about="The lease from now on, s."))
_EVENT = (
    Field(
        name="seq", sort="integer", required="invalid_json", least=1, most=2**31 - 1, about="Rises from event to event."
    ),
    Field(
        name="type", sort="text", required="invalid_json", words=("delta", "progress", "usage"), about="What it tells."
    ),
    Field(
        name="data",
        sort="object",
        required="invalid_json",
        about="A delta has `text`, `thinking` or `tool_calls`; a progress has `fraction`, 0 to 1.",
    ),
)
EVENTS = (
    *_HELD,
    Field(
        name="events",
        sort="array",
        required="invalid_json",
        longest=500,
        items=Field(sort="object", fields=_EVENT),
        about="They go on where those of the attempt end; those that are there already are passed over.",
    ),
)
COMPLETE = (*_HELD, Field(name="result", sort="any", unless={}, about="Any JSON."), _METRICS)
FAIL = (
    *_HELD,
    Field(name="error", sort="text", about="What went wrong; the first 2,000 characters are kept."),
    _METRICS,
    Field(name="retryable", sort="flag", unless=True, about="Whether another try may help."),
    Field(
        name="retry_after_s",
        sort="number",
        least=0,
        most=_A_CENTURY_S,
        unless=0,
        about="Before what time no other try makes sense, s.",
    ),
)
OFFLINE = (
    Field(name="device_id", sort="text", required="device_id_required", longest=200, about="Which machine."),
    Field(name="reason", sort="text", about="Why it is away."),
)


@blueprint.post("/workers/register")
def register() -> Response:
    """Write down what a worker's machine says of itself: 200 with the worker's id, a new one for a blank one."""
    body = _body(REGISTER)
    said = body.object("worker")
    texts = {field.name: said.get(field.name) or "" for field in _SAID}
    described = Described(tags=strictjson.dumps(said.get("tags") or {}), **texts)
    return _told(body, {"worker_id": _remote().register(described)})


@blueprint.post("/workers/claim")
def claim() -> Response:
    """Lease a job: 200 with it, `{}` when there is none, at once or after `wait_s` seconds."""
    body, waiter = _body(CLAIM), Waiter()
    wait_s, claim_id = body.number("wait_s"), _claim_id(body)
    asked: dict[str, Any] = {
        "worker_id": body.text("worker_id"),
        "kinds": body.array("kinds"),
        "lease_s": float(body.integer("lease_seconds")),
        "claim_id": claim_id,
        "waiter": waiter,
    }
    remote = _remote()
    if wait_s == 0:
        return _told(body, _claimed(remote.claim(**asked)))
    place = streams().enter()
    try:
        place.watch(request.environ.get("gunicorn.socket"), waiter.nudge)
        found = remote.claim(wait_s=wait_s, **asked)
        if found is not None and place.gone and claim_id is None:  # with one, it will ask again
            remote.give_back(found)
    finally:
        place()
    return _told(body, _claimed(found))


@blueprint.post("/workers/heartbeat")
def heartbeat() -> Response:
    """Prolong a lease: 200 with its length, 409 `lease_lost`."""
    body = _body(HEARTBEAT)
    extend_s = float(body.integer("extend_seconds"))
    lease_s = _remote().heartbeat(*_held(body), extend_s=extend_s, token=_token(body))
    return _told(body, {"ok": True, "lease_seconds": round(lease_s)})


@blueprint.post("/workers/events")
def events() -> Response:
    """Add numbered events to the attempt's stream: 200 with the number of the last, 409 `lease_lost`."""
    body = _body(EVENTS, tolerant=True)
    added = _remote().events(*_held(body), _items(body), token=_token(body))
    return _told(body, {"ok": True, "last": added.last, **({"truncated": True} if added.truncated else {})})


@blueprint.post("/workers/complete")
def complete() -> Response:
    """Hand in a result: 200, again too; 409 `lease_lost`; 413 for one that is too large."""
    try:
        body = _body(COMPLETE, tolerant=True)
    except (RequestEntityTooLarge, TooLarge):
        limit = service().runtime.settings.max_body_bytes
        raise TooLarge(f"over {limit} bytes", field="result", code="body_too_large") from None
    warnings = _remote().complete(
        *_held(body), result=body.value("result", {}), metrics=body.object("metrics"), token=_token(body)
    )
    return _told(body, {"ok": True}, warnings=warnings)


@blueprint.post("/workers/fail")
def fail() -> Response:
    """Report a failure: 200 with where the job went; 409 `lease_lost`."""
    body = _body(FAIL, tolerant=True)
    failed = _remote().fail(
        *_held(body),
        error=body.text("error"),
        metrics=body.object("metrics"),
        token=_token(body),
        retryable=body.flag("retryable", unless=True),
        retry_after_s=body.number("retry_after_s"),
    )
    stale = ["nothing was changed: this worker's lease on the job had ended"] if failed.stale else []
    return _told(body, {"ok": True, "status": failed.status}, warnings=stale)


@blueprint.post("/devices/offline")
def offline() -> Response:
    """Write down that a machine is away, and why: 200, also for one we do not know."""
    body = _body(OFFLINE)
    _remote().offline(body.text("device_id"), reason=body.text("reason"))
    return _told(body, {"ok": True})


def _remote() -> Remote:
    return Remote.of(service().runtime)


def _body(table: Table, *, tolerant: bool = False) -> Body:
    return Body(table, limit_bytes=service().runtime.settings.max_body_bytes, tolerant=tolerant)


def _told(body: Body, told: dict[str, Any], *, warnings: list[str] | None = None) -> Response:
    said = [*body.warnings, *(warnings or [])]
    return answer({**told, **({"warnings": said} if said else {})})


def _claimed(found: Claimed | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {"job": job_object(found.job), "lease_token": found.token, "lease_seconds": round(found.lease_s)}


def _held(body: Body) -> tuple[str, UUID]:
    """Return the worker and the job a body speaks of."""
    return body.text("worker_id"), ids.job_id(body.text("job_id"))


def _token(body: Body) -> int | None:
    """Return the lease's token. 0 is none: some languages cannot leave a number out."""
    return body.integer("lease_token") or None


def _claim_id(body: Body) -> UUID | None:
    text = body.text("claim_id")
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput("must be a UUID", field="claim_id") from None


def _items(body: Body) -> list[tuple[int, str, Any]]:
    items = (sort_out(one, _EVENT)[0] for one in body.array("events"))
    return [(one["seq"], one["type"], one["data"]) for one in items]
