"""What the doctor says of one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import psycopg

from llm_mcp.errors import LlmMcpError
from llm_mcp.store.pool import first_line

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


class Verdict(StrEnum):
    """How one thing stands: fine, worth knowing, or in the way of running jobs."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: its name, how it stands, and what to do when it does not stand well."""

    verdict: Verdict
    name: str
    what: str
    remedy: str = ""


def ok(name: str, what: str) -> Finding:
    """Return a finding about what is well."""
    return Finding(Verdict.OK, name, what)


def warn(name: str, what: str, remedy: str) -> Finding:
    """Return a finding about what is worth knowing."""
    return Finding(Verdict.WARN, name, what, remedy)


def fail(name: str, what: str, remedy: str) -> Finding:
    """Return a finding about what is in the way of running jobs."""
    return Finding(Verdict.FAIL, name, what, remedy)


def each(looks: dict[str, Callable[[], Iterator[Finding]]]) -> Iterator[Finding]:
    """Yield what each look finds; one that cannot be had says so under its name, and the others go on."""
    for name, look in looks.items():
        try:
            yield from look()
        except LlmMcpError as error:
            yield warn(name, f"could not be looked at: {error}", "")
        except psycopg.Error as error:
            yield warn(name, f"could not be looked at: {first_line(error)}", "")


def span(seconds: float) -> str:
    """Return a length of time in words: `75 s`, `12 min`, `3 h`, `4 d`; the largest unit of which there are two."""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
