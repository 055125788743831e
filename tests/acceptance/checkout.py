"""A copy of the project as git knows it, to build, plant and break things in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tracked(*under: str) -> list[str]:
    """Return the paths of the tracked files (all, or those below these folders) that are there, from the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *under], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return sorted(path for path in listed.split("\0") if path and (ROOT / path).is_file())


def copy(to: Path) -> Path:
    """Copy all tracked files, as they are now, below `to` and return it."""
    for path in tracked():
        target = to / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target)
    return to


def run(*words: str | Path, cwd: Path, env: dict[str, str] | None = None, fails: bool = False) -> str:
    """Run a program and return what it said, on either stream.

    Parameters: `env`, its whole environment (None: ours). Raises AssertionError with that text when it fails, or, with
    `fails`, when it does not.
    """
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    assert (done.returncode != 0) == fails, f"{words[0]} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout
