"""What goes wrong in a chaos run, and when: drawn from a seed, so that a run can be had again."""

from __future__ import annotations

import random
from dataclasses import dataclass

KINDS = {
    "kill": 3,  # a worker is killed at once
    "freeze": 4,  # a worker stands still for longer than its lease, then goes on
    "drain": 2,  # a worker is asked to stop
    "hold": 6,  # whatever a wire carries is delivered late
    "cut": 2,  # a wire breaks and lets nothing through
    "lose": 4,  # a wire loses replies to what was done
    "terminate": 2,  # Postgres ends every session
    "restart": 1,  # Postgres is stopped as by a power cut, and started
}
"""Every fault, and how often it comes beside the others."""
SEVER = {"sever": 5}
"""The network between Postgres and the one end of a wire is gone, as neither of them is told."""
# How often a fault of wires may be of a client's: most late writes of interest are a worker's.
_CLIENTS_TOO = 0.5
OF_WIRES = ("hold", "cut", "lose", "sever")
OF_WORKERS = ("kill", "freeze", "drain")


@dataclass(frozen=True)
class Fault:
    """One fault: `at_s` seconds into the run, of worker or wire number `target`, for `length_s` seconds."""

    at_s: float
    kind: str
    target: int = 0
    length_s: float = 0.0


def draw(
    rng: random.Random, seconds: float, *, workers: int, wires: int, lease_s: float, severable: bool
) -> list[Fault]:
    """Draw the faults of a run in the order of their time: each kind once at least, then as they come.

    The first `workers` wires are the workers' own, the others are clients'. `severable`: whether the network is ours.
    """
    weights = {**KINDS, **(SEVER if severable else {})}
    gap_s = min(1.0, seconds / (len(weights) + 2))
    kinds = rng.sample(list(weights), len(weights))
    faults, at_s = [], gap_s * 0.5
    while at_s < seconds:
        kind = kinds.pop() if kinds else rng.choices(list(weights), list(weights.values()))[0]
        target = rng.randrange(wires if kind in OF_WIRES and rng.random() < _CLIENTS_TOO else workers)
        faults.append(Fault(at_s, kind, target, _length_s(rng, kind, lease_s)))
        at_s += gap_s * rng.uniform(0.5, 1.5)
    return faults


def _length_s(rng: random.Random, kind: str, lease_s: float) -> float:
    match kind:
        case "freeze":
            return lease_s * rng.uniform(1.1, 1.8)
        case "hold" | "sever":
            # Late enough, mostly, for others to have the job meanwhile.
            return lease_s * rng.choice([rng.uniform(0.3, 1.0), rng.uniform(1.1, 2.0), rng.uniform(1.1, 2.0)])
        case "cut" | "lose":
            return rng.uniform(1.0, 6.0)
    return 0.0
