"""How far ahead a worker claims: only for kinds that are proven short, and never more than a moment's work."""

from __future__ import annotations

import pytest

from llm_mcp.pace import MOST_AHEAD, SHORT_S, Pace


def ran(pace: Pace, kind: str, seconds: float, times: int) -> Pace:
    for _ in range(times):
        pace.ran(kind, seconds)
    return pace


def test_nothing_is_held_ahead_before_it_is_measured() -> None:
    pace = Pace(8)
    assert (pace.short, pace.ahead) == ([], 0)
    assert ran(pace, "a", 0.001, 15).ahead == 0
    assert ran(pace, "a", 0.001, 1).short == ["a"]
    assert pace.ahead > 0


def test_a_long_run_takes_its_kind_out_and_no_other() -> None:
    pace = ran(ran(Pace(8), "a", 0.001, 20), "b", 0.001, 20)
    pace.ran("a", SHORT_S + 0.001)
    assert pace.short == ["b"]
    assert ran(pace, "a", 0.001, 15).short == ["b"]
    assert sorted(ran(pace, "a", 0.001, 1).short) == ["a", "b"]


def test_the_bound_itself_is_short() -> None:
    assert ran(Pace(1), "a", SHORT_S, 16).short == ["a"]


def test_kinds_are_proven_each_by_itself() -> None:
    pace = Pace(8)
    for _ in range(15):
        pace.ran("a", 0.0)
        pace.ran("b", 0.0)
    assert pace.short == []


@pytest.mark.parametrize(("threads", "seconds"), [(1, 0.01), (4, 0.01), (4, 0.001), (8, 0.05)])
def test_what_is_held_ahead_is_a_twentieth_of_a_seconds_work(threads: int, seconds: float) -> None:
    pace = ran(Pace(threads), "a", seconds, 400)
    assert pace.ahead * seconds / threads <= 0.0501
    assert pace.ahead >= min(MOST_AHEAD, int(0.05 * threads / seconds)) - 1


def test_there_is_an_end_to_it() -> None:
    assert ran(Pace(64), "a", 0.0, 1000).ahead == MOST_AHEAD


def test_after_a_stall_everything_is_measured_again() -> None:
    pace = ran(Pace(8), "a", 0.0001, 500)
    pace.stalled()
    assert (pace.short, pace.ahead) == ([], 0)
    assert ran(pace, "a", 0.0001, 15).ahead == 0
    assert ran(pace, "a", 0.0001, 1).ahead < 30  # and slowly at first


def test_the_kinds_it_returns_are_a_copy() -> None:
    pace = ran(Pace(1), "a", 0.0, 16)
    pace.short.clear()
    assert pace.short == ["a"]
