"""Running a model call as a job: provider, stream, usage, and the result in the shape clients know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel

from .errors import ProviderError
from .http import Wire
from .providers.base import Delta, Provider, Reply
from .run import Run
from .runtime import Runtime

Verb = Literal["generate", "chat", "embed"]

_MILLION = Decimal(1_000_000)
_FREE = frozenset({"ollama"})
"""Providers on machines of one's own: a call costs nothing, and reasoning is shown unless refused."""


def call(run: Run, provider: str, verb: Verb, payload: BaseModel) -> dict[str, Any]:
    """Make one model call for an attempt: stream what comes, note what it used, and return the job's result.

    Raises ProviderError as the provider does, Cut when the attempt was stopped.
    """
    asked = payload.model_dump(exclude_unset=True)
    run.awaited = asked.get("stream") is not False  # who wants the whole answer has it sooner without
    with run.runtime.part("wires", _Wires).lent() as wire:
        run.when_cut(wire.arm())
        try:
            reply = _ask(run.runtime.provider(provider, device_id=_device(provider, asked)), verb, asked, wire, run)
        except ProviderError as error:
            run.check()  # the provider failed while the attempt was being cut: nobody wants to hear of it
            told = {"failure": error.code, "status": error.status, "retry_after_s": error.retry_after_s}
            run.metrics.update({name: value for name, value in told.items() if value is not None})
            raise
        finally:
            run.when_cut(None)
    used = {"tokens_in": reply.usage.tokens_in, "tokens_out": reply.usage.tokens_out}
    run.metrics.update(provider=provider, model=reply.model, **used)
    run.usage(provider=provider, model=reply.model, **used)
    return embedding_result(provider, reply) if verb == "embed" else text_result(provider, asked, reply)


def text_result(provider: str, asked: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    """Return the result of a generation: the flat fields clients read, and the provider's own JSON under `data`."""
    result: dict[str, Any] = {
        "ok": True,
        "response": reply.text,
        "model": reply.model,
        "provider": provider,
        "device_id": asked.get("device_id", ""),
        "tier": asked.get("_tier", ""),
        "tokens_in": reply.usage.tokens_in,
        "tokens_out": reply.usage.tokens_out,
        "cost": cost_text(cost_usd(provider, asked, reply)),
        "data": reply.data,
    }
    if reply.thinking and asked.get("thinking", provider in _FREE):
        result["thinking"] = reply.thinking
    return result


def embedding_result(provider: str, reply: Reply) -> dict[str, Any]:
    """Return the result of an embedding: vectors are under `data`, as the provider gave them."""
    return {
        "ok": True,
        "model": reply.model,
        "provider": provider,
        "tokens_in": reply.usage.tokens_in,
        "data": reply.data,
    }


def cost_usd(provider: str, asked: Mapping[str, Any], reply: Reply) -> Decimal | None:
    """Return what a call cost, USD; None when nobody knows.

    The provider's own figure wins; else the prices the payload carries (`_price_in_1m`, `_price_out_1m`, USD per
    million tokens); a model on one's own machine costs nothing.
    """
    if reply.usage.cost_usd is not None:
        return reply.usage.cost_usd
    price_in, price_out = asked.get("_price_in_1m"), asked.get("_price_out_1m")
    if isinstance(price_in, int | float) and isinstance(price_out, int | float):
        paid = Decimal(str(price_in)) * reply.usage.tokens_in + Decimal(str(price_out)) * reply.usage.tokens_out
        return paid / _MILLION
    return Decimal(0) if provider in _FREE else None


def cost_text(usd: Decimal | None) -> str | None:
    """Return a cost as clients know it: five decimals and a dollar sign; None when it is not known."""
    return None if usd is None else f"{usd:.5f}$"


def _ask(provider: Provider, verb: Verb, asked: dict[str, Any], wire: Wire, run: Run) -> Reply:
    def on_delta(delta: Delta) -> None:
        if delta.thinking:
            run.thinking(delta.thinking)
        if delta.text:
            run.text(delta.text, logprobs=delta.logprobs)
        if delta.tool_calls:
            run.tool_calls(delta.tool_calls)

    if verb == "embed":
        return provider.embed(asked, wire=wire)
    if verb == "chat":
        return provider.chat(asked, wire=wire, on_delta=on_delta)
    return provider.generate(asked, wire=wire, on_delta=on_delta)


def _device(provider: str, asked: Mapping[str, Any]) -> str | None:
    """Return the id of the device a payload names; addresses in it are never dialled."""
    device_id = asked.get("device_id")
    return device_id if provider == "ollama" and isinstance(device_id, str) else None


class _Wires:
    """The HTTP clients of a process's calls, as many as it ever made at once.

    The one used last is lent first, whichever thread asks: its connection is there and warm, and a machine is held no
    more connections to than it is asked at once.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._read_timeout_s = runtime.settings.provider_timeout_s
        self._idle: list[Wire] = []  # append and pop are safe between threads

    @contextmanager
    def lent(self) -> Iterator[Wire]:
        """Lend one to the calling thread, while entered."""
        try:
            wire = self._idle.pop()
        except IndexError:
            wire = Wire(read_timeout_s=self._read_timeout_s)
        try:
            yield wire
        finally:
            self._idle.append(wire)
