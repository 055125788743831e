"""What a self-test found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

_DIGITS = {"pickup_ms_p50": 2, "pickup_ms_p99": 2, "round_trip_ms": 3, "disk_ms": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one self-test. Rates are jobs/s."""

    submit_per_s: float
    """Of one thread that submits one job at a time."""
    batch_submit_per_s: float
    """Of one thread that submits batches of `batch_size`, each one statement."""
    drain_per_s: float
    """Of all workers together, from the start of the first job's function to the start of the last one's."""
    drain_committed_per_s: float
    """The same jobs, from the first claim to the last commit of a result, by the server's clock."""
    pickup_ms_p50: float
    """From just before a submit to the start of the job's function, on workers that have nothing else to do, ms."""
    pickup_ms_p99: float
    """The same for the slowest of a hundred, ms."""
    stub_drain_per_s: float
    """Of Dramatiq with its stub broker, in the memory of one process with as many threads; as `drain_per_s`."""

    jobs: int
    threads: int
    processes: int
    batch_size: int
    """Jobs of one batch."""
    pickups: int
    """How many pick-ups were measured."""
    round_trip_ms: float
    """What a small question to Postgres takes, median, ms."""
    disk_ms: float
    """What a commit takes beyond that until it is on disk, median, ms; about 0 where nobody waits for the disk."""
    synchronous_commit: str
    """As the sessions have it: `on`, `off`, `local`, …."""
    pooled: bool
    """Whether DB_DSN leads to a transaction pooler, so that nothing is prepared."""
    server: str
    """Which Postgres: `yours`, `embedded`, or `temporary`."""
    postgres: str
    """Its version."""
    version: str
    """Ours."""
    cpus: int
    """CPUs of this machine that we may use."""
    advice: Sequence[str] = field(default_factory=tuple)
    """What the figures say to whoever wants better ones."""

    def advised(self, advice: Sequence[str]) -> Figures:
        """Return the same with what is to be said of it."""
        return replace(self, advice=tuple(advice))

    def as_json(self) -> dict[str, Any]:
        """Return all of it as a JSON object, rounded to what was measured."""
        told = asdict(self)
        for name, value in told.items():
            if isinstance(value, float):
                told[name] = round(value, _DIGITS.get(name, 1))
        return {**told, "advice": list(self.advice)}


def per_s(jobs: int, first_us: int, last_us: int) -> float:
    """Return jobs/s when the first of so many began at one instant and the last at another, both in µs."""
    return (jobs - 1) * 1e6 / max(1, last_us - first_us)
