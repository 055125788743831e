"""What the terminal shows: consoles, and texts of models made harmless."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from llm_mcp.job import Job

out = Console(highlight=False, markup=False, soft_wrap=True)
"""Standard output: results."""
err = Console(highlight=False, markup=False, stderr=True, soft_wrap=True)
"""Standard error: what people want to know while they wait."""

_KEPT = "\n\t"
_HARMFUL = ("Cc", "Cf", "Co", "Cs")
STYLES = {"queued": "yellow", "running": "cyan", "done": "green", "error": "red"}


def clean(text: str) -> str:
    """Return text without what a terminal obeys or a reader is fooled by: control, bidi and tag characters."""
    return "".join(char for char in text if _harmless(char))


def print_json(value: Any) -> None:
    """Print a JSON value on standard output, indented, for programs and people; harmful characters as escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    out.print("".join(char if _harmless(char) else json.dumps(char)[1:-1] for char in text))


def ago(moment: datetime) -> str:
    """Return how long ago an instant was, in the largest whole unit: `5 s`, `3 min`, `2 h`, `4 d`."""
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def status_text(job: Job) -> str:
    """Return the status, and for an error which one: `error (cancelled)`."""
    return f"{job.status} ({job.reason})" if job.reason else str(job.status)


def facts(job: Job, *, whole: bool) -> dict[str, Any]:
    """Return a job as JSON for `--json`; payload and result only when `whole`."""
    shown = {
        "id": str(job.id),
        "kind": job.kind,
        "queue": job.queue,
        "status": job.status,
        "reason": job.reason,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "priority": job.priority,
        "source": job.source,
        "worker_id": job.worker_id,
        "error": job.error,
        **{
            name: None if (at := getattr(job, name)) is None else at.astimezone(UTC).isoformat()
            for name in ("queued_at", "updated_at", "run_at", "lease_until", "deadline_at", "finished_at")
        },
    }
    if whole:
        shown["payload"] = None if job.payload is None else json.loads(job.payload)
        shown["result"] = None if job.result is None else json.loads(job.result)
        shown["served"] = job.served
    return shown


def _harmless(char: str) -> bool:
    return char in _KEPT or unicodedata.category(char) not in _HARMFUL
