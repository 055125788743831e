"""The lines of a stream: what a job's deltas are in this dialect."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from llm_mcp.answers import Finished

from .forms import Form, native_calls


class Lines:
    """The lines of one stream, made one after another.

    `whole_calls`: whether calls of tools come whole, as Ollama's do, or bit by bit; then they are told at the end.
    """

    def __init__(self, form: Form, *, whole_calls: bool) -> None:
        self._form = form
        self._whole_calls = whole_calls
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls = 0
        self._truncated = False
        self._began_at = time.monotonic_ns()

    def delta(self, data: Mapping[str, Any]) -> bytes:
        """Return the lines of one delta, b"" when it has nothing to tell."""
        self._truncated = self._truncated or data.get("truncated") is True
        lines = b""
        if isinstance(thinking := data.get("thinking"), str) and thinking:
            self._thinking.append(thinking)
            lines += line(self._form.line(thinking=thinking))
        if isinstance(text := data.get("text"), str) and text:
            self._text.append(text)
            logprobs = data.get("logprobs")
            lines += line(self._form.line(text, logprobs=logprobs if isinstance(logprobs, list) else None))
        if self._whole_calls and isinstance(calls := data.get("tool_calls"), list) and calls:
            lines += line(self._form.line(tool_calls=native_calls(calls, self._calls)))
            self._calls += len(calls)
        return lines

    def end(self, result: Any, said: Finished) -> bytes:
        """Return what of the answer was not sent yet, and the last line."""
        took_ns = time.monotonic_ns() - self._began_at
        return b"".join(map(line, self._rest(said))) + line(self._form.last(result, said, took_ns=took_ns))

    def _rest(self, said: Finished) -> Iterator[dict[str, Any]]:
        if rest := self._owed(said.thinking, self._thinking):
            yield self._form.line(thinking=rest)
        if rest := self._owed(said.text or "", self._text):
            yield self._form.line(rest, logprobs=None if self._text else said.logprobs)
        if missing := said.tool_calls[self._calls :]:
            yield self._form.line(tool_calls=native_calls(missing, self._calls))

    def _owed(self, whole: str, pieces: list[str]) -> str:
        """Return what a stream still owes: all of an answer that was not streamed, the end of one cut short."""
        sent = "".join(pieces)
        if not sent:
            return whole
        return whole[len(sent) :] if self._truncated and whole.startswith(sent) else ""


def line(value: Mapping[str, Any]) -> bytes:
    """Return one line."""
    return orjson.dumps(value) + b"\n"
