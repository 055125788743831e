"""Ollama's `options`, and what llama.cpp calls them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from llm_mcp.ollama_words.wire import Refusal

_INT32 = 2**31 - 1
# A generation without a limit ends after this many whole contexts.
_CONTEXTS = 10
# llama.cpp reserves memory for every token it looks back on.
_MAX_LOOK_BACK = 65536


@dataclass(frozen=True, slots=True)
class _Option:
    wire: str
    kind: type[int] | type[float]
    default: float
    least: float = -math.inf
    most: float = math.inf


# Ollama's name: llama.cpp's name, type, Ollama's default, the least and the most llama.cpp is given.
_SAMPLING = {
    "temperature": _Option("temperature", float, 0.8),
    "top_k": _Option("top_k", int, 40),
    "top_p": _Option("top_p", float, 0.9),
    "min_p": _Option("min_p", float, 0.0),
    "typical_p": _Option("typical_p", float, 1.0),
    "repeat_last_n": _Option("repeat_last_n", int, 64, 0, _MAX_LOOK_BACK),
    "repeat_penalty": _Option("repeat_penalty", float, 1.1),
    "presence_penalty": _Option("presence_penalty", float, 0.0),
    "frequency_penalty": _Option("frequency_penalty", float, 0.0),
    "mirostat": _Option("mirostat", int, 0, 0, 2),
    "mirostat_tau": _Option("mirostat_tau", float, 5.0),
    "mirostat_eta": _Option("mirostat_eta", float, 0.1),
    "seed": _Option("seed", int, -1),
    "num_keep": _Option("n_keep", int, 4, -1),
}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one request.

    `sampling` in llama.cpp's words; `stop`, texts that end the answer; `num_ctx`, tokens, None when not asked for;
    `num_predict`, tokens, None for no limit; `num_keep`, tokens of a prompt's beginning that survive when it is cut.
    """

    sampling: dict[str, Any]
    stop: list[str]
    num_ctx: int | None
    num_predict: int | None
    num_keep: int

    def limit(self, context: int, room: int | None) -> int:
        """Return how many tokens may be generated with that context; `room`, tokens, is a bound of the caller's."""
        limit = _CONTEXTS * context
        if self.num_predict is not None:
            limit = min(limit, self.num_predict)
        return limit if room is None else max(1, min(limit, room))


def read(table: dict[str, Any]) -> Options:
    """Return the options of a request's `options` object; names we do not know are ignored, as Ollama does.

    Raises Refusal 500, which is Ollama's status for an option of the wrong type.
    """
    sampling: dict[str, Any] = {}
    for name, option in _SAMPLING.items():
        number = _number(table, name, option.kind)
        value = option.default if number is None else number
        if name == "repeat_last_n" and value < 0:
            value = option.most  # -1 is Ollama's word for all
        sampling[option.wire] = option.kind(max(option.least, min(option.most, value)))
    # llama.cpp reads 32 bits; all ones is its word for a seed of its own choice, as -1 is Ollama's.
    sampling["seed"] &= 0xFFFFFFFF
    context, predict = (_number(table, name, int) for name in ("num_ctx", "num_predict"))
    return Options(
        sampling,
        _stop(table),
        num_ctx=int(context) if context is not None and context > 0 else None,
        num_predict=int(predict) if predict is not None and predict >= 0 else None,
        num_keep=sampling["n_keep"],
    )


def _number(table: dict[str, Any], name: str, kind: type[int] | type[float]) -> float | None:
    value = table.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refusal(500, f'option "{name}" must be of type {"integer" if kind is int else "float32"}')
    if name == "seed":
        return int(value)
    return max(-_INT32, min(_INT32, int(value))) if kind is int else max(-3e38, min(3e38, float(value)))


def _stop(table: dict[str, Any]) -> list[str]:
    value = table.get("stop")
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refusal(500, 'option "stop" must be of type array')
    if not all(isinstance(item, str) for item in value):
        raise Refusal(500, 'option "stop" must be of an array of strings')
    return [item for item in value if item]
