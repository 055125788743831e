"""What llama.cpp streams, read into pieces of an answer and a last word."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from llm_mcp.ollama_words.wire import Refusal

from .call import Call
from .prompt import Ask
from .runner import EngineGone, EngineRefused, Runner

_FAILED = "an error was encountered while running the model: "


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the answer: text, reasoning, or calls of tools in Ollama's form."""

    text: str = ""
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.text or self.thinking or self.tool_calls)


@dataclass(frozen=True, slots=True)
class Done:
    """The end of the answer.

    `reason` is Ollama's word, stop or length; counts in tokens, durations in ns; `tokens` are those written, as
    far as llama.cpp tells.
    """

    reason: str
    prompt_eval_count: int
    prompt_eval_duration: int
    eval_count: int
    eval_duration: int
    tokens: list[int]


def events(runner: Runner, ask: Ask, call: Call) -> Generator[Piece | Done, None, None]:
    """Yield the pieces of the answer as they are written, then one Done.

    A character whose bytes come in several tokens is held back until it is whole: the texts, joined, are the answer.
    Raises Cancelled, EngineRefused (before the first piece), Refusal 500 (after it), EngineGone.
    """
    read = _read_chat if ask.path.endswith("/chat/completions") else _read_completion
    begun = False
    try:
        with contextlib.closing(runner.stream(ask.path, ask.body, call)) as stream:
            for event in read(stream):
                if isinstance(event, Done) or event:
                    begun = True
                    yield event
    except EngineRefused as error:
        if begun:
            raise Refusal(500, _FAILED + error.message) from None
        raise


def _read_completion(stream: Iterator[dict[str, Any]]) -> Iterator[Piece | Done]:
    tokens: list[int] = []
    for event in stream:
        if "prompt_progress" in event:
            continue
        tokens += event.get("tokens") or []
        yield Piece(event.get("content") or "")
        if event.get("stop"):
            yield _done("length" if event.get("stop_type") == "limit" else "stop", event.get("timings") or {}, tokens)
            return
    raise EngineGone(_FAILED + "unexpected EOF")


def _read_chat(stream: Iterator[dict[str, Any]]) -> Iterator[Piece | Done]:
    calls: dict[int, dict[str, str]] = {}
    for event in stream:
        for choice in event.get("choices") or []:
            delta = choice.get("delta") or {}
            yield Piece(delta.get("content") or "", delta.get("reasoning_content") or "")
            for part in delta.get("tool_calls") or []:
                _add(calls.setdefault(part.get("index", 0), {"id": "", "name": "", "arguments": ""}), part)
            if choice.get("finish_reason"):
                yield Piece(tool_calls=[_tool_call(index, parts) for index, parts in sorted(calls.items())])
                reason = "length" if choice["finish_reason"] == "length" else "stop"
                yield _done(reason, event.get("timings") or {}, [])
                return
    raise EngineGone(_FAILED + "unexpected EOF")


def _add(parts: dict[str, str], more: dict[str, Any]) -> None:
    parts["id"] += more.get("id") or ""
    function = more.get("function") or {}
    parts["name"] += function.get("name") or ""
    parts["arguments"] += function.get("arguments") or ""


def _tool_call(index: int, parts: dict[str, str]) -> dict[str, Any]:
    try:
        arguments = json.loads(parts["arguments"] or "{}")
    except ValueError:
        raise Refusal(500, f"{_FAILED}the arguments of a call of {parts['name']!r} are not JSON") from None
    function = {"index": index, "name": parts["name"], "arguments": arguments}
    return {"id": parts["id"], "function": function} if parts["id"] else {"function": function}


def _done(reason: str, timings: dict[str, Any], tokens: list[int]) -> Done:
    return Done(
        reason,
        prompt_eval_count=timings.get("cache_n", 0) + timings.get("prompt_n", 0),
        prompt_eval_duration=int(timings.get("prompt_ms", 0) * 1e6),
        eval_count=timings.get("predicted_n", 0),
        eval_duration=int(timings.get("predicted_ms", 0) * 1e6),
        tokens=tokens,
    )
