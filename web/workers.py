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
from .reply import answer, job_object, service
from .streams import streams

blueprint = Blueprint("workers", __name__, url_prefix="/v1")

_WORKER = ("id", "name", "platform", "arch", "host", "tags")
_HELD = frozenset({"worker_id", "job_id", "lease_token"})
_CLAIM = frozenset({"worker_id", "kinds", "lease_seconds", "wait_s", "claim_id"})
_FAIL = _HELD | {"error", "metrics", "retryable", "retry_after_s"}


@blueprint.post("/workers/register")
def register() -> Response:
    """Write down what a worker's machine says of itself: 200 with the worker's id, a new one for a blank one."""
    body = _body(frozenset({"worker"}))
    given = body.value("worker", None)
    if given is not None and not isinstance(given, dict):
        raise InvalidInput("must be an object", field="worker", code="invalid_json")
    fields = {name.lower(): value for name, value in (given or {}).items()}
    texts = {name: fields.get(name) for name in _WORKER if name != "tags"}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise InvalidInput("must be text", field=f"worker.{name}", code="invalid_json")
    tags = fields.get("tags")
    if tags is not None and not isinstance(tags, dict):
        raise InvalidInput("must be an object", field="worker.tags", code="invalid_json")
    described = Described(tags=strictjson.dumps(tags or {}), **{name: text or "" for name, text in texts.items()})
    unknown = [f"worker.{name}" for name in fields if name not in _WORKER]
    return _told(body, {"worker_id": _remote().register(described)}, unknown=unknown)


@blueprint.post("/workers/claim")
def claim() -> Response:
    """Lease a job: 200 with it, `{}` when there is none, at once or after `wait_s` seconds."""
    body, waiter = _body(_CLAIM), Waiter()
    wait_s, claim_id = body.number("wait_s"), _claim_id(body)
    asked: dict[str, Any] = {
        "worker_id": body.text("worker_id"),
        "kinds": _kinds(body),
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
    body = _body(_HELD | {"extend_seconds"})
    extend_s = float(body.integer("extend_seconds"))
    lease_s = _remote().heartbeat(*_held(body), extend_s=extend_s, token=_token(body))
    return _told(body, {"ok": True, "lease_seconds": round(lease_s)})


@blueprint.post("/workers/events")
def events() -> Response:
    """Add numbered events to the attempt's stream: 200 with the number of the last, 409 `lease_lost`."""
    body = _body(_HELD | {"events"}, tolerant=True)
    added = _remote().events(*_held(body), _items(body), token=_token(body))
    return _told(body, {"ok": True, "last": added.last, **({"truncated": True} if added.truncated else {})})


@blueprint.post("/workers/complete")
def complete() -> Response:
    """Hand in a result: 200, again too; 409 `lease_lost`; 413 for one that is too large."""
    try:
        body = _body(_HELD | {"result", "metrics"}, tolerant=True)
    except (RequestEntityTooLarge, TooLarge):
        limit = service().runtime.settings.max_body_bytes
        raise TooLarge(f"over {limit} bytes", field="result", code="body_too_large") from None
    warnings = _remote().complete(
        *_held(body), result=body.value("result", {}), metrics=_metrics(body), token=_token(body)
    )
    return _told(body, {"ok": True}, warnings=warnings)


@blueprint.post("/workers/fail")
def fail() -> Response:
    """Report a failure: 200 with where the job went; 409 `lease_lost`."""
    body = _body(_FAIL, tolerant=True)
    retryable = body.value("retryable", None)
    if not (retryable is None or isinstance(retryable, bool)):
        raise InvalidInput("must be true or false", field="retryable", code="invalid_json")
    after_s = body.number("retry_after_s")
    if not 0 <= after_s < float("inf"):
        raise InvalidInput("must be 0 or more", field="retry_after_s")
    failed = _remote().fail(
        *_held(body),
        error=body.text("error"),
        metrics=_metrics(body),
        token=_token(body),
        retryable=retryable is not False,
        retry_after_s=after_s,
    )
    stale = ["nothing was changed: this worker's lease on the job had ended"] if failed.stale else []
    return _told(body, {"ok": True, "status": failed.status}, warnings=stale)


@blueprint.post("/devices/offline")
def offline() -> Response:
    """Write down that a machine is away, and why: 200, also for one we do not know."""
    body = _body(frozenset({"device_id", "reason"}))
    _remote().offline(body.text("device_id"), reason=body.text("reason"))
    return _told(body, {"ok": True})


def _remote() -> Remote:
    return Remote.of(service().runtime)


def _body(known: frozenset[str], *, tolerant: bool = False) -> Body:
    return Body(known, limit_bytes=service().runtime.settings.max_body_bytes, tolerant=tolerant)


def _told(
    body: Body, told: dict[str, Any], *, unknown: list[str] | None = None, warnings: list[str] | None = None
) -> Response:
    ignored = [f"unknown field {name[:100]!r} was ignored" for name in (unknown or [])[:20]]
    said = [*body.warnings, *ignored, *(warnings or [])]
    return answer({**told, **({"warnings": said} if said else {})})


def _claimed(found: Claimed | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {"job": job_object(found.job), "lease_token": found.token, "lease_seconds": round(found.lease_s)}


def _held(body: Body) -> tuple[str, UUID]:
    """Return the worker and the job a body speaks of."""
    worker_id, job_id = body.text("worker_id"), body.text("job_id")
    for name, text in (("worker_id", worker_id), ("job_id", job_id)):
        if not text.strip():
            raise InvalidInput("must not be blank", field=name, code="worker_id_job_id_required")
    return worker_id, ids.job_id(job_id)


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


def _kinds(body: Body) -> list[str]:
    found = body.value("kinds", None)
    if found is None:
        return []
    if not isinstance(found, list):
        raise InvalidInput("must be an array of texts", field="kinds", code="invalid_json")
    for place, kind in enumerate(found):
        if not isinstance(kind, str):
            raise InvalidInput("must be text", field=f"kinds[{place}]", code="invalid_json")
    return found


def _metrics(body: Body) -> dict[str, Any]:
    found = body.value("metrics", None)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidInput("must be an object", field="metrics", code="invalid_json")
    return found


def _items(body: Body) -> list[tuple[int, str, Any]]:
    found = body.value("events", None)
    if not isinstance(found, list):
        raise InvalidInput("must be an array of events", field="events", code="invalid_json")
    items = []
    for place, one in enumerate(found):
        if not isinstance(one, dict):
            raise InvalidInput("must be an object", field=f"events[{place}]", code="invalid_json")
        seq, kind = one.get("seq"), one.get("type")
        if isinstance(seq, bool) or not isinstance(seq, int):
            raise InvalidInput("must be an integer", field=f"events[{place}].seq", code="invalid_json")
        if not isinstance(kind, str):
            raise InvalidInput("must be text", field=f"events[{place}].type", code="invalid_json")
        items.append((seq, kind, one.get("data")))
    return items
