"""The operations of workers in any language."""

from __future__ import annotations

from typing import Any

from ..fields import Table
from ..workers import CLAIM, COMPLETE, EVENTS, FAIL, HEARTBEAT, OFFLINE, REGISTER
from .of_jobs import ID, ITEM, WARNINGS
from .parts import Operation, Schema, answer, body, link, of_table, ref
from .refusals import ours

TAG = "Workers"

_OK: Schema = {"const": True}
_LEASE: Schema = {"type": "integer", "minimum": 1, "description": "How long the lease is, s."}


def _told(required: tuple[str, ...], **properties: Schema) -> Schema:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**properties, "warnings": WARNINGS},
        "additionalProperties": False,
    }


SCHEMAS: dict[str, Schema] = {
    "Registered": _told(("worker_id",), worker_id={"type": "string"}),
    "Claimed": _told((), job=ref("Job"), lease_token={"type": "integer"}, lease_seconds=_LEASE),
    "Beaten": _told(("ok", "lease_seconds"), ok=_OK, lease_seconds=_LEASE),
    "Added": _told(
        ("ok", "last"),
        ok=_OK,
        last={"type": "integer", "description": "The number of the last event there is."},
        truncated={"const": True, "description": "The stream is over its bounds and ends here."},
    ),
    "Done": _told(("ok",), ok=_OK),
    "Failed": _told(("ok", "status"), ok=_OK, status={"type": "string", "description": "Where the job went."}),
}
_HELD = {"worker_id": "acme-1", "job_id": ID, "lease_token": 17}
_LEASED = {"worker_id": "$request.body#/worker_id", "job_id": "$response.body#/job/id"}
_CLAIMED: dict[str, Any] = {
    "job": {
        **{name: value for name, value in ITEM.items() if name != "finished_at"},
        "status": "running",
        "payload": {"text": "hello"},
        "lease_until": "2026-11-25T20:00:43.148547Z",
        "worker_id": "acme-1",
    },
    "lease_token": 17,
    "lease_seconds": 30,
}
_LINKS = {
    "beat": link("beat", "Keep the lease.", body=_LEASED),
    "complete": link("complete_job", "Hand in the result.", body={**_LEASED, "result": {}}),
    "fail": link("fail_job", "Report a failure.", body={**_LEASED, "error": "no"}),
}


def _operation(
    name: str, summary: str, table: Table, example: Any, told: str, shown: Any, *, about: str = "", held: bool = False
) -> dict[str, Operation]:
    operation: Operation = {
        "operationId": name,
        "tags": [TAG],
        "summary": summary,
        "requestBody": body(of_table(table), example),
        "responses": {
            "200": answer("Done.", ref(told), shown),
            **ours(400, 413, *((404, 409) if held else ())),
        },
    }
    if about:
        operation["description"] = about
    return {"post": operation}


PATHS: dict[str, dict[str, Operation]] = {
    "/v1/workers/register": _operation(
        "register_worker",
        "Say what a machine is",
        REGISTER,
        {"worker": {"id": "acme-1", "name": "Acme", "tags": {"gpu": "none"}}},
        "Registered",
        {"worker_id": "acme-1"},
    ),
    "/v1/workers/claim": _operation(
        "claim_job",
        "Lease a job",
        CLAIM,
        {"worker_id": "acme-1", "kinds": ["acme.shout"], "lease_seconds": 30, "wait_s": 20},
        "Claimed",
        _CLAIMED,
        about="`{}` when there is nothing.",
    ),
    "/v1/workers/heartbeat": _operation(
        "beat",
        "Keep a lease",
        HEARTBEAT,
        {**_HELD, "extend_seconds": 60},
        "Beaten",
        {"ok": True, "lease_seconds": 60},
        held=True,
    ),
    "/v1/workers/events": _operation(
        "add_events",
        "Add events to the job's stream",
        EVENTS,
        {**_HELD, "events": [{"seq": 1, "type": "delta", "data": {"text": "HEL"}}]},
        "Added",
        {"ok": True, "last": 1},
        held=True,
    ),
    "/v1/workers/complete": _operation(
        "complete_job",
        "Hand in a result",
        COMPLETE,
        {**_HELD, "result": {"response": "HELLO"}, "metrics": {"ms": 12}},
        "Done",
        {"ok": True},
        about="May be repeated. A result is never refused over its characters: `warnings` says what was changed.",
        held=True,
    ),
    "/v1/workers/fail": _operation(
        "fail_job",
        "Report a failure",
        FAIL,
        {**_HELD, "error": "nothing to shout", "retryable": False},
        "Failed",
        {"ok": True, "status": "error"},
        held=True,
    ),
    "/v1/devices/offline": _operation(
        "device_offline",
        "Say that a machine is away",
        OFFLINE,
        {"device_id": "acme-1", "reason": "no answer"},
        "Done",
        {"ok": True},
    ),
}
PATHS["/v1/workers/claim"]["post"]["responses"]["200"]["links"] = _LINKS
