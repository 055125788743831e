"""What it costs to go through us: the same requests straight to a provider, through us, through LiteLLM's proxy.

All three stand ready the whole time and are asked in turn, whose turn comes first changing each round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from . import proxy_report
from .driving import Broken, Driving
from .environments import ROOT, Skipped
from .proxy_ways import KEY, Cost, SetUp, Way, litellm, ours
from .roster import Peer
from .stores import Stores, wait_idle

PAGE = "docs/benchmarks-http.md"
NAMES = ("direct", "ours", "litellm")
_MOCK = Peer("mock", "the provider", "tests.bench.proxy_mock", 0, 0)
_LOAD = Peer("load", "the client", "tests.bench.proxy_load", 0, 0)
_MEASURED_S = 400.0


@dataclass(frozen=True)
class Measure:
    """One measurement.

    Parameters: `sort`, `whole` answers or `streams`; `words`, of an answer; `gap_ms`, between the words of a stream;
    `clients`, that ask at once, for `seconds` or `each` so many times; `ramp_s`, over how long they begin.
    """

    name: str
    sort: str
    words: int
    gap_ms: int
    clients: int
    seconds: float = 0.0
    each: int = 0
    ramp_s: float = 0.0
    only: tuple[str, ...] = NAMES

    @property
    def model(self) -> str:
        """The provider's model that answers so."""
        return f"mock-{self.words}x{self.gap_ms}"


MEASURES = (
    Measure("one", "whole", 32, 0, 1, each=300),
    Measure("16", "whole", 32, 0, 16, seconds=6.0),
    Measure("50", "whole", 32, 0, 50, seconds=6.0),
    Measure("streams of one", "streams", 64, 20, 1, each=8),
    Measure("200 streams", "streams", 256, 20, 200, each=2, ramp_s=5.0),
    Measure("500 streams", "streams", 128, 80, 500, each=1, ramp_s=5.0, only=("direct", "ours")),
)
WARM_UP = Measure("warm-up", "whole", 32, 0, 4, each=10)


@dataclass
class Results:
    """What was found: answers of the client by measurement and way, one a round."""

    found: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    cpu_ms: dict[tuple[str, str], list[dict[str, float]]] = field(default_factory=dict)
    """CPU of each part of a way, ms for an answer."""
    idle: dict[str, dict[str, Cost]] = field(default_factory=dict)
    after: dict[str, dict[str, Cost]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def median(self, measure: str, way: str, what: str, share: float | None = None) -> float | None:
        """Return the median over the rounds of a figure; of a list of times, of its value at this share of it."""
        rounds = self.found.get((measure, way), [])
        figures = [(at(one[what], share) if share is not None else float(one[what])) for one in rounds]
        told = [figure for figure in figures if figure is not None]
        return statistics.median(told) if told else None

    def sum(self, way: str, what: str) -> int:
        """Return the sum of a count over all measurements and rounds of a way."""
        return sum(int(one[what]) for (_, name), rounds in self.found.items() if name == way for one in rounds)


def at(times: Sequence[float], share: float) -> float | None:
    """Return the value at this share of sorted times: 0.5 is the middle."""
    return sorted(times)[int(share * (len(times) - 1))] if times else None


def run(names: Sequence[str], chosen: Sequence[Measure], how: SetUp, *, rounds: int, scale: float, write: bool) -> None:
    """Measure the ways of these names, print tables, and write the page if asked to."""
    began = time.monotonic()
    results = Results()
    measures = [_scaled(measure, scale) for measure in chosen]
    with Stores() as stores, ExitStack() as stack:
        facts = stores.facts()
        print(proxy_report.machine(facts), flush=True)
        provider = stack.enter_context(Driving(_MOCK, "serve", {}, log=stores.scratch / "mock.log"))
        port = int(provider.answer(timeout_s=30.0)["port"])
        ways = list(_ways(names, stores, stack, port, how, [measure.model for measure in measures], results))
        for way in ways:
            _ask(stores, way, replace(WARM_UP, words=measures[0].words, gap_ms=measures[0].gap_ms))
        results.idle = {way.name: way.cost() for way in ways}
        for number in range(rounds):
            turn = number % max(len(ways), 1)
            print(f"round {number + 1} of {rounds}, {time.monotonic() - began:.0f} s", flush=True)
            for measure in measures:
                for way in [*ways[turn:], *ways[:turn]]:
                    if way.name in measure.only:
                        _measure(results, stores, way, measure)
        results.after = {way.name: way.cost() for way in ways}
    minutes = (time.monotonic() - began) / 60
    print("\n" + proxy_report.tables(ways, measures, results))
    print("\n".join(["", *results.notes, f"{minutes:.1f} min"]))
    if write:
        page = proxy_report.page(ways, measures, results, facts, how, rounds=rounds, minutes=minutes)
        (ROOT / PAGE).write_text(page)
        print(f"wrote {PAGE}")


def _ways(
    names: Sequence[str],
    stores: Stores,
    stack: ExitStack,
    port: int,
    how: SetUp,
    models: Sequence[str],
    results: Results,
) -> Iterator[Way]:
    for name in names:
        try:
            if name == "direct":
                way = Way("direct", "straight to the provider", port)
            elif name == "ours":
                way = stack.enter_context(ours(stores, port, how))
            else:
                way = stack.enter_context(litellm(stores, port, sorted(set(models))))
        except (Skipped, Broken) as why:
            results.notes.append(f"{name}: not measured: {why}")
            print(f"  {results.notes[-1]}", flush=True)
            continue
        print(f"  {way.label}: started in {way.start_s:.1f} s", flush=True)
        yield way


def _measure(results: Results, stores: Stores, way: Way, measure: Measure) -> None:
    stores.checkpoint()
    wait_idle()
    before = way.cost()
    try:
        found = _ask(stores, way, measure)
    except Broken as why:
        results.notes.append(f"{way.label}, {measure.name}: {str(why).partition(chr(10))[0]}")
        return
    answers = max(1, len(found["ms"]))
    cpu = {name: (cost.cpu_s - before[name].cpu_s) * 1000 / answers for name, cost in way.cost().items()}
    found["rate"] = len(found["ms"]) / found["seconds"]
    results.found.setdefault((measure.name, way.name), []).append(found)
    results.cpu_ms.setdefault((measure.name, way.name), []).append(cpu)
    for fault in found["faults"]:
        results.notes.append(f"{way.label}, {measure.name}: {found['failed']} failed, as in {fault[:160]}")
    print(f"  {proxy_report.line(way, measure, found, cpu)}", flush=True)


def _ask(stores: Stores, way: Way, measure: Measure) -> dict[str, Any]:
    asked = {
        "port": way.port,
        "key": KEY,
        "model": measure.model,
        "words": measure.words,
        "clients": measure.clients,
        "seconds": measure.seconds,
        "each": measure.each,
        "ramp_s": measure.ramp_s,
    }
    with Driving(_LOAD, measure.sort, asked, log=stores.scratch / "load.log") as load:
        return load.answer(timeout_s=_MEASURED_S)


def _scaled(measure: Measure, scale: float) -> Measure:
    """Return a smaller measurement, to see whether all of it runs."""
    if scale == 1:
        return measure
    return replace(
        measure,
        clients=max(1, round(measure.clients * scale)),
        seconds=measure.seconds * scale,
        each=max(1, round(measure.each * scale)) if measure.each else 0,
        ramp_s=measure.ramp_s * scale,
    )
