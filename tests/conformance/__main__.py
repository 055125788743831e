"""The conformance harness of the Model Context Protocol against the product's own bridge.

python -m tests.conformance                              all suites
python -m tests.conformance --suite 2026-07-28           one of them
python -m tests.conformance --scenario tasks-lifecycle   one scenario, with every check that failed
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.contract.clients import environments

from . import harness, running
from .suites import SUITES, Suite


def main() -> int:
    """Run what was asked for; 1 when something is short."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", choices=[suite.name for suite in SUITES], help="only this one")
    parser.add_argument("--scenario", default="", help="only this one, of the harness of --suite or the newest")
    asked = parser.parse_args()
    chosen = [suite for suite in SUITES if asked.suite in (None, suite.name)]
    ends: list[str] = []
    failed = False
    try:
        with running.serving() as url:
            for suite in chosen[:1] if asked.scenario else chosen:
                end, told = _run(suite, url, asked.scenario)
                ends.append(end)
                failed |= bool(told)
    except (environments.Unmade, harness.Broken) as why:
        print(f"not run: {why}", file=sys.stderr)
        return 1
    print("\n".join(ends))
    return int(failed)


def _run(suite: Suite, url: str, scenario: str) -> tuple[str, list[str]]:
    """Run a suite, or one scenario of its harness; say how it went, and return its last line and what went wrong."""
    began_at = time.monotonic()
    found = harness.run(suite, url, scenario=scenario)
    if scenario:
        name, total, told = scenario, 1, [fault for one in found for fault in one.faults]
    else:
        name, total, told = suite.name, suite.scenarios, harness.short(suite, found)
    checks, skipped = sum(one.checks for one in found), sum(one.skipped for one in found)
    without = f", {skipped} not judged" if skipped else ""
    print(f"{name}: {checks} checks{without}, {time.monotonic() - began_at:.0f} s", flush=True)
    for line in told:
        print(f"  {line}", flush=True)
    return f"{name} {sum(not one.faults for one in found)}/{total}", told


if __name__ == "__main__":
    sys.exit(main())
