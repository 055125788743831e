"""A request for a response: what it asks of the chat that will answer it, and what of it is kept for its reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_mcp.errors import InvalidInput
from llm_mcp.job import Submission
from llm_mcp.routing import Route

from .fields import UNSUPPORTED, Fields
from .items import messages_of

KEPT = "_response"
"""The field of a job's payload under which its request lies; providers are never sent it."""
SOURCE = "responses"
FORGET_S = 600.0
"""How long the answer of a response is kept that is not to be stored, s."""
_MOST_TOKENS = 2**31 - 1
_MOST_METADATA = 16
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# What the reader of a response is shown again as it was asked.
_SHOWN = (
    "background",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)
# Read here, and sent under a chat's own names; or no matter of a provider.
_TRANSLATED = frozenset(_SHOWN) | {"include", "model", "stream", "stream_options", "device_id"}
_CLOUDS = ("prompt_cache_key", "safety_identifier", "service_tier", "user")
_NOT_HERE = ("conversation", "prompt", "context_management")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a response. `read` has looked at everything that does not depend on who answers."""

    asked: Fields

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Wanted:
        """Take a request's JSON object. Raises InvalidInput naming the field."""
        asked = Fields(values)
        for name in _NOT_HERE:
            if asked.get(name) is not None:
                raise asked.wrong(name, "not supported", UNSUPPORTED)
        if asked.get("input") in (None, "", []):
            raise InvalidInput("is required", field="input", code="missing_required_parameter")
        asked.text("previous_response_id")
        asked.text("instructions")
        asked.word("truncation", "auto", "disabled")
        asked.flag("parallel_tool_calls")
        _metadata(asked)
        include = asked.get("include")
        if not (include is None or isinstance(include, list)):
            raise asked.wrong("include", "must be a list", "invalid_type")
        for place, name in enumerate(include or []):
            if not isinstance(name, str):
                raise InvalidInput("must be text", field=f"include[{place}]", code="invalid_type")
        wanted = cls(asked)
        if wanted.background and not wanted.store:
            raise asked.wrong("store", "a response in the background is stored: its answer is asked for later")
        return wanted

    @property
    def model(self) -> str | None:
        """The model's name as the client wrote it."""
        return self.asked.text("model")

    @property
    def streams(self) -> bool:
        """Whether the answer is to come as a stream."""
        return self.asked.flag("stream") is True

    @property
    def background(self) -> bool:
        """Whether nobody waits for it."""
        return self.asked.flag("background") is True

    @property
    def store(self) -> bool:
        """Whether it can be asked for later."""
        return self.asked.flag("store") is not False

    @property
    def previous(self) -> str | None:
        """The id of the response it goes on from."""
        return self.asked.text("previous_response_id")

    def submission(self, route: Route, history: Sequence[dict[str, Any]] = (), **options: Any) -> Submission:
        """Return the job of this request.

        Parameters: `history`, the messages of the conversation before it; `options`, further fields of the
        submission. Raises InvalidInput naming the field.
        """
        cloud = route.provider != "ollama"
        messages = [*history, *messages_of(self.asked, addresses=cloud)]
        if instructions := self.asked.text("instructions"):
            messages.insert(0, {"role": "system", "content": instructions})
        payload = {name: value for name, value in self.asked.values.items() if _passes(name)}
        payload.update(self._wishes(), messages=messages, stream=self.streams or self.background)
        if cloud:
            payload.update({name: self.asked.get(name) for name in _CLOUDS}, thinking=True)
        payload.update(route.payload)
        payload[KEPT] = {name: self.asked.get(name) for name in _SHOWN if self.asked.get(name) is not None}
        return Submission(
            kind=route.kind,
            payload={name: value for name, value in payload.items() if value is not None},
            result_ttl_s=None if self.store else FORGET_S,
            **{"source": SOURCE, **options},
        )

    def _wishes(self) -> dict[str, Any]:
        """Return what is asked of the model, under a chat's names."""
        asked = self.asked
        reasoning = asked.object("reasoning") or Fields({}, "reasoning")
        reasoning.word("summary", "auto", "concise", "detailed")
        top = asked.integer("top_logprobs", 0, 20)
        tokens = "message.output_text.logprobs" in (asked.get("include") or [])
        tools = [_tool(tool) for tool in asked.objects("tools")]
        return {
            "temperature": asked.number("temperature", 0, 2),
            "top_p": asked.number("top_p", 0, 1),
            "max_tokens": asked.integer("max_output_tokens", 1, _MOST_TOKENS),
            "reasoning_effort": reasoning.word("effort", *_EFFORTS),
            "tools": tools or None,
            "tool_choice": _choice(asked, [tool["function"]["name"] for tool in tools]) if tools else None,
            "parallel_tool_calls": asked.flag("parallel_tool_calls") if tools else None,
            "response_format": _format(asked),
            "logprobs": True if tokens or top else None,
            "top_logprobs": top or None,
        }


def _passes(name: str) -> bool:
    return name not in _TRANSLATED and not name.startswith("_")


def _tool(tool: Fields) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise tool.wrong("type", "only tools of type function are supported", UNSUPPORTED)
    function: dict[str, Any] = {"name": tool.needed("name")}
    described, parameters, strict = tool.text("description"), tool.object("parameters"), tool.flag("strict")
    if described is not None:
        function["description"] = described
    function["parameters"] = {"type": "object", "properties": {}} if parameters is None else parameters.values
    if strict is not None:
        function["strict"] = strict
    return {"type": "function", "function": function}


def _choice(asked: Fields, names: list[str]) -> Any:
    choice = asked.get("tool_choice")
    if not isinstance(choice, dict):
        return asked.word("tool_choice", "none", "auto", "required")
    chosen = Fields(choice, "tool_choice")
    if chosen.get("type") != "function":
        raise chosen.wrong("type", "must be function", UNSUPPORTED)
    if chosen.needed("name") not in names:
        raise chosen.wrong("name", "names no tool of this request")
    return {"type": "function", "function": {"name": choice["name"]}}


def _format(asked: Fields) -> dict[str, Any] | None:
    text = asked.object("text") or Fields({}, "text")
    wanted = text.object("format")
    if wanted is None:
        return None
    kind = wanted.word("type", "text", "json_object", "json_schema")
    if kind is None:
        raise wanted.wrong("type", "must be one of text, json_object, json_schema")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    schema = wanted.object("schema")
    if schema is None:
        raise wanted.wrong("schema", "is required", "missing_required_parameter")
    told: dict[str, Any] = {
        "name": wanted.needed("name"),
        "description": wanted.text("description"),
        "schema": schema.values,
        "strict": wanted.flag("strict"),
    }
    told = {name: value for name, value in told.items() if value is not None}
    return {"type": "json_schema", "json_schema": told}


def _metadata(asked: Fields) -> None:
    metadata = asked.object("metadata")
    if metadata is None:
        return
    if len(metadata.values) > _MOST_METADATA:
        raise asked.wrong("metadata", f"holds more than {_MOST_METADATA} entries")
    for name, value in metadata.values.items():
        if not isinstance(value, str):
            raise metadata.wrong(name[:64], "must be text", "invalid_type")
