"""The `chat.completion` and `text_completion` objects: what a finished job said, as clients of this dialect get it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from llm_mcp.answers import Finished

from .response import created_at


def chat_head(job_id: UUID, model: str, *, chunk: bool = False) -> dict[str, Any]:
    """Return how a chat's answer begins, or each chunk of it."""
    return {
        "id": f"chatcmpl-{job_id.hex}",
        "object": "chat.completion.chunk" if chunk else "chat.completion",
        "created": created_at(job_id),
        "model": model,
    }


def text_head(job_id: UUID, model: str) -> dict[str, Any]:
    """Return how a completion begins, and each chunk of it."""
    return {
        "id": f"cmpl-{job_id.hex}",
        "object": "text_completion",
        "created": created_at(job_id),
        "model": model,
    }


def chat_completion(job_id: UUID, model: str, said: Finished) -> dict[str, Any]:
    """Return a chat's whole answer; `model` is what it is called where the provider does not say."""
    message = {
        "role": "assistant",
        "content": said.text,
        "refusal": None,
        **said.of_message,
        **({"reasoning_content": said.thinking} if said.thinking else {}),
        **({"tool_calls": said.tool_calls} if said.tool_calls else {}),
    }
    logprobs = None if said.logprobs is None else {"content": said.logprobs, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": said.finish_reason}
    return {**said.more, **chat_head(job_id, said.model or model), "choices": [choice], "usage": said.usage}


def text_completion(job_id: UUID, model: str, said: Finished) -> dict[str, Any]:
    """Return a completion's whole answer; `model` as for a chat."""
    choice = text_choice(said.text or "", said.logprobs, said.finish_reason)
    return {**text_head(job_id, said.model or model), "choices": [choice], "usage": said.usage}


def text_choice(
    text: str, logprobs: Sequence[Mapping[str, Any]] | None = None, finish_reason: str | None = None
) -> dict[str, Any]:
    """Return the one choice of a completion, or of a chunk of it."""
    return {
        "text": text,
        "index": 0,
        "logprobs": None if logprobs is None else _older(logprobs),
        "finish_reason": finish_reason,
    }


def _older(tokens: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return log probabilities in the form completions have."""
    offsets, at = [], 0
    for token in tokens:
        offsets.append(at)
        at += len(token["token"])
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token.get("logprob") for token in tokens],
        "top_logprobs": [
            {top["token"]: top.get("logprob") for top in token.get("top_logprobs") or []} for token in tokens
        ],
        "text_offset": offsets,
    }
