"""What workers may say: ids, kinds, figures; and how what they hand in becomes text that every reader takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_mcp import strictjson
from llm_mcp.config import LONGEST_LEASE_S
from llm_mcp.errors import InvalidInput, TooLarge
from llm_mcp.kinds import MAX_KIND_CHARS

MAX_KINDS = 1000
MAX_FIGURES_BYTES = 64 * 2**10
"""The largest `tags` and `metrics`, bytes."""
_MAX_ID_CHARS = 200
_MAX_ERROR_CHARS = 2000


def lease_s(asked_s: float, usual_s: float) -> float:
    """Return how long a lease is to be that was asked for so long (0 or less: `usual_s`), s."""
    return min(asked_s, LONGEST_LEASE_S) if asked_s > 0 else usual_s


def check_worker(worker_id: str) -> None:
    """Refuse what cannot be a worker's id. Raises InvalidInput."""
    if not worker_id.strip():
        raise InvalidInput("must not be blank", field="worker_id", code="worker_id_required")
    check_text("worker_id", worker_id)


def check_text(field: str, text: str) -> None:
    """Refuse a text that is long or holds control characters. Raises InvalidInput."""
    if not (len(text) <= _MAX_ID_CHARS and text.isprintable()):
        raise InvalidInput(f"must be at most {_MAX_ID_CHARS} printable characters", field=field)


def check_kinds(kinds: Sequence[str]) -> None:
    """Refuse kinds that cannot be any, and too many of them. Raises InvalidInput."""
    if len(kinds) > MAX_KINDS:
        raise InvalidInput(f"names {len(kinds)} kinds; the limit is {MAX_KINDS} (none: every kind)", field="kinds")
    for place, kind in enumerate(kinds):
        if len(kind) > MAX_KIND_CHARS or not kind.isprintable():
            raise InvalidInput(f"must be at most {MAX_KIND_CHARS} printable characters", field=f"kinds[{place}]")


def lossy(value: Any, field: str, *, limit_bytes: int) -> tuple[str, list[str]]:
    """Return a value's JSON text, and a warning when it is not quite the value. Raises TooLarge."""
    warnings: list[str] = []
    try:
        strictjson.check(value, root=field)
    except InvalidInput as error:
        warnings.append(f"{error.field}: {error}; it was kept as near to it as JSON can be")
    text = strictjson.dumps_lossy(value)
    if (size := len(text.encode())) > limit_bytes:
        raise TooLarge(f"{size} bytes; the limit is {limit_bytes}", field=field, code="body_too_large")
    return text, warnings


def clean(text: str) -> str:
    """Return a text that any column and any encoder takes."""
    whole = text[:_MAX_ERROR_CHARS].replace("\x00", "\ufffd")
    return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
