"""Faults of all sorts against real processes, for a while, and a verdict.

    python -m tests.chaos [--seconds 75] [--seed N] [--workers 4] [--mutant NAME] [--keep]

The last line says what is wrong with what is left: `lost=0 doubled=0 stale=0 stuck=0 jobs=N` when nothing is. Exit code
1 when anything is. As root on Linux the network is broken too, one of the run's own. With `--mutant` the workers run a
planted bug, and the run ends once it has shown itself.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
from contextlib import nullcontext

from llm_mcp import config, logs
from tests.chaos import mutants, network
from tests.chaos.storm import Plan, run


def main() -> int:
    """Have a run as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Faults against real processes.")
    parser.add_argument("--seconds", type=float, default=75.0, help="how long faults fall, s")
    parser.add_argument("--seed", type=int, default=None, help="of the faults and of the jobs; drawn when not given")
    parser.add_argument("--workers", type=int, default=4, help="worker processes")
    parser.add_argument("--mutant", choices=sorted(mutants.MUTANTS), help="a bug to plant in the workers' SQL")
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.inside and network.is_to_be_had():
        network.go_on_inside([sys.executable, "-m", "tests.chaos", *sys.argv[1:], "--inside"])
    if given.inside:
        network.open_loopback()
    logs.configure(config.load(log_level="ERROR"))
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # it says at length what we did to it
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    with mutants.planted(given.mutant) if given.mutant else nullcontext() as code:
        plan = Plan(
            given.seconds, seed, given.workers, given.inside, given.keep, code, until_shown=given.mutant is not None
        )
        verdict = run(plan, lambda line: print(line, flush=True))
    print(verdict.line, flush=True)
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
