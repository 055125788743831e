"""What a provider is: something that completes, chats and embeds over a wire, and says what it used.

The words every dialect shares. The shipped implementations are `ollama.Ollama`, `openai.OpenAI`,
`openrouter.OpenRouter` and, for tests, `fake.Fake`; one contract suite runs on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from llm_mcp.http import Wire


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer as it streams: of its text, of the model's thinking, or of its calls of tools.

    `tool_calls` are pieces in OpenAI's form, each with an `index`: the first of a call has its `id`, `type` and name,
    `arguments` (JSON text) may come bit by bit. `logprobs` are the text's tokens in OpenAI's form: token, logprob,
    bytes, top_logprobs.
    """

    text: str = field(default="", repr=False)
    thinking: str = field(default="", repr=False)
    tool_calls: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    logprobs: Sequence[Mapping[str, Any]] = field(default=(), repr=False)


OnDelta = Callable[[Delta], None]
"""Takes each piece as it comes; what it raises ends the call."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used, as the provider counts it: tokens read and written, and the price where it says one, USD."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A finished call.

    `text` and `thinking` are what the deltas add up to; `model` is the name the call went out with; `data` is the
    provider's own JSON, put together again from its stream as if it had not been streamed. An embedding has no text:
    its vectors are in `data`, and under `data["embedding"]` when one text was asked for.
    """

    model: str
    usage: Usage
    data: dict[str, Any] = field(repr=False)
    text: str = field(default="", repr=False)
    thinking: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model a provider offers: its name, whether it is loaded, and what it can do where the provider says so.

    `capabilities` are Ollama's words (`completion`, `embedding`, `tools`, `vision`, `thinking`), empty when unknown;
    `entry` is what the provider's own list says of it.
    """

    name: str
    loaded: bool = False
    capabilities: frozenset[str] = frozenset()
    entry: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def embeds(self) -> bool:
        """Whether it makes vectors rather than text; by its name when the provider does not say."""
        return "embedding" in self.capabilities if self.capabilities else "embed" in self.name


class Provider(Protocol):
    """An API dialect at an endpoint.

    `asked` is a job's payload (what the caller did not set is not in it, and is not sent); addresses in it are never
    dialled. Every method raises Cut when the wire is cut, and ProviderError when the provider refuses, fails or
    vanishes. Providers hold no state of a call: threads may share one, each with its own wire.
    """

    @property
    def name(self) -> str:
        """The provider's name as results carry it."""
        ...

    def generate(self, asked: Mapping[str, Any], *, wire: Wire, on_delta: OnDelta) -> Reply:
        """Complete `asked["prompt"]`."""
        ...

    def chat(self, asked: Mapping[str, Any], *, wire: Wire, on_delta: OnDelta) -> Reply:
        """Answer `asked["messages"]`, or the `prompt` (and `system`) that stands for them."""
        ...

    def embed(self, asked: Mapping[str, Any], *, wire: Wire) -> Reply:
        """Turn `asked["prompt"]` or `asked["input"]`, one text or a list, into vectors."""
        ...

    def models(self, *, wire: Wire) -> list[Model]:
        """Return what it offers, in its own order."""
        ...
