"""The run: every measurement in rounds, the order of the peers turned by one each round, so that a slow minute of the
machine is nobody's alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from . import report
from .driving import Broken
from .environments import ROOT, Skipped
from .measures import Drained, Measures
from .roster import BATCH, DRAIN, OURS, PICKUP, SUBMIT, Peer
from .stores import Stores

PAGE = "docs/benchmarks.md"
_PICKUPS = 220
_FEWEST = 20


@dataclass
class Results:
    """What was found: per measurement and peer, one value a round; pick-ups are pooled."""

    rates: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    pickups: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Who was skipped, what failed, what was odd."""

    def add(self, measure: str, peer: Peer, rate: float) -> None:
        """Keep one value, jobs/s."""
        self.rates.setdefault((measure, peer.name), []).append(rate)


def run(peers: Sequence[Peer], *, rounds: int, scale: float, write: bool) -> None:
    """Measure the peers, print a table, and write the page if asked to."""
    began = time.monotonic()
    results = Results()
    with Stores() as stores:
        measures = Measures(stores)
        facts = stores.facts()
        print(report.machine(facts), flush=True)
        present = [peer for peer in peers if _tried(results, peer, "", partial(measures.prepare, peer))]
        for number in range(rounds):
            turn = number % max(len(present), 1)
            print(f"round {number + 1} of {rounds}, {time.monotonic() - began:.0f} s", flush=True)
            _round(measures, results, [*present[turn:], *present[:turn]], rounds, scale)
        if measures.busy:
            results.notes.append(f"The machine was busy with something else at {measures.busy} of the starts.")
    minutes = (time.monotonic() - began) / 60
    print("\n" + report.tables(present, results))
    print("\n".join(["", *results.notes, f"{minutes:.0f} min"]))
    if write:
        page = report.page(present, results, facts, rounds=rounds, minutes=minutes)
        (ROOT / PAGE).write_text(page)
        print(f"wrote {PAGE}")


def _round(measures: Measures, results: Results, peers: Sequence[Peer], rounds: int, scale: float) -> None:
    def few(jobs: int) -> int:
        return max(int(jobs * scale), _FEWEST)

    for processes in (1, 2):
        for peer in peers:
            if DRAIN in peer.does and processes in peer.processes:
                name = report.DRAINS[processes]
                _drain(results, peer, name, partial(measures.drain, peer, few(peer.jobs), processes), few(peer.jobs))
    for size in report.SIZES:
        for peer in peers:
            if (SUBMIT if size == 1 else BATCH) in peer.does:
                jobs = few(peer.submits * (1 if size == 1 else 10))
                _rate(results, peer, report.submits(size), partial(measures.submit, peer, jobs, size))
    for peer in peers:
        if PICKUP in peer.does:
            _pickup(measures, results, peer, few(-(-_PICKUPS // rounds)))
    if OURS in peers:
        jobs = few(OURS.jobs)
        _drain(results, OURS, report.HISTORY, partial(measures.drain_over_history, jobs), jobs)
        _drain(results, OURS, report.SNAPSHOT, partial(measures.drain_under_snapshot, jobs), jobs)


def _drain(results: Results, peer: Peer, name: str, measure: Callable[[], Drained], jobs: int) -> None:
    def rate() -> float:
        drained = measure()
        if drained.ran < jobs or drained.repeats:
            results.notes.append(
                f"{peer.label}, {name}: ran {drained.ran} of {jobs} jobs, {drained.repeats} of them more than once."
            )
        return drained.rate

    _rate(results, peer, name, rate)


def _rate(results: Results, peer: Peer, name: str, measure: Callable[[], float]) -> None:
    def keep() -> None:
        rate = measure()
        results.add(name, peer, rate)
        print(f"  {name:<32}{peer.label:<40}{rate:>10,.0f}/s", flush=True)

    _tried(results, peer, name, keep)


def _pickup(measures: Measures, results: Results, peer: Peer, jobs: int) -> None:
    def keep() -> None:
        found = measures.pickup(peer, jobs)
        results.pickups.setdefault(peer.name, []).extend(found)
        print(f"  {'pick-up':<32}{peer.label:<40}{report.median(found):>10,.1f} ms", flush=True)

    _tried(results, peer, "pick-up", keep)


def _tried(results: Results, peer: Peer, name: str, work: Callable[[], None]) -> bool:
    """Do it; when it cannot be done, say so and go on with the others."""
    try:
        work()
    except (Skipped, Broken) as why:
        kind = "skipped" if isinstance(why, Skipped) else "failed"
        line = f"{peer.label}{', ' if name else ''}{name}: {kind}: {why}"
        print(f"  {line}", flush=True)
        results.notes.append(line.partition("\n")[0])
        return False
    return True
