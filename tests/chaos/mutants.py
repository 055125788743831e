"""Bugs to plant: copies of the library whose SQL lacks one of its guards. They prove that a chaos run can fail."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import new_scratch

_ROOT = Path(__file__).parent.parent.parent

MUTANTS: dict[str, list[tuple[str, str, str]]] = {
    # A result is taken whenever the job runs, whoever runs it now.
    "state-only": [("hand_in", r"AND j\.lease_token = r\.token(\s+WHERE j\.status = 'running')", r"\1")],
    # A result is taken for the job's id alone; the one table that would not have it twice looks away.
    "id-only": [
        ("hand_in", r"AND j\.lease_token = r\.token\s+WHERE j\.status = 'running'", ""),
        ("hand_in", r"(begun_at, clock_timestamp\(\) FROM finished\n)", r"\1    ON CONFLICT DO NOTHING\n"),
    ],
    # Two may lease one job at once.
    "unlocked": [
        ("lease", r"(ORDER BY queued_at LIMIT .*?) FOR UPDATE SKIP LOCKED", r"\1"),
        ("lease", r"(ORDER BY priority DESC, queued_at LIMIT .*?) FOR UPDATE SKIP LOCKED", r"\1"),
    ],
    # A failure is taken from whoever had the job once.
    "fail": [("fail", r"AND lease_token = %\(token\)s ", "")],
    # A job that kills its workers is given to the next one for ever.
    "pill": [("reap", r"j\.crashes \+ 1 >= %\(max_crashes\)s", "false")],
    # Words of a stream are taken whenever the job runs.
    "append": [("append", r"AND (\w+\.)?lease_token = %\(token\)s", "")],
}
"""By name: in which statement or part of some, what (a regular expression that fits once), and what it becomes."""


@contextmanager
def planted(name: str) -> Iterator[Path]:
    """Give a folder whose `llm_mcp` is ours with this bug; first on the path, it is the one that runs.

    Raises LookupError when the code to be broken is not there any more.
    """
    scratch = new_scratch("mutant")
    try:
        package = scratch / "llm_mcp"
        package.mkdir()
        for entry in (_ROOT / "llm_mcp").iterdir():
            if entry.name not in ("__pycache__", "db", "actors", "web"):
                (package / entry.name).symlink_to(entry)
        (package / "actors").symlink_to(_ROOT / "actors")
        shutil.copytree(_ROOT / "db", package / "db")
        for statement, pattern, instead in MUTANTS[name]:
            _break(package / "db" / "queries", statement, pattern, instead)
        yield scratch
    finally:
        shutil.rmtree(scratch)


def _break(queries: Path, statement: str, pattern: str, instead: str) -> None:
    for path in queries.glob("*.sql"):
        parts = re.split(r"(?m)^(?=-- (?:name|part): )", path.read_text())
        for i, part in enumerate(parts):
            if part.startswith((f"-- name: {statement}\n", f"-- part: {statement}\n")):
                parts[i], n = re.subn(pattern, instead, part)
                if n != 1:
                    raise LookupError(f"{statement}: {pattern!r} fits {n} times")
                path.write_text("".join(parts))
                return
    raise LookupError(f"no statement {statement}")
