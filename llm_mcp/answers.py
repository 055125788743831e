"""What a finished call said, in OpenAI's words, from a job's result.

Pure. Results keep the provider's own JSON under `data`: Ollama's, or a `chat.completion` object. Workers of others may
hand in less: then the flat fields (`response`, `tokens_in`, …) are what there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

_FINISHED = {"length": "length", "content_filter": "content_filter"}
_OWN_FIELDS = frozenset({"role", "content", "tool_calls", "reasoning", "reasoning_content"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A finished answer.

    `text` is None when only tools were called; `tool_calls` are whole calls; `logprobs` the tokens of the text, None
    where they were not asked for; `usage` is OpenAI's object. `more` and `of_message` are what else a provider of
    OpenAI's dialect said, of the answer and of its message.
    """

    text: str | None = field(repr=False)
    thinking: str = field(repr=False)
    tool_calls: list[dict[str, Any]] = field(repr=False)
    finish_reason: str
    logprobs: list[dict[str, Any]] | None = field(repr=False)
    usage: dict[str, Any]
    model: str | None
    more: dict[str, Any] = field(default_factory=dict, repr=False)
    of_message: dict[str, Any] = field(default_factory=dict, repr=False)


def finished(result: Any) -> Finished:
    """Return what a job's result says, whoever handed it in."""
    told = result if isinstance(result, dict) else {}
    data = _dict(told.get("data"))
    choices = data.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return _of_openai(told, data, choices[0])
    message = _dict(data.get("message"))
    calls = whole_calls(message.get("tool_calls"))
    written = told.get("response", message.get("content", data.get("response")))
    text = written if isinstance(written, str) else ""
    reason = _FINISHED.get(str(data.get("done_reason")), "stop")
    return Finished(
        text=text or (None if calls else ""),
        thinking=_text(told.get("thinking") or message.get("thinking") or data.get("thinking")),
        tool_calls=calls,
        finish_reason="tool_calls" if calls else reason,
        logprobs=token_logprobs(data["logprobs"]) if isinstance(data.get("logprobs"), list) else None,
        usage=_usage(told),
        model=_text(told.get("model")) or None,
    )


def whole_calls(found: Any) -> list[dict[str, Any]]:
    """Return calls of tools in OpenAI's form, their arguments as JSON text; what is none is left out."""
    calls = []
    for call in found if isinstance(found, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            arguments = function.get("arguments")
            text = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode()
            said = {"name": str(function.get("name", "")), "arguments": text}
            calls.append({"id": str(call.get("id") or ""), "type": "function", "function": said})
    return calls


def token_logprobs(found: Any) -> list[dict[str, Any]]:
    """Return log probabilities of tokens, Ollama's or OpenAI's, in OpenAI's form; what is none is left out."""
    return [
        {**_token(item), "top_logprobs": [_token(top) for top in _dicts(item.get("top_logprobs"))]}
        for item in _dicts(found)
        if isinstance(item.get("token"), str)
    ]


def _of_openai(told: Mapping[str, Any], data: Mapping[str, Any], choice: Mapping[str, Any]) -> Finished:
    message = _dict(choice.get("message"))
    content = message.get("content")
    text = content if isinstance(content, str) else None
    if text is not None and text.lstrip().startswith("<think>") and isinstance(told.get("response"), str):
        text = told["response"]  # thinking that the server did not tell apart was moved out of it
    logprobs = _dict(choice.get("logprobs")).get("content")
    reason = choice.get("finish_reason")
    usage = data.get("usage")
    return Finished(
        text=text,
        thinking=_text(message.get("reasoning_content") or message.get("reasoning") or told.get("thinking")),
        tool_calls=_dicts(message.get("tool_calls")),
        finish_reason=reason if isinstance(reason, str) else "stop",
        logprobs=_dicts(logprobs) if isinstance(logprobs, list) else None,
        usage=usage if isinstance(usage, dict) else _usage(told),
        model=_text(data.get("model")) or _text(told.get("model")) or None,
        more={
            name: value
            for name, value in data.items()
            if name not in ("id", "object", "created", "model", "choices", "usage")
        },
        of_message={name: value for name, value in message.items() if name not in _OWN_FIELDS},
    )


def _usage(told: Mapping[str, Any]) -> dict[str, Any]:
    read, written = _count(told.get("tokens_in")), _count(told.get("tokens_out"))
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _token(item: Mapping[str, Any]) -> dict[str, Any]:
    token = str(item.get("token", ""))
    spelled = item.get("bytes")
    return {
        "token": token,
        "logprob": item.get("logprob"),
        "bytes": spelled if isinstance(spelled, list) else list(token.encode("utf-8", "replace")),
    }


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    found: Iterable[Any] = value if isinstance(value, list) else []
    return [item for item in found if isinstance(item, dict)]
