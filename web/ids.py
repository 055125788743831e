"""Ids in paths and queries: lower-case UUIDs and nothing else, as the wire contract has them."""

from __future__ import annotations

from uuid import UUID

from llm_mcp.errors import NotFound


def read(text: str) -> UUID | None:
    """Return the UUID of a text, None for anything but its one lower-case form."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None


def job_id(text: str) -> UUID:
    """Return the job id of a path. Raises NotFound for what cannot be one."""
    found = read(text)
    if found is None:
        raise NotFound("no such job")
    return found
