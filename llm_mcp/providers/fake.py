"""A provider that follows a script: for tests of code that runs model calls, here and in your own services.

    provider = Fake([Text("Hel"), Text("lo"), Used(tokens_in=3, tokens_out=2)])
    provider = Fake([Fail(ProviderError("busy", retryable=True))], [Text("second try")])

It streams, thinks, waits, fails and can be cut like the real ones, and passes the same contract suite.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from llm_mcp.errors import ProviderError
from llm_mcp.http import Wire

from .asked import messages_of, texts_of
from .base import Model, OnDelta, Reply, Usage
from .native import tool_call_pieces
from .pieces import Pieces

_GLANCE_S = 0.01
_MAX_CALLS = 1000


@dataclass(frozen=True, slots=True)
class Text:
    """Write a piece of the answer; `logprobs`, its tokens, in OpenAI's form."""

    text: str = field(repr=False)
    logprobs: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Thinking:
    """Write a piece of thinking."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pause:
    """Say nothing until `until` is set or the wire is cut, at most `timeout_s` (s), then fail as a silent peer does."""

    until: threading.Event | None = None
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Fail:
    """Raise this error."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class Used:
    """Say what the call used; without it every word read and every piece written counts as a token."""

    tokens_in: int
    tokens_out: int
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Call a tool; `id` is how its result will name the call."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)
    id: str = ""


Step = Text | Thinking | Pause | Fail | Used | ToolCall
DEFAULT: Sequence[Step] = (Text("A "), Text("scripted "), Text("answer."))


class Fake:
    """A provider in this process.

    Parameters: `scripts`, one for each call in turn, the last one for all further calls, none: three words;
    `models`, the names it knows, the first being its default; `dimensions`, the length of its vectors.

    `calls` holds the payloads it got, the last thousand. Threads may share it.
    """

    name = "fake"

    def __init__(
        self, *scripts: Sequence[Step], models: Sequence[str] = ("fake", "fake-embed"), dimensions: int = 8
    ) -> None:
        self.calls: deque[dict[str, Any]] = deque(maxlen=_MAX_CALLS)
        self._scripts = deque(scripts or [DEFAULT])
        self._models = tuple(models)
        self._dimensions = dimensions
        self._mutex = threading.Lock()

    def generate(self, asked: Mapping[str, Any], *, wire: Wire, on_delta: OnDelta) -> Reply:
        """Play the next script; `data` looks like Ollama's."""
        return self._play(asked, wire, on_delta, read=str(asked.get("prompt", "")), chat=False)

    def chat(self, asked: Mapping[str, Any], *, wire: Wire, on_delta: OnDelta) -> Reply:
        """Play the next script; `data` looks like Ollama's."""
        read = " ".join(str(message.get("content")) for message in messages_of(asked))
        return self._play(asked, wire, on_delta, read=read, chat=True)

    def embed(self, asked: Mapping[str, Any], *, wire: Wire) -> Reply:
        """Return a vector of numbers from -1 to 1 for each text, always the same for the same text."""
        model = self._begin(asked, wire)
        for step in self._next_script():
            self._wait_or_fail(step, wire)
        texts = texts_of(asked)
        many = [texts] if isinstance(texts, str) else texts
        data: dict[str, Any] = {"model": model, "embeddings": [self._vector(text) for text in many]}
        if isinstance(texts, str):
            data["embedding"] = data["embeddings"][0]
        return Reply(model=model, usage=Usage(tokens_in=sum(len(text.split()) for text in many)), data=data)

    def models(self, *, wire: Wire) -> list[Model]:
        """Return the models it was made with, all of them loaded."""
        wire.check()
        return [Model(name=name, loaded=True) for name in self._models]

    def _begin(self, asked: Mapping[str, Any], wire: Wire) -> str:
        wire.check()
        with self._mutex:
            self.calls.append(dict(asked))
        model = str(asked.get("model") or self._models[0])
        if model not in self._models:
            raise ProviderError(
                f"{self.name}: model {model!r} not found", retryable=False, code="not_found", status=404
            )
        return model

    def _next_script(self) -> Sequence[Step]:
        with self._mutex:
            return self._scripts.popleft() if len(self._scripts) > 1 else self._scripts[0]

    def _play(self, asked: Mapping[str, Any], wire: Wire, on_delta: OnDelta, *, read: str, chat: bool) -> Reply:
        model = self._begin(asked, wire)
        pieces, calls, tokens, written, used = Pieces(on_delta), list[dict[str, Any]](), list[Any](), 0, None
        for step in self._next_script():
            wire.check()
            match step:
                case Text(text, logprobs):
                    pieces.add_text(text, logprobs)
                    tokens.extend(logprobs)
                    written += 1
                case Thinking(text):
                    pieces.add_thinking(text)
                    written += 1
                case ToolCall(name, arguments, id):
                    call = {"id": id, "function": {"name": name, "arguments": dict(arguments)}}
                    pieces.add_tool_calls(tool_call_pieces([call], len(calls)))
                    calls.append(call)
                case Used():
                    used = step
                case _:
                    self._wait_or_fail(step, wire)
        wire.check()
        pieces.end()
        usage = (
            Usage(len(read.split()), written) if used is None else Usage(used.tokens_in, used.tokens_out, used.cost_usd)
        )
        thinking = {"thinking": pieces.thinking} if pieces.thinking else {}
        said: dict[str, Any] = {"response": pieces.text, **thinking}
        if chat:
            tools = {"tool_calls": calls} if calls else {}
            said = {"message": {"role": "assistant", "content": pieces.text, **thinking, **tools}}
        if tokens:
            said["logprobs"] = tokens
        counts = {"prompt_eval_count": usage.tokens_in, "eval_count": usage.tokens_out}
        data = {"model": model, **said, "done": True, "done_reason": "stop", **counts}
        return Reply(model=model, usage=usage, data=data, text=pieces.text, thinking=pieces.thinking)

    def _wait_or_fail(self, step: Step, wire: Wire) -> None:
        if isinstance(step, Fail):
            raise step.error
        if isinstance(step, Pause):
            deadline = time.monotonic() + step.timeout_s
            while not (step.until is not None and step.until.is_set()):
                if wire.wait_cut(_GLANCE_S):
                    wire.check()
                if time.monotonic() >= deadline:
                    raise ProviderError(f"{self.name}: silent for too long", retryable=True, code="timeout")

    def _vector(self, text: str) -> list[float]:
        numbers = hashlib.shake_256(text.encode("utf-8", "replace")).digest(2 * self._dimensions)
        return [int.from_bytes(numbers[i : i + 2], "big") / 32767.5 - 1 for i in range(0, len(numbers), 2)]
