"""How long to wait before the next attempt: exponential with full jitter."""

from __future__ import annotations

import random

BASE_S = 1.0
CAP_S = 300.0


def delay_s(tries: int, *, at_least_s: float | None = None, rng: random.Random | None = None) -> float:
    """Return the pause before the next attempt, s.

    `tries` is how many attempts have failed (from 1). `at_least_s` is what the provider asked for in
    Retry-After; it is a floor, itself capped, and still gets jitter on top so that waiters do not return
    together. Full jitter: uniform between 0 and min(cap, base * 2^(tries-1)), as in the AWS architecture
    blog's "Exponential Backoff And Jitter".
    """
    draw = (rng or random).uniform
    ceiling = min(CAP_S, BASE_S * 2 ** min(max(tries, 1) - 1, 20))
    floor = min(at_least_s, CAP_S) if at_least_s is not None and at_least_s > 0 else 0.0
    return floor + draw(0.0, ceiling)
