"""The objects of an answer: the lines of a stream, its last one, and the one object that says it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from llm_mcp.answers import Finished
from llm_mcp.ollama_words.names import timestamp
from llm_mcp.ollama_words.wire import Refusal

from .asked import TextVerb

_FIGURES = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


@dataclass(frozen=True, slots=True)
class Form:
    """How an answer is written: on `/api/generate` or on `/api/chat`; `model` as the client called it."""

    model: str
    verb: TextVerb

    def line(
        self,
        text: str = "",
        thinking: str = "",
        tool_calls: Sequence[Mapping[str, Any]] = (),
        logprobs: Sequence[Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Return the object of one piece."""
        head = {"model": self.model, "created_at": timestamp(datetime.now(UTC))}
        said: dict[str, Any] = {"thinking": thinking} if thinking else {}
        if tool_calls:
            said["tool_calls"] = list(tool_calls)
        told = {"logprobs": list(logprobs)} if logprobs else {}
        if self.verb == "generate":
            return {**head, "response": text, **said, "done": False, **told}
        return {**head, "message": {"role": "assistant", "content": text, **said}, "done": False, **told}

    def last(self, result: Any, said: Finished, *, took_ns: int) -> dict[str, Any]:
        """Return the last line of a finished answer. A figure that is zero is left out, as Ollama does.

        `took_ns`, how long the call took as its client saw it, ns: what is told where the provider does not say.
        """
        data = data_of(result)
        reason = data.get("done_reason")
        told: dict[str, Any] = {}
        if self.verb == "generate" and isinstance(data.get("context"), list):
            told["context"] = data["context"]
        told |= {name: _count(data.get(name)) for name in _FIGURES}
        told["total_duration"] = told["total_duration"] or took_ns
        told["prompt_eval_count"] = _count(said.usage.get("prompt_tokens"))
        told["eval_count"] = _count(said.usage.get("completion_tokens"))
        return {
            **self.line(),
            "done": True,
            "done_reason": reason if isinstance(reason, str) and reason else _reason(said),
            **{name: value for name, value in told.items() if value},
        }

    def whole(self, result: Any, said: Finished, *, took_ns: int) -> dict[str, Any]:
        """Return the one object of an answer that is not streamed."""
        text = self.line(said.text or "", said.thinking, native_calls(said.tool_calls), said.logprobs)
        last = self.last(result, said, took_ns=took_ns)
        return {**text, **{name: value for name, value in last.items() if name not in ("response", "message")}}

    def moved(self, reason: str) -> dict[str, Any]:
        """Return the answer to a request that only loads a model, or unloads it."""
        return {**self.line(), "done": True, "done_reason": reason}


def data_of(result: Any) -> dict[str, Any]:
    """Return the provider's own JSON in a job's result."""
    data = result.get("data") if isinstance(result, dict) else None
    return data if isinstance(data, dict) else {}


def native_calls(calls: Sequence[Mapping[str, Any]], first: int = 0) -> list[dict[str, Any]]:
    """Return calls of tools in Ollama's form, their arguments as objects, numbered from `first` on.

    Raises Refusal 500 when arguments are no JSON object.
    """
    return [_native(call, index) for index, call in enumerate(calls, first)]


def _native(call: Mapping[str, Any], index: int) -> dict[str, Any]:
    function = call.get("function") or {}
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise Refusal(500, f"the arguments of a call of {function.get('name')!r} are not JSON")
    named = {"id": call["id"]} if call.get("id") else {}
    return {**named, "function": {"index": index, "name": function.get("name") or "", "arguments": arguments}}


def _reason(said: Finished) -> str:
    return "length" if said.finish_reason == "length" else "stop"


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
