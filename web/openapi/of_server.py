"""The operations that tell of the server itself."""

from __future__ import annotations

from .parts import Operation, Schema, answer, ref
from .refusals import ours

TAG = "Server"

SCHEMAS: dict[str, Schema] = {
    "Health": {
        "type": "object",
        "required": ["status", "version"],
        "properties": {"status": {"enum": ["ok", "ready"]}, "version": {"type": "string"}},
        "additionalProperties": False,
    },
    "NotReady": {
        "type": "object",
        "required": ["error", "message", "reasons"],
        "properties": {
            "error": {"const": "not_ready"},
            "message": {"type": "string"},
            "reasons": {
                "type": "array",
                "items": {"enum": ["database_away", "schema_behind", "setup_error", "draining"]},
            },
        },
        "additionalProperties": False,
    },
}


def _health(name: str, summary: str, status: str = "ok") -> dict[str, Operation]:
    shown = {"status": status, "version": "2026.11.1"}
    return {
        "get": {
            "operationId": name,
            "tags": [TAG],
            "summary": summary,
            "description": "Any other method does the same.",
            "responses": {"200": answer("Yes.", ref("Health"), shown), **ours()},
        }
    }


PATHS: dict[str, dict[str, Operation]] = {
    "/health": _health("health", "Is the process there?"),
    "/livez": _health("livez", "Is the process there?"),
    "/version": _health("version", "Which version is it?"),
    "/readyz": _health("readyz", "Can the process do its work?", "ready"),
    "/openapi.json": {
        "get": {
            "operationId": "openapi",
            "tags": [TAG],
            "summary": "This document",
            "responses": {"200": answer("OpenAPI 3.1.", {"type": "object"}), **ours()},
        }
    },
    "/docs": {
        "get": {
            "operationId": "docs",
            "tags": [TAG],
            "summary": "This document as a page",
            "responses": {
                "200": answer("HTML, with nothing to be fetched.", {"type": "string"}, kind="text/html"),
                **ours(),
            },
        }
    },
}
_ready = PATHS["/readyz"]["get"]["responses"]
_ready["503"] = answer("No, and why.", {"anyOf": [ref("NotReady"), ref("Error")]})
