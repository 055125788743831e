"""Real processes in a storm of faults: nothing is lost, done twice, stale or stuck; and a planted bug is found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.mutants import MUTANTS, planted

_ROOT = Path(__file__).parent.parent.parent
_LINE = re.compile(r"lost=(\d+) doubled=(\d+) stale=(\d+) stuck=(\d+) jobs=(\d+)")


def chaos(*arguments: str) -> tuple[int, str, dict[str, int]]:
    """Run `python -m tests.chaos` and return its exit code, what it printed, and the figures of its last line."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    said = f"{ran.stdout}\n{ran.stderr}"
    last = _LINE.fullmatch(ran.stdout.rstrip().rpartition("\n")[2])
    assert last, said
    return (
        ran.returncode,
        said,
        dict(zip(("lost", "doubled", "stale", "stuck", "jobs"), map(int, last.groups()), strict=True)),
    )


def test_nothing_is_lost_doubled_stale_or_stuck() -> None:
    """Another storm each time; the seed in the output brings it back."""
    code, said, found = chaos("--seconds", "10")
    assert code == 0, said
    assert found.pop("jobs") > 20, said
    assert not any(found.values()), said


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_every_bug_can_still_be_planted(mutant: str) -> None:
    with planted(mutant) as code:
        assert (code / "llm_mcp" / "db" / "queries" / "jobs.sql").exists()


# What it takes for a late failure to be accepted does not come about in every minute.
@pytest.mark.soak
@pytest.mark.parametrize("mutant", sorted(MUTANTS.keys() - {"fail"}))
def test_a_planted_bug_is_found(mutant: str) -> None:
    code, said, found = chaos("--seconds", "50", "--seed", "2", "--mutant", mutant)
    assert code == 1, said
    assert found["stuck"] if mutant == "pill" else found["stale"] + found["doubled"], said
    assert found["lost"] == 0, said
