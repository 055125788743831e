"""The `response` object: a job as the clients of this dialect see it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from llm_mcp.answers import Finished

from .request import KEPT

_PREFIX = "resp_"
_HEX = frozenset("0123456789abcdef")
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response_id(job_id: UUID) -> str:
    """Return a job's name as a response."""
    return _PREFIX + job_id.hex


def job_id_of(name: str, prefix: str = _PREFIX) -> UUID | None:
    """Return the job that a response's id names, None for what cannot be one."""
    digits = name.removeprefix(prefix)
    if not name.startswith(prefix) or len(digits) != 32 or not _HEX.issuperset(digits):
        return None
    return UUID(digits)


def created_at(job_id: UUID) -> int:
    """Return when a job was submitted, Unix time, s: its id says so, whenever it is asked."""
    return (job_id.int >> 80) // 1000 if job_id.version == 7 else int(time.time())


def incomplete_reason(said: Finished) -> str | None:
    """Return why an answer ends before its end, None when it does not."""
    return _INCOMPLETE.get(said.finish_reason)


def response_object(
    job_id: UUID,
    payload: Mapping[str, Any],
    *,
    status: str,
    output: Sequence[Mapping[str, Any]] = (),
    said: Finished | None = None,
    error: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a response. `said` is its answer once there is one, `error` what it failed with."""
    told = payload.get(KEPT) or {}
    reasoning, text = told.get("reasoning") or {}, told.get("text") or {}
    why = None if said is None else incomplete_reason(said)
    return {
        "id": response_id(job_id),
        "object": "response",
        "created_at": created_at(job_id),
        "status": status,
        "background": told.get("background") is True,
        "error": error,
        "incomplete_details": None if why is None else {"reason": why},
        "instructions": told.get("instructions"),
        "max_output_tokens": told.get("max_output_tokens"),
        "max_tool_calls": told.get("max_tool_calls"),
        "metadata": told.get("metadata") or {},
        "model": payload.get("model") or "",
        "output": list(output),
        "parallel_tool_calls": told.get("parallel_tool_calls") is not False,
        "previous_response_id": told.get("previous_response_id"),
        "prompt_cache_key": told.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": told.get("safety_identifier"),
        "service_tier": told.get("service_tier") or "default",
        "store": told.get("store") is not False,
        "temperature": told.get("temperature"),
        "text": {**text, "format": text.get("format") or {"type": "text"}},
        "tool_choice": told.get("tool_choice") or "auto",
        "tools": told.get("tools") or [],
        "top_logprobs": told.get("top_logprobs") or 0,
        "top_p": told.get("top_p"),
        "truncation": told.get("truncation") or "disabled",
        "usage": None if said is None else usage_of(said),
        "user": told.get("user"),
    }


def usage_of(said: Finished) -> dict[str, Any]:
    """Return what an answer used, in this dialect's words."""
    used = said.usage
    read, written = _count(used.get("prompt_tokens")), _count(used.get("completion_tokens"))
    cached = _detail(used.get("prompt_tokens_details"), "cached_tokens")
    thought = _detail(used.get("completion_tokens_details"), "reasoning_tokens")
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": read + written,
    }


def calls_of(job_id: UUID, said: Finished) -> list[dict[str, Any]]:
    """Return an answer's calls of tools as a chat has them; one without an id gets the one its item has."""
    return [{**call, "id": call.get("id") or call_id(job_id, place)} for place, call in enumerate(said.tool_calls)]


def call_id(job_id: UUID, place: int) -> str:
    """Return the id of a call that the provider gave none."""
    return f"call_{job_id.hex}_{place}"


def _detail(details: Any, name: str) -> int:
    return _count(details.get(name)) if isinstance(details, dict) else 0


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
