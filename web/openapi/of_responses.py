"""The operations of responses."""

from __future__ import annotations

from typing import Any

from ..responses.door import CREATE
from .of_files import ORDER, listed, page, page_of
from .of_jobs import IDEMPOTENCY
from .of_openai import HEX, called
from .parts import Operation, Schema, answer, body, link, of_table, parameter, ref
from .refusals import openais

TAG = "Responses"
ID = f"resp_{HEX}"

_MAYBE: Schema = {"type": ["object", "null"]}
SCHEMAS: dict[str, Schema] = {
    "Response": {
        "type": "object",
        "required": ["id", "object", "created_at", "status", "error", "model", "output", "usage"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "response"},
            "created_at": {"type": "integer"},
            "status": {"enum": ["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]},
            "background": {"type": "boolean"},
            "error": _MAYBE,
            "incomplete_details": _MAYBE,
            "model": {"type": "string"},
            "output": {"type": "array", "items": {"type": "object", "required": ["id", "type"]}},
            "usage": _MAYBE,
        },
    },
    "InputItem": {"type": "object", "required": ["id", "type"], "properties": {"id": {"type": "string"}}},
    "InputItems": listed("InputItem"),
}
_SAID: dict[str, Any] = {
    "id": ID,
    "object": "response",
    "created_at": 1764100813,
    "status": "completed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "model": "qwen3:1.7b",
    "output": [{"id": f"msg_{HEX}", "type": "message", "content": [{"type": "output_text", "text": "Red."}]}],
    "usage": {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13},
}
_ASKED = {"id": f"in_{HEX}_0", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
_PATH = parameter("id", "path", {"type": "string"}, "The response.", example=ID)
_STREAM = (
    "As a stream: server-sent events, each with its `sequence_number`; whoever lost the connection goes on after one "
    "of them by `GET` with `starting_after`."
)
_EVENT = 'event: response.created\ndata: {"type":"response.created","sequence_number":0}\n\n'
_LINKS = {
    "response": link("get_response", "The response as it is.", id="$response.body#/id"),
    "items": link("list_input_items", "What it was asked.", id="$response.body#/id"),
    "cancel": link("cancel_response", "End it.", id="$response.body#/id"),
    "delete": link("delete_response", "Delete it.", id="$response.body#/id"),
}
_SHOWN = answer("The response.", ref("Response"), _SAID)


def _operation(name: str, summary: str, responses: dict[str, Schema], **more: Any) -> Operation:
    return {"operationId": name, "tags": [TAG], "summary": summary, **more, "responses": responses}


PATHS: dict[str, dict[str, Operation]] = {
    "/v1/responses": {
        "post": _operation(
            "create_response",
            "Answer a request",
            {"200": {**called(_SHOWN, streams=True, example=_EVENT), "links": _LINKS}, **openais(runs=True)},
            description=f"The response is a job. {_STREAM}",
            parameters=[IDEMPOTENCY],
            requestBody=body(of_table(CREATE), {"model": "qwen3:1.7b", "input": "Three colours?"}),
        )
    },
    "/v1/responses/{id}": {
        "get": _operation(
            "get_response",
            "A response as it is, or its stream",
            {"200": called(_SHOWN, streams=True, example=_EVENT), **openais(400, 404)},
            description=_STREAM,
            parameters=[
                _PATH,
                parameter("stream", "query", {"enum": ["true", "false"], "default": "false"}, "Have its stream."),
                parameter("starting_after", "query", {"type": "integer", "minimum": 0}, "Go on after this event."),
            ],
        ),
        "delete": _operation(
            "delete_response",
            "Delete a response",
            {
                "200": answer("It is gone.", ref("Deleted"), {"id": ID, "object": "response.deleted", "deleted": True}),
                **openais(404, 409),
            },
            parameters=[_PATH],
        ),
    },
    "/v1/responses/{id}/cancel": {
        "post": _operation(
            "cancel_response",
            "End a response",
            {"200": _SHOWN, **openais(400, 404, 409)},
            parameters=[_PATH],
        )
    },
    "/v1/responses/{id}/input_items": {
        "get": _operation(
            "list_input_items",
            "What a response was asked",
            {"200": answer("A page.", ref("InputItems"), page_of(_ASKED, f"in_{HEX}_0")), **openais(400, 404)},
            parameters=[_PATH, *page("Begin after this item.", 20, 100), ORDER],
        )
    },
}
