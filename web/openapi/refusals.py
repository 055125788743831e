"""What may go wrong, by the shape of the errors: ours, OpenAI's, Ollama's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .parts import Schema, answer, ref

_RETRY = {"Retry-After": {"description": "When to ask again, s.", "schema": {"type": "integer", "minimum": 1}}}
_WORDS = {
    "400": "The request is not as it should be: the error names the field.",
    "404": "No such thing.",
    "409": "Not in the state it is in.",
    "413": "Over the limit.",
    "422": "The idempotency key named another request before.",
    "426": "This path speaks WebSocket only.",
    "429": "Too many jobs wait.",
    "500": "Our fault, or a job that failed of itself.",
    "502": "The provider failed.",
    "503": "Something we need is away, or every place is taken.",
    "504": "Not answered in time; the job goes on, and its id is told.",
}
# Refused before any door hears of it, whatever the path.
_ANYWHERE = {
    "403": "A page of another site asks.",
    "408": "The request did not arrive in time.",
    "414": "The request line is too long.",
    "421": "The `Host` is no name of this server.",
    "431": "The headers are too large.",
    "503": "Every place for a connection is taken, or every thread has been busy for too long.",
}
SCHEMAS: dict[str, Schema] = {
    "Error": {
        "type": "object",
        "required": ["error", "message"],
        "properties": {
            "error": {"type": "string", "pattern": "^[a-z0-9_]+$", "description": "For machines."},
            "message": {"type": "string", "description": "For people."},
            "field": {"type": "string", "description": "The path of the field that is to blame."},
        },
        "additionalProperties": False,
    },
    "OpenAIError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"], "description": "The field that is to blame."},
                    "code": {"type": ["string", "null"]},
                },
                "additionalProperties": False,
            }
        },
        "additionalProperties": False,
    },
    "OllamaError": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string", "description": "Names the field that is to blame."}},
        "additionalProperties": False,
    },
}
_EXAMPLES: dict[str, Any] = {
    "Error": {"error": "invalid_json", "message": "must be text", "field": "source"},
    "OpenAIError": {
        "error": {
            "message": "messages: is required",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "messages_required",
        }
    },
    "OllamaError": {"error": "json: cannot unmarshal number into Go struct field ChatRequest.model of type string"},
}


def ours(*statuses: int) -> dict[str, Schema]:
    """Return the refusals of our own API."""
    return _refusals("Error", statuses)


def openais(*statuses: int, runs: bool = False) -> dict[str, Schema]:
    """Return the refusals in OpenAI's shape; `runs`: those of a call that is a job as well."""
    return _refusals("OpenAIError", statuses, runs=runs)


def ollamas(*statuses: int, runs: bool = False) -> dict[str, Schema]:
    """Return the refusals in Ollama's shape; `runs` as above."""
    return _refusals("OllamaError", statuses, runs=runs)


def _refusals(shape: str, statuses: tuple[int, ...], *, runs: bool = False) -> dict[str, Schema]:
    told = {status: answer(about, ref("Error")) for status, about in _ANYWHERE.items()}
    wanted = {*map(str, statuses), *(("400", "404", "409", "413", "422", "429", "500", "502", "504") if runs else ())}
    for status in sorted(wanted):
        told[status] = answer(_WORDS[status], ref(shape), _EXAMPLES[shape] if status == "400" else None)
    if runs:
        told["4XX"] = answer("What the provider refused, with its own status.", ref(shape))
    both: Mapping[str, Any] = ref("Error") if shape == "Error" else {"anyOf": [ref(shape), ref("Error")]}
    told["503"] = {**answer(_WORDS["503"], dict(both)), "headers": _RETRY}
    if "429" in told:
        told["429"] = {**told["429"], "headers": _RETRY}
    return dict(sorted(told.items()))
