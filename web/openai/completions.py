"""`POST /v1/completions`: the older form, one prompt instead of messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from flask import Response

from llm_mcp.answers import Finished
from llm_mcp.dialect.completion import text_choice, text_completion, text_head
from llm_mcp.errors import InvalidInput
from llm_mcp.fleet import Fleet

from ..fields import Field
from ..reply import service
from . import answering
from .asked import COMMON, UNSUPPORTED, Asked
from .chunks import DONE, frame

_MOST_LOGPROBS = 5
COMPLETION = (
    Field(
        name="prompt",
        sort="any",
        required="invalid_type",
        forms=(Field(sort="text"), Field(sort="array", longest=1, required="invalid_type", items=Field(sort="text"))),
        about="One text, which may come in a list; tokens are not taken.",
    ),
    *COMMON,
    Field(name="best_of", sort="integer", least=1, most=1, about="One answer at a time."),
    Field(name="echo", sort="flag", unless=False, about="Not supported: false."),
    Field(name="logprobs", sort="integer", least=0, most=_MOST_LOGPROBS, about="How many of the likeliest tokens."),
)
"""What of a completion is read here."""


def create() -> Response:
    """Complete a prompt, at once or as a stream."""
    jobs = service()
    asked = Asked.read(jobs.runtime.settings.max_body_bytes)
    prompt = _prompt(asked.get("prompt"))
    asked.one("n")
    asked.one("best_of")
    asked.stop()
    if asked.flag("echo"):
        raise InvalidInput("not supported", field="echo", code=UNSUPPORTED)
    streams, usage, top = asked.flag("stream"), asked.include_usage(), asked.integer("logprobs", 0, _MOST_LOGPROBS)
    route = Fleet.of(jobs.runtime).route(asked.text("model"), "generate")
    asked.suits(route)
    wanted = {"logprobs": None} if top is None else {"logprobs": True, "top_logprobs": top or None}
    fields = {**wanted, "prompt": prompt, "stream": streams, "echo": None, "best_of": None}
    submission = asked.submission(route, **fields)
    if streams:
        return answering.stream(jobs, submission, route, lambda job_id: TextChunks(job_id, route.model, usage=usage))
    return answering.whole(jobs, submission, route, text_completion)


def _prompt(value: Any) -> str:
    """Return the one prompt, which may come in a list."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return value
    several = isinstance(value, list) and all(isinstance(item, str) for item in value) and value
    fault = "one at a time: send several requests" if several else "must be text; tokens are not taken"
    raise InvalidInput(fault, field="prompt", code=UNSUPPORTED if several else "invalid_type")


class TextChunks:
    """The chunks of a stream. Parameters as `ChatChunks`."""

    def __init__(self, job_id: UUID, model: str, *, usage: bool) -> None:
        self._usage = usage
        self._head = text_head(job_id, model)
        self._sent = 0
        self._truncated = False

    def delta(self, data: Mapping[str, Any]) -> bytes:
        """Return the chunk of one delta; thinking has no place here."""
        self._truncated = self._truncated or data.get("truncated") is True
        text, logprobs = data.get("text"), data.get("logprobs")
        if not isinstance(text, str) or not text:
            return b""
        self._sent += len(text)
        return self._chunk(text_choice(text, logprobs if isinstance(logprobs, list) else None))

    def end(self, _result: Any, said: Finished) -> bytes:
        """Return what of the answer was not sent yet, why it ended, what it used, and the mark of the end."""
        frames, whole = b"", said.text or ""
        if whole[self._sent :] and (self._truncated or not self._sent):
            frames += self._chunk(text_choice(whole[self._sent :]))
        frames += self._chunk(text_choice("", finish_reason=said.finish_reason))
        if self._usage:
            frames += frame({**self._head, "choices": [], "usage": said.usage})
        return frames + DONE

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return frame({**self._head, "choices": [choice], **({"usage": None} if self._usage else {})})
