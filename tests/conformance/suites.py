"""What the harness is asked to run, and how much of it there is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """One run of the harness.

    Parameters: `package`, the folder of the harness among the packages; `words`, what is asked of it; `scenarios`, how
    many of them it then runs: less would be an easier exam than the one we mean to pass; `warned`, checks that may end
    in a warning.
    """

    name: str
    package: str
    words: tuple[str, ...]
    scenarios: int
    warned: frozenset[str] = frozenset()


# This harness calls as a client of 2025-03-26 here, and from the SDK such a client gets no event it cannot read.
_OLD_STREAM = frozenset({"server-sse-priming-event", "server-sse-retry-field"})
_NOW, _FIRST = "@modelcontextprotocol/conformance", "conformance-first"

SUITES = (
    Suite("2025-11-25", _NOW, ("--requirements", "2025-11-25"), 33),
    Suite("2026-07-28", _NOW, ("--requirements", "2026-07-28"), 50),
    Suite("all", _NOW, ("--suite", "all"), 65),
    Suite("0.1.16", _FIRST, ("--suite", "all"), 32, _OLD_STREAM),
)
"""The two revisions' requirements, every scenario there is, and those of the last release that calls itself stable."""
