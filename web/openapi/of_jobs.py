"""The operations of jobs, of our own API."""

from __future__ import annotations

from typing import Any

from llm_mcp.job import Reason, Status

from ..jobs import SUBMIT
from .parts import SSE, Operation, Schema, answer, body, headers, link, of_table, parameter, ref
from .refusals import ours

ID = "01a2144b-5d20-70a6-afc6-473eda9a8dd9"
TAG = "Jobs"

_AT: Schema = {"type": "string", "format": "date-time"}
_ITEM: dict[str, Schema] = {
    "id": {"type": "string", "format": "uuid"},
    "kind": {"type": "string"},
    "status": {"enum": list(Status)},
    "attempts": {"type": "integer", "minimum": 0},
    "max_attempts": {"type": "integer"},
    "priority": {"type": "integer"},
    "source": {"type": "string"},
    "queue": {"type": "string"},
    "queued_at": _AT,
    "updated_at": _AT,
    "reason": {"enum": list(Reason), "description": "Why it ended in `error`."},
    "error": {"type": "string"},
    "lease_until": _AT,
    "deadline_at": _AT,
    "finished_at": _AT,
    "worker_id": {"type": "string"},
    "warnings": {"type": "array", "items": {"type": "string"}},
}
_ALWAYS = ["id", "kind", "status", "attempts", "max_attempts", "priority", "source", "queue", "queued_at", "updated_at"]
WARNINGS: Schema = {
    "type": "array",
    "items": {"type": "string"},
    "description": "What was ignored, and what else to know.",
}
SCHEMAS: dict[str, Schema] = {
    "Job": {
        "type": "object",
        "required": [*_ALWAYS, "payload"],
        "properties": {**_ITEM, "payload": {}, "result": {"description": "Any JSON, once it is done."}},
        "additionalProperties": False,
    },
    "JobItem": {"type": "object", "required": _ALWAYS, "properties": _ITEM, "additionalProperties": False},
    "JobPage": {
        "type": "object",
        "required": ["items", "next_cursor"],
        "properties": {
            "items": {"type": "array", "items": ref("JobItem")},
            "next_cursor": {"type": ["string", "null"], "description": "For the next page, as `cursor`."},
            "warnings": WARNINGS,
        },
        "additionalProperties": False,
    },
    "Submitted": {
        "type": "object",
        "required": ["job_id"],
        "properties": {"job_id": {"type": "string", "format": "uuid"}, "warnings": WARNINGS},
        "additionalProperties": False,
    },
}
ITEM: dict[str, Any] = {
    "id": ID,
    "kind": "echo",
    "status": "done",
    "attempts": 1,
    "max_attempts": 3,
    "priority": 0,
    "source": "",
    "queue": "default",
    "queued_at": "2026-11-25T20:00:13.148547Z",
    "updated_at": "2026-11-25T20:00:13.212934Z",
    "finished_at": "2026-11-25T20:00:13.212934Z",
}
JOB: dict[str, Any] = {**ITEM, "payload": {"n": 7}, "result": {"ok": True, "echo": {"n": 7}}}
_CANCELLED = {**ITEM, "status": "error", "attempts": 0, "reason": "cancelled", "error": "cancelled", "payload": {}}
IDEMPOTENCY = parameter(
    "Idempotency-Key",
    "header",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -+\\--~]+$"},
    "The same request again gets the first one's job; another request with it is 422.",
)
PATH_ID = parameter("id", "path", {"type": "string", "format": "uuid"}, "The job: a lower-case UUID.", example=ID)
_PLACE: Schema = {"type": "string", "pattern": "^[0-9]{1,10}:[0-9]{1,10}$"}
_AFTER = [
    parameter("Last-Event-ID", "header", _PLACE, "`<attempt>:<seq>` of the last event seen: go on after it."),
    parameter("starting_after", "query", _PLACE, "The same, for who cannot set headers."),
]
_EVENTS = (
    "Each event has a line `data:` of JSON. `status` (the job), `queue` (its place in line), `delta` (a piece of the "
    "answer), `progress`, `usage`, `reset` (another attempt began: forget the text), `end` (the job is finished), "
    "`bye` (this process stops: come back), `error`. Events with an `id`, `<attempt>:<seq>`, can be gone on after, on "
    "any process, after any restart: a stream that ends without `end` is to be resumed. A comment comes every 15 s."
)
_STREAM = (
    f'event: status\ndata: {{"id":"{ID}","kind":"echo","status":"done"}}\n\nevent: end\ndata: {{"status":"done"}}\n\n'
)

_LINKS = {
    "job": link("get_job", "The job itself.", id="$response.body#/job_id"),
    "stream": link("stream_job", "Its life as it happens.", id="$response.body#/job_id"),
    "cancel": link("cancel_job", "End it.", id="$response.body#/job_id"),
}

PATHS: dict[str, dict[str, Operation]] = {
    "/v1/jobs": {
        "post": {
            "operationId": "submit_job",
            "tags": [TAG],
            "summary": "Submit a job",
            "description": "202 says that the job is a committed row. Names of fields match in any case; one that is "
            "not known is ignored, and named in `warnings`.",
            "parameters": [IDEMPOTENCY],
            "requestBody": body(of_table(SUBMIT), {"kind": "echo", "payload": {"n": 7}, "source": "docs"}),
            "responses": {
                "202": {
                    **headers(answer("It is a job.", ref("Submitted"), {"job_id": ID}), Location="The job's path."),
                    "links": _LINKS,
                },
                **ours(400, 413, 422, 429),
            },
        },
        "get": {
            "operationId": "list_jobs",
            "tags": [TAG],
            "summary": "List jobs, newest first",
            "description": "Without payloads and results. A parameter that is empty filters nothing.",
            "parameters": [
                parameter("status", "query", {"enum": ["", *Status]}, "Only these."),
                parameter("kind", "query", {"type": "string"}, "Only these."),
                parameter("source", "query", {"type": "string"}, "Only these."),
                parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}),
                parameter("cursor", "query", {"type": "string", "format": "uuid"}, "`next_cursor` of the page before."),
            ],
            "responses": {
                "200": answer("A page.", ref("JobPage"), {"items": [ITEM], "next_cursor": None}),
                **ours(400),
            },
        },
    },
    "/v1/jobs/{id}": {
        "get": {
            "operationId": "get_job",
            "tags": [TAG],
            "summary": "Read a job, or wait for it",
            "parameters": [
                PATH_ID,
                parameter(
                    "wait_s",
                    "query",
                    {"type": "number", "minimum": 0, "maximum": 60, "default": 0},
                    "Answer as soon as it is finished, after so many seconds in any case; three decimals at most.",
                ),
            ],
            "responses": {"200": answer("The job.", ref("Job"), JOB), **ours(400, 404)},
        }
    },
    "/v1/jobs/{id}/cancel": {
        "post": {
            "operationId": "cancel_job",
            "tags": [TAG],
            "summary": "End a job",
            "description": "A running call is cut at its socket.",
            "parameters": [PATH_ID],
            "responses": {
                "200": answer("The job, ended.", ref("Job"), _CANCELLED),
                **ours(404, 409),
            },
        }
    },
    "/v1/jobs/{id}/stream": {
        "get": {
            "operationId": "stream_job",
            "tags": [TAG],
            "summary": "A job's life as it happens, as server-sent events",
            "description": _EVENTS,
            "parameters": [PATH_ID, *_AFTER],
            "responses": {
                "200": {
                    "description": "Events; of an unknown job a single `error`.",
                    "content": {SSE: {"example": _STREAM}},
                },
                **ours(400, 404),
            },
        }
    },
    "/v1/jobs/{id}/ws": {
        "get": {
            "operationId": "follow_job",
            "tags": [TAG],
            "summary": "The same over a WebSocket",
            "description": 'Each event is a text of JSON: `{"event": "delta", "id": "1:7", "data": {…}}`. The client '
            'may send `{"type": "cancel"}`, 4,096 bytes at most; anything else is answered by an `error`.',
            "parameters": [PATH_ID, *_AFTER],
            "responses": {
                "101": answer("The protocol is switched to WebSocket, version 13."),
                **ours(400, 404, 426),
            },
        }
    },
}
