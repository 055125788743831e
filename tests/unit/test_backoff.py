"""How long a retry waits."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp.backoff import BASE_S, CAP_S, delay_s


@given(st.integers(-5, 10_000), st.none() | st.floats(), st.integers(0, 2**32))
def test_a_pause_is_never_negative_never_endless_and_never_shorter_than_asked(
    tries: int, asked_s: float | None, seed: int
) -> None:
    pause = delay_s(tries, at_least_s=asked_s, rng=random.Random(seed))
    assert 0 <= pause <= 2 * CAP_S
    if asked_s is not None and asked_s > 0:
        assert pause >= min(asked_s, CAP_S)


@pytest.mark.parametrize(
    ("tries", "ceiling"), [(1, BASE_S), (2, 2 * BASE_S), (5, 16 * BASE_S), (9, 256.0), (10, CAP_S)]
)
def test_pauses_are_spread_over_the_whole_of_a_doubling_range(tries: int, ceiling: float) -> None:
    rng = random.Random(1)
    pauses = [delay_s(tries, rng=rng) for _ in range(2000)]
    assert max(pauses) <= ceiling
    assert max(pauses) > 0.95 * ceiling
    assert min(pauses) < 0.05 * ceiling
    assert statistics.mean(pauses) == pytest.approx(ceiling / 2, rel=0.1)


def test_waiters_that_were_told_the_same_time_do_not_return_together() -> None:
    assert len({delay_s(3, at_least_s=30.0) for _ in range(50)}) == 50


def test_no_number_at_all_is_no_wish() -> None:
    assert delay_s(1, at_least_s=math.nan) <= BASE_S
