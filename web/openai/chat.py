"""`POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Any

from flask import Response

from llm_mcp.dialect.completion import chat_completion
from llm_mcp.errors import InvalidInput, NoProvider
from llm_mcp.fleet import Fleet, Route

from ..fields import Field
from ..reply import service
from . import answering
from .asked import COMMON, UNSUPPORTED, Asked, objects
from .chunks import ChatChunks

_FORMATS = ("text", "json_object", "json_schema")
_MOST_TOP_LOGPROBS = 20
CHAT = (
    Field(name="messages", sort="array", required="messages_required", items=Field(sort="object")),
    *COMMON,
    Field(name="tools", sort="array", items=Field(sort="object"), about="Functions the model may call."),
    Field(
        name="tool_choice",
        sort="any",
        forms=(Field(sort="text", words=("none", "auto", "required"), required="invalid_value"), Field(sort="object")),
        about="none, auto, required, or one of `tools`.",
    ),
    Field(name="logprobs", sort="flag", unless=False, about="Have the tokens of the answer too."),
    Field(name="top_logprobs", sort="integer", least=0, most=_MOST_TOP_LOGPROBS, about="Needs `logprobs`."),
    Field(
        name="response_format",
        sort="object",
        fields=(
            Field(name="type", sort="text", required="invalid_value", words=_FORMATS),
            Field(name="json_schema", sort="object", about="Of a `json_schema`: `name`, `schema`, `strict`."),
        ),
        about="What form the answer is to have.",
    ),
)
"""What of a chat is read here."""


def create() -> Response:
    """Answer a chat, at once or as a stream."""
    jobs = service()
    asked = Asked.read(jobs.runtime.settings.max_body_bytes)
    if not asked.get("messages"):
        raise InvalidInput("is required", field="messages", code="messages_required")
    _check(asked)
    streams = asked.flag("stream")
    usage = asked.include_usage()
    route = routed(asked.text("model"), Fleet.of(jobs.runtime))
    asked.suits(route)
    if route.provider == "ollama":
        _check_parts(asked)
    # A cloud's thinking is kept in the result: a stream would have shown it too.
    thinking = {} if route.provider == "ollama" or asked.get("thinking") is not None else {"thinking": True}
    submission = asked.submission(route, stream=streams, **thinking)
    if streams:
        return answering.stream(jobs, submission, route, lambda job_id: ChatChunks(job_id, route.model, usage=usage))
    return answering.whole(jobs, submission, route, chat_completion)


def routed(model: str | None, fleet: Fleet) -> Route:
    """Return where a chat goes. Raises InvalidInput `no_model` when none is named and there is none to choose."""
    try:
        return fleet.route(model, "chat")
    except NoProvider as error:
        if model:
            raise
        raise InvalidInput(str(error), field="model", code="no_model") from None


def _check(asked: Asked) -> None:
    asked.one("n")
    asked.stop()
    for _ in objects(asked.get("messages"), "messages"):
        pass
    tools = dict(_tools(asked))
    choice = asked.get("tool_choice")
    if isinstance(choice, dict):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if choice.get("type") == "function" and name not in tools.values():
            raise InvalidInput("names no tool of this request", field="tool_choice", code="invalid_value")
    elif choice not in (None, "none", "auto", "required"):
        raise InvalidInput("must be none, auto, required or a tool", field="tool_choice", code="invalid_value")
    top = asked.integer("top_logprobs", 0, _MOST_TOP_LOGPROBS)
    if not asked.flag("logprobs") and top:
        raise InvalidInput("needs logprobs to be true", field="top_logprobs", code="invalid_value")
    _check_format(asked.get("response_format"))


def _tools(asked: Asked) -> Any:
    """Yield (place, name) of the request's functions."""
    for place, tool in objects([] if asked.get("tools") is None else asked.get("tools"), "tools"):
        function = tool.get("function")
        if tool.get("type", "function") != "function":
            continue
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidInput("must have a name", field=f"tools[{place}].function", code="invalid_value")
        yield place, function["name"]


def _check_format(wanted: Any) -> None:
    if wanted is None:
        return
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in _FORMATS:
        raise InvalidInput(f"must be one of {', '.join(_FORMATS)}", field="response_format.type", code="invalid_value")
    schema = wanted.get("json_schema")
    if kind == "json_schema" and not (isinstance(schema, dict) and isinstance(schema.get("schema"), dict)):
        raise InvalidInput("must hold a schema", field="response_format.json_schema", code="invalid_value")


def _check_parts(asked: Asked) -> None:
    """Refuse what Ollama's models cannot be shown: pictures at an address, which nobody fetches, sounds and files."""
    for place, tool in objects([] if asked.get("tools") is None else asked.get("tools"), "tools"):
        if tool.get("type", "function") != "function":
            raise InvalidInput("must be function", field=f"tools[{place}].type", code=UNSUPPORTED)
    for place, message in objects(asked.get("messages"), "messages"):
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else []):
            field = f"messages[{place}].content[{index}]"
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in ("text", "image_url", "refusal"):
                raise InvalidInput("must be text or image_url for a model on Ollama", field=field, code=UNSUPPORTED)
            address = part.get("image_url")
            address = address.get("url") if isinstance(address, dict) else address
            if kind == "image_url" and not (isinstance(address, str) and address.startswith("data:")):
                raise InvalidInput(
                    "a model on Ollama is shown pictures as data: URLs only", field=field, code=UNSUPPORTED
                )
