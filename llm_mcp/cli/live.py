"""A job on the terminal while it happens: its text on standard output, everything else on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from rich.status import Status as Spinner

from llm_mcp.events import DELTA, PROGRESS, RESET, USAGE, Event
from llm_mcp.job import Job, Status
from llm_mcp.jobs import Jobs

from .terminal import clean, err, out


@dataclass(slots=True)
class Figures:
    """What a watcher measured, of the last attempt unless it says otherwise, s and tokens; None for what never came."""

    began_at: float
    first_ever_at: float | None = None
    """When the first piece of text came, of whichever attempt."""
    first_at: float | None = None
    last_at: float | None = None
    tokens_out: int | None = None
    shown: bool = False
    """Whether any text of this attempt was printed."""
    open_line: bool = False
    """Whether the line of that text is still to be ended."""

    def end_line(self) -> None:
        """End the line of the text, if there is one."""
        if self.open_line:
            out.print()
            self.open_line = False

    @property
    def first_token_s(self) -> float | None:
        """Seconds from the start of the watch to the first piece of text."""
        return None if self.first_ever_at is None else self.first_ever_at - self.began_at

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens per second between the first and the last piece; None when that says nothing."""
        if self.tokens_out is None or self.first_at is None or self.last_at is None or self.tokens_out < 2:
            return None
        took = self.last_at - self.first_at
        return (self.tokens_out - 1) / took if took > 0 else None


def watch(
    jobs: Jobs,
    job_id: UUID,
    *,
    show_text: bool = True,
    on_item: Callable[[Job | Event], None] = lambda _: None,
) -> tuple[Job, Figures]:
    """Follow a job to its end, showing it, and return it finished with what was measured.

    `on_item` is called with every job and event after it was shown. Raises NotFound, Unavailable.
    """
    figures = Figures(time.monotonic())
    job: Job | None = None
    with err.status("looking for the job") as spinner:
        for item in jobs.follow(job_id, quiet_s=1.0):
            if isinstance(item, Job):
                job = item
                figures.end_line()
                if not err.is_terminal and not item.status.final:
                    err.print(_waiting(item, figures))  # no spinner is seen there
            elif isinstance(item, Event):
                _show(item, figures, spinner, show_text=show_text)
            if item is not None:
                on_item(item)
            if job is not None:
                spinner.update(_waiting(job, figures))
    if job is None:
        raise RuntimeError("a stream ended without its job")
    return job, figures


def summary(job: Job, figures: Figures) -> str:
    """Return one line about a finished job."""
    result = _result(job)
    parts = [f"{job.status} in {(job.updated_at - job.queued_at).total_seconds():.1f} s"]
    if figures.first_token_s is not None:
        parts.append(f"first token {figures.first_token_s:.2f} s")
    if figures.tokens_out is not None:
        parts.append(f"{figures.tokens_out} tokens")
    if figures.tokens_per_s is not None:
        parts.append(f"{figures.tokens_per_s:.0f} tokens/s")
    parts.append(f"attempt {job.attempts}")
    parts += [f"{name} {clean(str(result[name]))}" for name in ("model", "cost") if result.get(name)]
    return " · ".join([*parts, str(job.id)])


def _show(event: Event, figures: Figures, spinner: Spinner, *, show_text: bool) -> None:
    now = time.monotonic()
    if event.type == RESET:
        figures.end_line()
        if figures.shown:
            err.print(f"— attempt {event.attempt} begins: the text so far is void —", style="yellow")
        figures.first_at = figures.last_at = figures.tokens_out = None
        figures.shown = False
    elif event.type == DELTA:
        figures.first_ever_at = figures.first_ever_at or now
        figures.first_at = figures.first_at or now
        figures.last_at = now
        text = event.data.get("text", "")
        if show_text and text:
            spinner.stop()
            figures.shown = figures.open_line = True
            out.print(clean(text), end="")
    elif event.type == USAGE:
        figures.tokens_out = event.data.get("tokens_out", figures.tokens_out)
    elif event.type == PROGRESS and not figures.shown:
        spinner.update(f"{event.data.get('fraction', 0):.0%} {clean(str(event.data.get('note', '')))}")


def _waiting(job: Job, figures: Figures) -> str:
    since = f"{time.monotonic() - figures.began_at:.0f} s"
    if job.status is Status.QUEUED:
        return f"queued, {since}" + ("" if job.served else f": no live worker serves {job.kind!r}")
    return f"{job.status}, {since}, attempt {job.attempts}"


def _result(job: Job) -> dict[str, Any]:
    value = None if job.result is None else orjson.loads(job.result)
    return value if isinstance(value, dict) else {}
