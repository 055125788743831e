"""The chunks of a stream: what a job's deltas are in this dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson

from llm_mcp.answers import Finished
from llm_mcp.dialect.completion import chat_head

DONE = b"data: [DONE]\n\n"


def frame(value: Any) -> bytes:
    """Return one event of a stream."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


class ChatChunks:
    """The `chat.completion.chunk` objects of a stream.

    Parameters: `model`, the name they carry; `usage`, whether the last one tells what was used.
    """

    def __init__(self, job_id: UUID, model: str, *, usage: bool) -> None:
        self._usage = usage
        self._head = chat_head(job_id, model, chunk=True)
        self._begun = False
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: set[int] = set()
        self._truncated = False

    def delta(self, data: Mapping[str, Any]) -> bytes:
        """Return the chunks of one delta; the very first is preceded by the one that says who speaks."""
        self._truncated = self._truncated or data.get("truncated") is True
        frames = b""
        if isinstance(thinking := data.get("thinking"), str) and thinking:
            self._thinking.append(thinking)
            frames += self._chunk({"reasoning_content": thinking})
        if isinstance(text := data.get("text"), str) and text:
            self._text.append(text)
            frames += self._chunk({"content": text}, logprobs=data.get("logprobs"))
        if isinstance(calls := data.get("tool_calls"), list) and calls:
            self._calls.update(call["index"] for call in calls if isinstance(call.get("index"), int))
            frames += self._chunk({"tool_calls": calls})
        return self._first() + frames if frames else b""

    def end(self, _result: Any, said: Finished) -> bytes:
        """Return what of the answer was not sent yet, why it ended, what it used, and the mark of the end."""
        frames = self._first()
        for name, whole, sent in (("thinking", said.thinking, self._thinking), ("text", said.text, self._text)):
            if rest := _rest(whole or "", "".join(sent), truncated=self._truncated):
                frames += self._chunk({"reasoning_content" if name == "thinking" else "content": rest})
        missing = [{"index": n, **call} for n, call in enumerate(said.tool_calls) if n not in self._calls]
        if missing:
            frames += self._chunk({"tool_calls": missing})
        frames += self._chunk({}, finish_reason=said.finish_reason)
        if self._usage:
            frames += frame({**self._head, "choices": [], "usage": said.usage})
        return frames + DONE

    def _first(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self._chunk({"role": "assistant", "content": ""})

    def _chunk(self, delta: Mapping[str, Any], *, logprobs: Any = None, finish_reason: str | None = None) -> bytes:
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": None if logprobs is None else {"content": logprobs, "refusal": None},
            "finish_reason": finish_reason,
        }
        return frame({**self._head, "choices": [choice], **({"usage": None} if self._usage else {})})


def _rest(whole: str, sent: str, *, truncated: bool) -> str:
    """Return what a stream still owes: all of an answer that was not streamed, the end of one that was cut short."""
    if not sent:
        return whole
    return whole[len(sent) :] if truncated and whole.startswith(sent) else ""
