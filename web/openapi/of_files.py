"""The operations of files and batches."""

from __future__ import annotations

from typing import Any

from llm_mcp.dialect.lines import ENDPOINTS

from ..batches.batches import CREATE
from .of_jobs import IDEMPOTENCY
from .of_openai import HEX
from .parts import Operation, Schema, answer, body, link, of_table, parameter, ref
from .refusals import openais

FILES, BATCHES = "Files", "Batches"

_INT: Schema = {"type": "integer"}
_AT: Schema = {"type": ["integer", "null"], "description": "Unix time, s."}
_TEXT: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["string", "null"]}
_ATS = ("in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at")
_FILE: dict[str, Schema] = {
    "id": _TEXT,
    "object": {"const": "file"},
    "bytes": _INT,
    "created_at": _INT,
    "expires_at": _AT,
    "filename": _TEXT,
    "purpose": {"enum": ["batch", "batch_output"]},
    "status": {"const": "processed"},
    "status_details": {"type": "null"},
}
_BATCH: dict[str, Schema] = {
    "id": _TEXT,
    "object": {"const": "batch"},
    "endpoint": {"enum": list(ENDPOINTS)},
    "errors": {"type": ["object", "null"]},
    "input_file_id": _TEXT,
    "completion_window": {"const": "24h"},
    "status": {
        "enum": [
            *("validating", "in_progress", "finalizing", "completed"),
            *("failed", "expired", "cancelling", "cancelled"),
        ]
    },
    "output_file_id": _MAYBE,
    "error_file_id": _MAYBE,
    "created_at": _INT,
    **dict.fromkeys((*_ATS, "cancelled_at"), _AT),
    "request_counts": {
        "type": "object",
        "required": ["total", "completed", "failed"],
        "properties": dict.fromkeys(("total", "completed", "failed"), _INT),
    },
    "metadata": {"type": ["object", "null"]},
}


def whole(properties: dict[str, Schema]) -> Schema:
    """Return the schema of an object that has all of these fields, and no others."""
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def listed(item: str) -> Schema:
    """Return the schema of a page of a list."""
    fields: dict[str, Schema] = {"object": {"const": "list"}, "data": {"type": "array", "items": ref(item)}}
    return whole({**fields, "first_id": _MAYBE, "last_id": _MAYBE, "has_more": {"type": "boolean"}})


SCHEMAS: dict[str, Schema] = {
    "File": whole(_FILE),
    "FileList": listed("File"),
    "Batch": whole(_BATCH),
    "BatchList": listed("Batch"),
    "Deleted": whole({"id": _TEXT, "object": _TEXT, "deleted": {"const": True}}),
}
FILE_ID, BATCH_ID = f"file-{HEX}", f"batch_{HEX}"
_SHOWN: dict[str, Any] = {
    "id": FILE_ID,
    "object": "file",
    "bytes": 120,
    "created_at": 1764100813,
    "expires_at": None,
    "filename": "in.jsonl",
    "purpose": "batch",
    "status": "processed",
    "status_details": None,
}
_RUN: dict[str, Any] = {
    **dict.fromkeys(_BATCH),
    "id": BATCH_ID,
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "input_file_id": FILE_ID,
    "completion_window": "24h",
    "status": "validating",
    "created_at": 1764100813,
    "expires_at": 1764187213,
    "request_counts": {"total": 0, "completed": 0, "failed": 0},
}
_FORM: Schema = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {
            "type": "string",
            "contentMediaType": "application/octet-stream",
            "description": "One request a line.",
        },
        "purpose": {"const": "batch"},
        "expires_after[anchor]": {"const": "created_at"},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 30 * 86400},
    },
}
ORDER = parameter("order", "query", {"enum": ["asc", "desc"], "default": "desc"}, "By age.")


def page(after: str, unless_given: int, most: int) -> list[Schema]:
    """Return the parameters of a page."""
    limit: Schema = {"type": "integer", "minimum": 1, "maximum": most, "default": unless_given}
    return [parameter("after", "query", _TEXT, after), parameter("limit", "query", limit)]


def page_of(shown: Any, name: str) -> dict[str, Any]:
    """Return the example of a page of one."""
    return {"object": "list", "data": [shown], "first_id": name, "last_id": name, "has_more": False}


def _id(example: str, of: str) -> Schema:
    return parameter("id", "path", {"type": "string"}, f"The {of}.", example=example)


def _operation(tag: str, name: str, summary: str, **more: Any) -> Operation:
    return {"operationId": name, "tags": [tag], "summary": summary, **more}


_BEGIN = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": FILE_ID}
_FILE_LINKS = {
    "file": link("get_file", "What is known of it.", id="$response.body#/id"),
    "content": link("get_content", "Its bytes.", id="$response.body#/id"),
    "batch": link("create_batch", "Run its requests.", body={**_BEGIN, "input_file_id": "$response.body#/id"}),
    "delete": link("delete_file", "Delete it.", id="$response.body#/id"),
}
_BATCH_LINKS = {
    "batch": link("get_batch", "How far it is.", id="$response.body#/id"),
    "cancel": link("cancel_batch", "Have it end.", id="$response.body#/id"),
}
_BYTES: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}

PATHS: dict[str, dict[str, Operation]] = {
    "/v1/files": {
        "post": _operation(
            FILES,
            "add_file",
            "Take a file of requests",
            requestBody={"required": True, "content": {"multipart/form-data": {"schema": _FORM}}},
            responses={
                "200": {**answer("The file.", ref("File"), _SHOWN), "links": _FILE_LINKS},
                **openais(400, 413),
            },
        ),
        "get": _operation(
            FILES,
            "list_files",
            "List files",
            parameters=[
                *page("Begin after this file.", 1000, 10_000),
                ORDER,
                parameter("purpose", "query", _TEXT, "Only these."),
            ],
            responses={"200": answer("A page.", ref("FileList"), page_of(_SHOWN, FILE_ID)), **openais(400)},
        ),
    },
    "/v1/files/{id}": {
        "get": _operation(
            FILES,
            "get_file",
            "What is known of a file",
            parameters=[_id(FILE_ID, "file")],
            responses={"200": answer("The file.", ref("File"), _SHOWN), **openais(404)},
        ),
        "delete": _operation(
            FILES,
            "delete_file",
            "Delete a file",
            parameters=[_id(FILE_ID, "file")],
            responses={
                "200": answer("It is gone.", ref("Deleted"), {"id": FILE_ID, "object": "file", "deleted": True}),
                **openais(404, 409),
            },
        ),
    },
    "/v1/files/{id}/content": {
        "get": _operation(
            FILES,
            "get_content",
            "A file's bytes",
            parameters=[_id(FILE_ID, "file")],
            responses={"200": answer("Bytes.", _BYTES, kind="application/octet-stream"), **openais(404)},
        )
    },
    "/v1/batches": {
        "post": _operation(
            BATCHES,
            "create_batch",
            "Begin a batch of a file's requests",
            parameters=[IDEMPOTENCY],
            requestBody=body(of_table(CREATE), _BEGIN),
            responses={
                "200": {**answer("The batch.", ref("Batch"), _RUN), "links": _BATCH_LINKS},
                **openais(400, 413, 422, 429),
            },
        ),
        "get": _operation(
            BATCHES,
            "list_batches",
            "List batches, newest first",
            parameters=page("Begin after this batch.", 20, 100),
            responses={"200": answer("A page.", ref("BatchList"), page_of(_RUN, BATCH_ID)), **openais(400)},
        ),
    },
    "/v1/batches/{id}": {
        "get": _operation(
            BATCHES,
            "get_batch",
            "How far a batch is",
            parameters=[_id(BATCH_ID, "batch")],
            responses={"200": answer("The batch.", ref("Batch"), _RUN), **openais(404)},
        )
    },
    "/v1/batches/{id}/cancel": {
        "post": _operation(
            BATCHES,
            "cancel_batch",
            "Have a batch end",
            parameters=[_id(BATCH_ID, "batch")],
            responses={"200": answer("The batch.", ref("Batch"), _RUN), **openais(404, 409)},
        )
    },
}
