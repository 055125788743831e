"""From a request to what llama.cpp is asked: the prompt, made to fit the context, and the manner of the answer."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Any

from . import gotemplate
from .options import Options
from .residents import Held
from .text_request import ChatRequest, GenerateRequest


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to llama.cpp: its path, its body, and the tokens of the prompt (None where it makes its own)."""

    path: str
    body: dict[str, Any]
    tokens: list[int] | None = None


def for_generate(held: Held, request: GenerateRequest, options: Options, grammar: str | None) -> Ask:
    """Return what a body of /api/generate asks.

    `grammar` is that of the wanted format, or None. Raises Refusal, EngineRefused, EngineGone.
    """
    if request.suffix:
        body = {"input_prefix": request.prompt, "input_suffix": request.suffix}
        return Ask("/infill", body | _manner(held, options, grammar, room=None))
    if request.raw:
        text = request.prompt
    elif request.template:
        text = gotemplate.rendered(request.template, {"System": request.system, "Prompt": request.prompt})
    else:
        messages = [{"role": "user", "content": request.prompt}]
        if request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        if not request.context and _thinks(held):
            return _conversation(held, messages, request, options, grammar)
        text = held.runner.rendered({"messages": messages})
    earlier = request.context
    tokens = [*earlier, *held.runner.tokens(text, special=not earlier)]
    return _completion(held, tokens, request, options, grammar)


def for_chat(held: Held, request: ChatRequest, options: Options, grammar: str | None) -> Ask:
    """Return what a body of /api/chat asks. Raises EngineRefused, EngineGone."""
    if request.tools or _thinks(held):
        return _conversation(held, request.messages, request, options, grammar)
    messages = _newest(held, {"messages": request.messages}) if request.truncate else request.messages
    tokens = held.runner.tokens(held.runner.rendered({"messages": messages}), special=True)
    return _completion(held, tokens, request, options, grammar)


def _thinks(held: Held) -> bool:
    return "thinking" in held.model.capabilities


def _conversation(
    held: Held,
    messages: list[dict[str, Any]],
    request: ChatRequest | GenerateRequest,
    options: Options,
    grammar: str | None,
) -> Ask:
    """Leave template, tools and thoughts to llama.cpp, which knows how each family of models writes them."""
    talk: dict[str, Any] = {"messages": messages}
    if isinstance(request, ChatRequest) and request.tools:
        talk["tools"] = request.tools
    if _thinks(held):
        # A model that can think does, unless told not to.
        talk["chat_template_kwargs"] = {"enable_thinking": request.think is not False}
        if isinstance(request.think, str):
            talk["chat_template_kwargs"]["reasoning_effort"] = request.think
    if request.truncate:
        talk["messages"] = _newest(held, talk)
    room = None
    if not request.shift:
        room = held.runner.context - len(held.runner.tokens(held.runner.rendered(talk), special=True))
    return Ask("/v1/chat/completions", talk | _manner(held, options, grammar, room))


def _completion(
    held: Held,
    tokens: list[int],
    request: ChatRequest | GenerateRequest,
    options: Options,
    grammar: str | None,
) -> Ask:
    context = held.runner.context
    if request.truncate and len(tokens) >= context:
        tokens = _shortened(tokens, context, options.num_keep)
    room = None if request.shift else context - len(tokens)
    body = {"prompt": tokens, "return_tokens": True} | _manner(held, options, grammar, room)
    return Ask("/completion", body, tokens)


def _manner(held: Held, options: Options, grammar: str | None, room: int | None) -> dict[str, Any]:
    # llama.cpp writes one token where none is asked for; the reader drops it.
    limit = max(1, options.limit(held.runner.context, room))
    body = {**options.sampling, "n_predict": limit, "stop": options.stop, "cache_prompt": True}
    return body if grammar is None else body | {"grammar": grammar}


def _newest(held: Held, talk: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages without as many of the oldest as it takes to fit; system messages and the last one stay."""
    messages = talk["messages"]

    def without(dropped: int) -> list[dict[str, Any]]:
        return [m for at, m in enumerate(messages) if at >= dropped or m["role"] == "system"]

    def fits(dropped: int) -> bool:
        text = held.runner.rendered({**talk, "messages": without(dropped)})
        return len(held.runner.tokens(text, special=True)) < held.runner.context

    if fits(0):
        return without(0)
    return without(bisect.bisect_left(range(len(messages) - 1), True, key=fits))


def _shortened(tokens: list[int], context: int, keep: int) -> list[int]:
    """Cut the middle out: the first `keep` tokens (-1: all that fit) stay, and of the rest the newest.

    About half of the context after `keep` is left free, so that the answer does not have to shift at once.
    """
    keep = min(context - 1 if keep < 0 else keep, context - 1)
    tail = context - keep - max((context - keep) // 2, 1)
    return tokens[:keep] + (tokens[-tail:] if tail > 0 else [])
