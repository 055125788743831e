"""Parameters that files and batches share: ids, and the pages of lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from flask import request

from llm_mcp.dialect.response import job_id_of
from llm_mcp.errors import InvalidInput

FILE, BATCH = "file-", "batch_"
T = TypeVar("T")


def file_id(name: str) -> UUID | None:
    """Return the file that an id of this dialect names, None for what cannot be one."""
    return job_id_of(name, FILE)


def batch_id(name: str) -> UUID | None:
    """Return the batch that an id of this dialect names, None for what cannot be one."""
    return job_id_of(name, BATCH)


def after(read: Callable[[str], UUID | None]) -> UUID | None:
    """Return the id after which the page begins. Raises InvalidInput."""
    name = request.args.get("after")
    if not name:
        return None
    found = read(name)
    if found is None:
        raise InvalidInput("is no id of such a list", field="after", code="invalid_value")
    return found


def limit(unless_given: int, most: int) -> int:
    """Return how many items the page may hold. Raises InvalidInput."""
    text = request.args.get("limit") or str(unless_given)
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= most):
        raise InvalidInput(f"must be an integer from 1 to {most}", field="limit", code="invalid_value")
    return int(text)


def listed(found: Sequence[T], most: int, shown: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """Return a page of what was found, of which there may be one more than it holds."""
    data = [shown(one) for one in found[:most]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(found) > most,
    }
