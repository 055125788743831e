"""/api/generate and /api/chat."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llm_mcp.ollama_words.names import LIBRARY, timestamp
from llm_mcp.ollama_words.wire import Answer, Lines, Refusal

from . import grammar, options, prompt
from .call import Call
from .catalog import CatalogModel
from .reading import Done, Piece, events
from .residents import Held, Residents
from .runner import EngineGone, EngineRefused
from .text_request import ChatRequest, GenerateRequest, TextRequest, read_chat, read_generate


@dataclass(frozen=True, slots=True)
class _Form:
    """How an answer is written: on /api/generate or on /api/chat."""

    model: str
    verb: str

    def line(self, piece: Piece) -> dict[str, Any]:
        """Return the object of one piece."""
        head = {"model": self.model, "created_at": timestamp(datetime.now(UTC))}
        extra: dict[str, Any] = {}
        if piece.thinking:
            extra["thinking"] = piece.thinking
        if piece.tool_calls:
            extra["tool_calls"] = piece.tool_calls
        if self.verb == "generate":
            return {**head, "response": piece.text, **extra, "done": False}
        return {**head, "message": {"role": "assistant", "content": piece.text, **extra}, "done": False}

    def last(self, piece: Piece, reason: str, **figures: Any) -> dict[str, Any]:
        """Return the last object, or the only one; figures that are zero are left out, as Go does."""
        told = {name: figure for name, figure in figures.items() if figure}
        return {**self.line(piece), "done": True, "done_reason": reason, **told}


def generate(residents: Residents, raw: bytes, call: Call) -> Answer:
    """Answer a body of /api/generate. Raises Refusal, Cancelled."""
    request = read_generate(raw)
    model = residents.find(request.model)
    if model is None:
        raise Refusal(404, f"model '{request.model}' not found")
    if request.raw and (request.template or request.system or request.context):
        raise Refusal(400, "raw mode does not support template, system, or context")
    if request.suffix and "insert" not in model.capabilities:
        raise Refusal(400, f"{LIBRARY}{model.name} does not support insert")

    def build(held: Held, wanted: options.Options, rules: str | None) -> prompt.Ask:
        return prompt.for_generate(held, request, wanted, rules)

    return _answer(residents, model, request, _Form(request.model, "generate"), build, call)


def chat(residents: Residents, raw: bytes, call: Call) -> Answer:
    """Answer a body of /api/chat. Raises Refusal, Cancelled."""
    request = read_chat(raw)
    if not request.model:
        raise Refusal(400, "model is required")
    model = residents.find(request.model)
    if model is None:
        raise Refusal(404, f"model '{request.model}' not found")
    if request.tools and "tools" not in model.capabilities and "completion" in model.capabilities:
        raise Refusal(400, f"{LIBRARY}{model.name} does not support tools")
    if request.tools and request.format:
        raise Refusal(400, "format cannot be combined with tools")

    def build(held: Held, wanted: options.Options, rules: str | None) -> prompt.Ask:
        return prompt.for_chat(held, request, wanted, rules)

    return _answer(residents, model, request, _Form(request.model, "chat"), build, call)


_Build = Callable[[Held, options.Options, str | None], prompt.Ask]


def _answer(
    residents: Residents,
    model: CatalogModel,
    request: GenerateRequest | ChatRequest,
    form: _Form,
    build: _Build,
    call: Call,
) -> Answer:
    if request.empty and request.keep_s == 0:
        residents.expire(model)
        return form.last(Piece(), "unload")
    if request.think and "thinking" not in model.capabilities:
        raise Refusal(400, f"{json.dumps(request.model)} does not support thinking")
    if "completion" not in model.capabilities:
        raise Refusal(400, f"{json.dumps(request.model)} does not support {form.verb}")
    if request.images:
        raise Refusal(400, f"{json.dumps(request.model)} does not support images")
    wanted, rules = options.read(request.options), grammar.of(request.format)
    if request.empty:
        with _worded(), residents.turn(model, call, keep_s=request.keep_s, context=wanted.num_ctx):
            return form.last(Piece(), "load")
    lines = _lines(residents, model, request, form, build, wanted, rules, call)
    return lines if request.stream else _joined(lines, form)


def _lines(
    residents: Residents,
    model: CatalogModel,
    request: TextRequest,
    form: _Form,
    build: _Build,
    wanted: options.Options,
    rules: str | None,
    call: Call,
) -> Lines:
    began = time.perf_counter_ns()
    silent = wanted.num_predict == 0
    with _worded(), residents.turn(model, call, keep_s=request.keep_s, context=wanted.num_ctx) as held:
        ask = build(held, wanted, rules)
        text: list[str] = []
        with contextlib.closing(events(held.runner, ask, call)) as found:
            for event in found:
                if isinstance(event, Done):
                    done = event
                elif not silent:
                    text.append(event.thinking + event.text)
                    yield form.line(event)
        figures = _figures(done, silent=silent)
        if isinstance(request, GenerateRequest) and not (request.raw or request.suffix):
            figures = {"context": _context(held, ask, done, text, silent=silent)} | figures
        total = time.perf_counter_ns() - began
        reason = "length" if silent else done.reason
        yield form.last(Piece(), reason, total_duration=total, load_duration=held.load_ns, **figures)


def _figures(done: Done, *, silent: bool) -> dict[str, Any]:
    return {
        "prompt_eval_count": done.prompt_eval_count,
        "prompt_eval_duration": done.prompt_eval_duration,
        "eval_count": 0 if silent else done.eval_count,
        "eval_duration": 0 if silent else done.eval_duration,
    }


def _context(held: Held, ask: prompt.Ask, done: Done, text: list[str], *, silent: bool) -> list[int]:
    """Return the tokens of prompt and answer, for a next call to go on from."""
    if ask.tokens is not None:
        if silent:
            return ask.tokens
        # Of a character that took several tokens only the last is told; then the text is read once more.
        told = done.tokens if len(done.tokens) == done.eval_count else None
        return ask.tokens + (held.runner.tokens("".join(text), special=False) if told is None else told)
    asked = held.runner.rendered(
        {name: ask.body[name] for name in ("messages", "chat_template_kwargs") if name in ask.body}
    )
    return held.runner.tokens(asked + "".join(text), special=True)


def _joined(lines: Lines, form: _Form) -> dict[str, Any]:
    """Return the one object that says what all the lines say."""
    text: list[str] = []
    thinking: list[str] = []
    tool_calls: list[dict[str, Any]] = []
    last: dict[str, Any] = {}
    for line in lines:
        part = line if form.verb == "generate" else line["message"]
        text.append(part["response" if form.verb == "generate" else "content"])
        thinking.append(part.get("thinking", ""))
        tool_calls += part.get("tool_calls", [])
        last = line
    whole = form.line(Piece("".join(text), "".join(thinking), tool_calls))
    return {**last, **{name: value for name, value in whole.items() if name in ("response", "thinking", "message")}}


@contextlib.contextmanager
def _worded() -> Iterator[None]:
    """Turn what the engine says into what Ollama would."""
    try:
        yield
    except EngineRefused as error:
        raise Refusal(error.status, error.body) from None
    except EngineGone as error:
        raise Refusal(500, str(error)) from None
