"""The routes of responses."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, Response, request

from llm_mcp.calls import Calls
from llm_mcp.dialect.items import listed
from llm_mcp.dialect.request import KEPT, Wanted
from llm_mcp.dialect.script import GENERATION
from llm_mcp.errors import InvalidInput, NoProvider
from llm_mcp.fleet import Fleet, Route
from llm_mcp.responses import Responses

from ..calls import JOB, ask, headers
from ..fields import Field
from ..idempotency import idempotency_key
from ..openai import errors
from ..openai.asked import Asked
from ..reply import answer, service
from .telling import stream

blueprint = Blueprint("responses", __name__, url_prefix="/v1/responses")
errors.install(blueprint)

_TEXT = Field(sort="text")
CREATE = (
    Field(
        name="input",
        sort="any",
        required="missing_required_parameter",
        forms=(_TEXT, Field(sort="array", required="missing_required_parameter", items=Field(sort="object"))),
        about="A text, or items: messages, calls of functions and what these gave.",
    ),
    Field(name="model", sort="text", about="One of `/v1/models`; none: one is chosen, and named."),
    Field(name="instructions", sort="text", about="What the model is told before all else."),
    Field(name="previous_response_id", sort="text", about="Go on from this one."),
    Field(name="stream", sort="flag", unless=False, about="Have the answer as it is written."),
    Field(name="background", sort="flag", unless=False, about="Answer at once with the response as it is."),
    Field(name="store", sort="flag", unless=True, about="Whether it can be asked for later."),
    Field(name="truncation", sort="text", words=("auto", "disabled")),
    Field(name="parallel_tool_calls", sort="flag"),
    Field(name="metadata", sort="object", about="16 entries of text at most."),
    Field(name="include", sort="array", items=_TEXT),
    Field(name="temperature", sort="number", least=0, most=2),
    Field(name="top_p", sort="number", least=0, most=1),
    Field(name="max_output_tokens", sort="integer", least=1, most=2**31 - 1),
    Field(name="top_logprobs", sort="integer", least=0, most=20),
    Field(
        name="reasoning",
        sort="object",
        fields=(
            Field(name="effort", sort="text", words=("none", "minimal", "low", "medium", "high", "xhigh", "max")),
            Field(name="summary", sort="text", words=("auto", "concise", "detailed")),
        ),
    ),
    Field(name="tools", sort="array", items=Field(sort="object"), about="Of type `function` only."),
    Field(name="tool_choice", sort="any", about="none, auto, required, or one of `tools`."),
    Field(
        name="text",
        sort="object",
        fields=(Field(name="format", sort="object", about="`text`, `json_object` or `json_schema`."),),
    ),
)
"""What of a request for a response is read, here and in `llm_mcp.dialect.request`."""
_PAGE, _MOST_PAGE = 20, 100
_MOST_GENERATIONS = 2**20


@blueprint.post("")
def create() -> Response:
    """Answer a request: whole, as a stream, or, in the background, with the response as it is now."""
    jobs = service()
    wanted = Wanted.read(Asked.read(jobs.runtime.settings.max_body_bytes).fields)
    streams = wanted.streams  # of the wrong type, it is refused before there is a job
    route = _route(wanted.model, Fleet.of(jobs.runtime))
    responses = Responses(jobs)
    history = responses.history(wanted.previous) if wanted.previous else []
    submission = wanted.submission(route, history, idempotency_key=idempotency_key())
    if wanted.background or streams:
        job_id = Calls(jobs).submit(submission)
        if streams:
            patience_s = None if wanted.background else jobs.runtime.settings.call_timeout_s
            return stream(jobs, job_id, patience_s=patience_s, headers=headers(job_id, route))
        return answer(responses.shown(_found(responses, job_id)), headers=headers(job_id, route))
    answered = ask(jobs, submission)
    shown = responses.shown(_found(responses, answered.job_id))
    return answer(shown, headers=headers(answered.job_id, route, answered))


@blueprint.get("/<name>")
def get(name: str) -> Response:
    """Return a response, or with `?stream=true` its stream, after the event `starting_after`."""
    jobs = service()
    responses = Responses(jobs)
    found = responses.get(name)
    if _flag("stream"):
        after = _number("starting_after", 0, _MOST_GENERATIONS * GENERATION)
        return stream(jobs, found.job_id, after=after, headers={JOB: str(found.job_id)})
    return answer(responses.shown(found), headers={JOB: str(found.job_id)})


@blueprint.post("/<name>/cancel")
def cancel(name: str) -> Response:
    """End a response that is not finished."""
    responses = Responses(service())
    return answer(responses.shown(responses.cancel(name)))


@blueprint.delete("/<name>")
def delete(name: str) -> Response:
    """Delete a response."""
    Responses(service()).delete(name)
    return answer({"id": name, "object": "response.deleted", "deleted": True})


@blueprint.get("/<name>/input_items")
def input_items(name: str) -> Response:
    """List what a response was asked: newest first unless `order=asc`, from the item `after` on, `limit` of them."""
    found = Responses(service()).get(name)
    items = listed(found.job_id, found.payload[KEPT].get("input"))
    order = request.args.get("order") or "desc"
    if order not in ("asc", "desc"):
        raise InvalidInput("must be asc or desc", field="order", code="invalid_value")
    if order == "desc":
        items.reverse()
    limit = _number("limit", 1, _MOST_PAGE) or _PAGE
    if after := request.args.get("after"):
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise InvalidInput("names no item of this response", field="after", code="invalid_value")
        items = items[places[0] + 1 :]
    page = items[:limit]
    return answer(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(items) > limit,
        }
    )


def _found(responses: Responses, job_id: UUID) -> Any:
    return responses.get(f"resp_{job_id.hex}")


def _route(model: str | None, fleet: Fleet) -> Route:
    try:
        return fleet.route(model, "chat")
    except NoProvider as error:
        if model:
            raise
        raise InvalidInput(str(error), field="model", code="no_model") from None


def _flag(name: str) -> bool:
    text = request.args.get(name) or "false"
    if text not in ("true", "false"):
        raise InvalidInput("must be true or false", field=name, code="invalid_value")
    return text == "true"


def _number(name: str, least: int, most: int) -> int | None:
    text = request.args.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and least <= int(text) <= most):
        raise InvalidInput(f"must be an integer from {least} to {most}", field=name, code="invalid_value")
    return int(text)
