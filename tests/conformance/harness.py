"""Running the harness against a server, and reading what it found."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.contract.clients import environments

from .suites import Suite

_LOCK = Path(__file__).parent / "pins" / "package-lock.json"
RESULTS = Path(__file__).parents[2] / ".bench" / "conformance"
_RUN_S = 300.0
_FOLDER = re.compile(r"server-(?P<scenario>.+)-\d{4}-\d\d-\d\dT[\d-]+Z")


class Broken(Exception):
    """The harness ended before it had found out anything; the message has its last words."""


@dataclass(frozen=True)
class Scenario:
    """What one scenario came to.

    Parameters: `checks`, how many were judged; `skipped`, how many were not, for they are of what the server does not
    say it has; `faults`, what went wrong, a line each: it passed when there are none.
    """

    name: str
    checks: int
    skipped: int
    faults: tuple[str, ...]


def run(suite: Suite, url: str, *, scenario: str = "") -> list[Scenario]:
    """Run a suite, or one scenario of its harness, against the server at `url`; return what came of each scenario.

    What the harness wrote is kept under `RESULTS`. Raises environments.Unmade when no harness is to be had, Broken when
    it said nothing of any scenario.
    """
    packages = environments.packages(_LOCK)
    entry = packages / "node_modules" / suite.package / "dist" / "index.js"
    folder = RESULTS / (scenario or suite.name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    words = ("--scenario", scenario) if scenario else suite.words
    done = subprocess.run(
        [str(environments.node()), str(entry), "server", "--url", url, *words, "-o", str(folder)],
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
    )
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    if not (found := read(folder, suite)):
        raise Broken((done.stderr or done.stdout).strip()[-500:])
    return found


def read(folder: Path, suite: Suite) -> list[Scenario]:
    """Return what the harness left in a folder."""
    return [_read(file, suite.warned) for file in sorted(folder.glob("*/checks.json"))]


def made() -> bool:
    """Return whether the harness is there already: then running it needs no network."""
    return environments.made(_LOCK)


def short(suite: Suite, found: Sequence[Scenario]) -> list[str]:
    """Return why a suite did not pass whole, a line each."""
    told = [f"{scenario.name}: {fault}" for scenario in found for fault in scenario.faults]
    if len(found) != suite.scenarios:
        told.append(f"{len(found)} scenarios ran; {suite.scenarios} were to")
    return told


def _read(file: Path, warned: frozenset[str]) -> Scenario:
    """Return what one scenario came to: a warning is a fault as well, unless it is of `warned`."""
    named = _FOLDER.fullmatch(file.parent.name)
    assert named, file
    checks = json.loads(file.read_text())
    counts = Counter(check["status"] for check in checks)
    faults = tuple(
        f"{check['id']}: {check.get('errorMessage') or check.get('description')}"
        for check in checks
        if check["status"] == "FAILURE" or (check["status"] == "WARNING" and check["id"] not in warned)
    )
    return Scenario(named["scenario"], counts["SUCCESS"] + len(faults), counts["SKIPPED"], faults)
