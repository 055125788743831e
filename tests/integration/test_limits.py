"""Limits of kinds: never more at once and never faster than allowed, and no less than that either."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from llm_mcp.errors import InvalidInput, NotFound
from llm_mcp.job import Lease
from llm_mcp.limits import Limits
from llm_mcp.runtime import Runtime
from llm_mcp.store import leases as verbs
from llm_mcp.store.leases import Finished, Turn
from llm_mcp.store.pool import Connection, Database
from tests.integration.rows import add, claim
from tests.integration.test_plans import VALUES, pages_touched, plan


@pytest.fixture
def limits(runtime: Runtime) -> Limits:
    return Limits(runtime)


def turn(db: Database, n: int, *, finished: list[Lease] = [], **more: Any) -> Turn:  # noqa: B006 - only read
    """Take a turn for the kinds `a` and `b`."""
    asked: dict[str, Any] = {"kinds": ["a", "b"], "lease_s": 60.0, "ageing_s": 600.0, **more}
    results = [Finished(lease.job_id, lease.token, "{}") for lease in finished]
    return verbs.turn(db, "w", uuid4(), n=n, finished=results, **asked)


def many(sql: Connection, kind: str, n: int, *, priority: int = 0, queue: str = "default") -> None:
    sql.execute(
        "INSERT INTO llm.jobs (id, kind, priority, queue) SELECT llm.new_id(), %s, %s, %s FROM generate_series(1, %s)",
        (kind, priority, queue, n),
    )


def kinds(taken: Turn) -> list[str]:
    return [lease.kind for lease in taken.leases]


# — at once —


def test_no_more_run_at_once_than_may_whoever_claims(db: Database, limits: Limits, sql: Connection) -> None:
    """Twelve claimers, each with a connection of its own, hand in and claim in one turn as workers do."""
    limits.set("a", max_running=3)
    many(sql, "a", 120)
    many(sql, "b", 60)
    seen: list[int] = []
    done: list[str] = []
    end = time.monotonic() + 40

    def work(number: int) -> None:
        held: list[Lease] = []
        while len(done) < 180 and time.monotonic() < end:
            taken = turn(db, 1 + number % 4, finished=held)
            done.extend(lease.kind for lease in held)
            held = taken.leases
            row = db.run("limits")[0]
            seen.append(row["running"])
            time.sleep(0.002)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(12)))
    assert sorted(done) == ["a"] * 120 + ["b"] * 60
    assert max(seen) == 3


def test_a_place_that_is_given_back_is_taken_in_the_same_turn(db: Database, limits: Limits, sql: Connection) -> None:
    limits.set("a", max_running=1)
    many(sql, "a", 3)
    held = turn(db, 4).leases
    assert len(held) == 1
    assert turn(db, 4).leases == []
    again = turn(db, 4, finished=held)
    assert (again.finished, len(again.leases)) == (1, 1)


def test_a_long_line_of_a_limited_kind_holds_up_nobody(db: Database, limits: Limits, sql: Connection) -> None:
    limits.set("a", max_running=2)
    many(sql, "a", 10_000, priority=9)
    many(sql, "b", 6)
    sql.execute("ANALYZE llm.jobs")
    assert kinds(turn(db, 4)) == ["a", "a"]
    assert kinds(turn(db, 4)) == ["b"] * 4
    values = {**VALUES["turn"], "kinds": ["a", "b"], "n": 4, "free": 4, "results": "[]"}
    with sql.transaction(force_rollback=True):
        found = plan(sql, "turn", values)
    assert found[0]["Actual Rows"] == 2
    # Ten thousand are stepped over in the index: a page for every hundred.
    assert pages_touched(found) < 600
    assert sum(node.get("Rows Removed by Filter", 0) for node in found) <= 16


def test_a_kind_with_no_place_is_paused(db: Database, limits: Limits) -> None:
    limits.set("a", max_running=0)
    add(db, kind="a")
    add(db, kind="b")
    assert kinds(turn(db, 4)) == ["b"]
    limits.set("a", max_running="any")
    assert kinds(turn(db, 4)) == ["a"]


def test_a_claim_that_meets_another_goes_without_and_looks_again_soon(
    db: Database, limits: Limits, sql: Connection
) -> None:
    limits.set("a", max_running=5)
    add(db, kind="a")
    add(db, kind="b")
    with sql.transaction():
        sql.execute("SELECT * FROM llm.room('{a}')")
        taken = turn(db, 4)
        assert kinds(taken) == ["b"]
        assert taken.wait_s is not None
        assert 0 < taken.wait_s < 0.02
    assert kinds(turn(db, 4)) == ["a"]


def test_a_look_that_finds_nothing_writes_nothing(db: Database, limits: Limits, sql: Connection) -> None:
    limits.set("a", max_running=5, rate="10/s")

    def transactions() -> int:
        row = sql.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS n").fetchone()
        assert row is not None
        return int(row["n"])

    before = transactions()
    for _ in range(40):
        assert turn(db, 4).leases == []
    assert transactions() - before < 20  # the server's own housekeeping may write


def test_what_is_left_for_want_of_room_is_nobodys(db: Database, limits: Limits, sql: Connection) -> None:
    """Others are told of jobs that were passed by for us, but not of those they could not begin either."""
    limits.set("a", max_running=2)
    many(sql, "a", 8)
    taken = turn(db, 4)
    assert (taken.found, len(taken.leases), taken.left) == (4, 2, 0)
    many(sql, "b", 8)
    taken = turn(db, 4, free=1)
    assert (taken.found, len(taken.leases), taken.left) == (4, 1, 3)


def test_a_place_that_we_do_not_take_ourselves_is_told(db: Database, limits: Limits, sql: Connection) -> None:
    limits.set("a", max_running=1)
    many(sql, "a", 3)
    held = turn(db, 1).leases
    many(sql, "b", 2, priority=9)
    taken = turn(db, 1, finished=held)
    assert (kinds(taken), taken.freed) == (["b"], True)
    taken = turn(db, 2, finished=taken.leases)
    assert (kinds(taken), taken.freed) == (["b", "a"], False)
    again = turn(db, 1, finished=[lease for lease in taken.leases if lease.kind == "a"])
    assert (kinds(again), again.freed) == (["a"], False)


# — the rate —


def begun(sql: Connection, kind: str) -> list[float]:
    found = sql.execute(
        "SELECT extract(epoch FROM begun_at)::float8 AS at FROM llm.jobs WHERE kind = %s AND begun_at IS NOT NULL"
        " ORDER BY begun_at",
        (kind,),
    )
    return [row["at"] for row in found]


@pytest.mark.parametrize(("burst", "most_s"), [(1, 12.0), (5, 8.0)])
def test_no_faster_than_the_rate_over_any_window(
    db: Database, limits: Limits, sql: Connection, burst: int, most_s: float
) -> None:
    """Six claimers, who look when they were told to: as fast as the rate lets them, and no faster."""
    rate, n = 20, 50
    limits.set("a", rate=f"{rate}/s", burst=burst)
    many(sql, "a", n)
    left = threading.Semaphore(n)
    over = threading.Event()

    def work(number: int) -> None:
        while not over.is_set():
            taken = turn(db, 1 + number % 3)
            for _ in taken.leases:
                left.acquire(blocking=False)
            over.wait(0.0 if taken.leases else min(1.0, taken.wait_s or 1.0))

    began_at = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        work_done = [pool.submit(work, number) for number in range(6)]
        while len(begun(sql, "a")) < n and time.monotonic() - began_at < most_s:
            time.sleep(0.05)
        took_s = time.monotonic() - began_at
        over.set()
        for one in work_done:
            one.result()
    at = begun(sql, "a")
    assert len(at) == n, f"only {len(at)} of {n} began in {took_s:.1f} s"
    # A claim is decided a moment before its job is written as begun; with a burst of 1 not even that can be seen.
    slack_s = 0.0 if burst == 1 else 0.05
    for first in range(n):
        for last in range(first + 1, n):
            allowed = burst + rate * (at[last] - at[first] + slack_s)
            assert last - first + 1 <= allowed + 1e-3, (first, last, at[last] - at[first])


def test_a_burst_begins_at_once_and_the_next_is_told(db: Database, limits: Limits, sql: Connection) -> None:
    limits.set("a", rate="6/m", burst=3)
    many(sql, "a", 5)
    taken = turn(db, 8)
    assert len(taken.leases) == 3
    assert taken.found == 5
    assert taken.wait_s is not None
    assert 8 < taken.wait_s <= 10
    taken = turn(db, 8)
    assert taken.leases == []
    assert taken.wait_s is not None
    assert 8 < taken.wait_s <= 10


def test_who_wants_no_more_is_told_no_time(db: Database, limits: Limits, sql: Connection) -> None:
    limits.set("a", rate="6/m", burst=3)
    many(sql, "a", 2)
    taken = turn(db, 8)
    assert (len(taken.leases), taken.wait_s) == (2, None)


def test_both_limits_hold_the_tighter_one(db: Database, limits: Limits, sql: Connection) -> None:
    limits.set("a", max_running=2, rate="6/m", burst=3)
    many(sql, "a", 8)
    held = turn(db, 8)
    assert (len(held.leases), held.wait_s) == (2, None)
    taken = turn(db, 8, finished=held.leases)
    assert len(taken.leases) == 1
    assert taken.wait_s is not None
    assert turn(db, 8, finished=taken.leases).leases == []


def test_a_clock_that_was_set_back_closes_nobody_out(db: Database, limits: Limits, sql: Connection) -> None:
    limits.set("a", rate="1/s", burst=2)
    many(sql, "a", 8)
    sql.execute("UPDATE llm.limits SET next_at = clock_timestamp() + interval '1 h'")
    assert len(turn(db, 8).leases) == 2
    assert turn(db, 8).leases == []
    row = sql.execute("SELECT extract(epoch FROM next_at - clock_timestamp()) AS s FROM llm.limits").fetchone()
    assert row is not None
    assert row["s"] <= 2


# — the verbs —


def test_what_is_not_named_stays(limits: Limits) -> None:
    made = limits.set("a", max_running=2, rate="10/m")
    assert (made.max_running, made.rate, made.per_s, made.burst, made.running) == (2, 10, 60.0, 1, 0)
    limits.set("a", max_running=0)
    made = limits.set("a", burst=4)
    assert (made.max_running, made.rate, made.burst) == (0, 10, 4)
    made = limits.set("a", rate="any")
    assert (made.max_running, made.rate, made.per_s) == (0, None, None)
    assert limits.set("a", rate="500/s").burst == 50
    assert [one.kind for one in limits.every()] == ["a"]
    limits.remove("a")
    assert limits.every() == []
    for verb in (limits.remove, limits.get):
        with pytest.raises(NotFound, match="no limit for 'a'"):
            verb("a")


def test_a_faster_rate_does_not_wait_for_the_slow_one(db: Database, limits: Limits, sql: Connection) -> None:
    limits.set("a", rate="1/d")
    many(sql, "a", 4)
    assert len(turn(db, 8).leases) == 1
    limits.set("a", rate="2/s", burst=1)
    taken = turn(db, 8)
    assert taken.leases == []  # what was spent is spent
    assert taken.wait_s is not None
    assert taken.wait_s <= 0.5
    limits.set("a", rate="1/d", burst=1)
    limits.set("a", max_running=9)
    assert turn(db, 8).leases == []


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "max_running"),
        ({"max_running": -1}, "max_running"),
        ({"max_running": True}, "max_running"),
        ({"max_running": 1_000_001}, "max_running"),
        ({"max_running": "many"}, "max_running"),
        ({"rate": "10"}, "rate"),
        ({"rate": "0/s"}, "rate"),
        ({"rate": "1.5/s"}, "rate"),
        ({"rate": "10/w"}, "rate"),
        ({"rate": 10}, "rate"),
        ({"rate": "1/s", "burst": 0}, "burst"),
        ({"rate": "1/d", "burst": 1000}, "burst"),
        ({"rate": "any", "burst": 2}, "burst"),
        ({"burst": 2}, "burst"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(limits: Limits, given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        limits.set("a", **given)
    assert refused.value.field == field
    assert limits.every() == []


def test_a_kind_without_a_name_has_no_limit(limits: Limits) -> None:
    with pytest.raises(InvalidInput) as refused:
        limits.set(" ", max_running=1)
    assert refused.value.field == "kind"


def test_an_operator_gets_through_while_everybody_claims(db: Database, limits: Limits, sql: Connection) -> None:
    limits.set("a", max_running=1, rate="1000/s")
    many(sql, "a", 2000)
    over = threading.Event()

    def work() -> None:
        held: list[Lease] = []
        while not over.is_set():
            held = turn(db, 2, finished=held).leases

    with ThreadPoolExecutor(6) as pool:
        claimers = [pool.submit(work) for _ in range(6)]
        try:
            began_at = time.monotonic()
            for n in range(10):
                limits.set("a", max_running=1 + n % 2)
            assert time.monotonic() - began_at < 10
        finally:
            over.set()
        for one in claimers:
            one.result()
    assert claim(db, kinds=["b"]) == []
