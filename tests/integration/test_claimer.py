"""A claimer's turns in good times and bad: no lease is left lying, no result lost, refused ones hold up nobody."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from llm_mcp.errors import LeaseLost, Unavailable
from llm_mcp.hints import Hints
from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs
from llm_mcp.limits import Limits
from llm_mcp.pace import MOST_AHEAD
from llm_mcp.store import jobs as job_rows
from llm_mcp.store import leases as rows
from llm_mcp.store.listen import JOB_QUEUED
from llm_mcp.store.pool import Connection, Database
from tests.integration.claiming import Desk
from tests.integration.proxy import Proxy
from tests.integration.rows import add, whole
from tests.waiting import until

Open = Callable[..., Desk]
Refuse = Callable[[str, str], None]


@pytest.fixture
def desk(proxy: Proxy, tmp_path: Path) -> Iterator[Open]:
    """Open a claimer with these settings, by way of the proxy."""
    made: list[Desk] = []

    def start(**more: Any) -> Desk:
        made.append(Desk(proxy.dsn, tmp_path, **more))
        return made[-1]

    yield start
    proxy.restore()
    for one in made:
        one.close()


@pytest.fixture
def refuse(sql: Connection) -> Iterator[Refuse]:
    """Have the server refuse rows for which a condition holds, with an SQLSTATE."""

    def forbid(when: str, sqlstate: str) -> None:
        sql.execute(
            "CREATE FUNCTION llm.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF {when} THEN RAISE EXCEPTION 'refused' USING ERRCODE = '{sqlstate}'; END IF; RETURN NEW; END $$"
        )
        sql.execute("CREATE TRIGGER refuse BEFORE UPDATE ON llm.jobs FOR EACH ROW EXECUTE FUNCTION llm.refuse()")

    yield forbid
    sql.execute("DROP FUNCTION IF EXISTS llm.refuse() CASCADE")


def status(dsn: str, *job_ids: UUID) -> list[str]:
    return [whole(dsn, job_id)["job"]["status"] for job_id in job_ids]


def proven(at: Desk, db: Database, kind: str = "echo") -> None:
    """Let a kind be measured short."""
    for _ in range(16):
        add(db, kind=kind)
        at.finish(*at.take())
        at.settled()
    assert at.claimer._pace.short == [kind]


# — turns —


def test_what_is_finished_and_what_is_next_is_one_turn(desk: Open, db: Database, sql: Connection) -> None:
    at = desk(threads=1)
    first, second = add(db), add(db)
    (run,) = at.take()
    before = at.looks
    at.finish(run)
    (after,) = at.take()
    assert (run.lease.job_id, after.lease.job_id) == (first, second)
    assert at.looks == before + 1
    (row,) = sql.execute("SELECT count(DISTINCT xmin::text) AS n FROM llm.jobs").fetchall()
    assert row["n"] == 1


def test_where_nothing_waits_a_result_is_handed_in_without_a_claim(desk: Open, db: Database, dsn: str) -> None:
    at = desk(poll_s=60.0)
    at.warm()
    before = at.looks
    for _ in range(3):
        job_id = add(db)
        at.wake.set()
        at.finish(*at.take())
        at.settled()
        assert status(dsn, job_id) == ["done"]
    until(lambda: at.claimer.due_s() > 1 and at.turn() == [])
    assert at.looks - before == 3
    at.wake.freed()
    at.turn()
    assert at.looks - before == 4, "a reason to look is followed all the same"


def test_who_would_not_be_told_of_jobs_claims_with_each_result(desk: Open, db: Database, own: str) -> None:
    with Proxy(own) as news:
        at = desk(threads=2, poll_s=60.0, db_direct_dsn=news.dsn)
        add(db)
        (run,) = at.take()
        at.warm()
        news.refuse()
        until(lambda: not at.runtime.listener.hears(JOB_QUEUED))
        add(db)
        at.finish(run)
        until(at.turn, timeout_s=10, every_s=0)


def test_what_had_to_be_left_is_claimed_with_the_next_result(desk: Open, db: Database) -> None:
    """By a claimer whose threads were all busy, without a hint."""
    at = desk(threads=2, poll_s=60.0)
    for _ in range(3):
        add(db)
    runs = at.take(2)
    assert at.claimer.turn() == []
    at.finish(runs[0])
    until(at.turn, timeout_s=10, every_s=0)


def test_what_a_limit_left_is_claimed_with_the_next_result(desk: Open, db: Database) -> None:
    """Though threads are idle, and the last look found nothing."""
    at = desk(threads=4, poll_s=60.0)
    Limits(at.runtime).set("echo", max_running=1)
    first, second = add(db), add(db)
    (run,) = at.take()
    at.warm()
    at.finish(run)
    (after,) = until(at.turn, timeout_s=10, every_s=0)
    assert (run.lease.job_id, after.lease.job_id) == (first, second)


def test_a_hint_is_followed_in_the_turn_that_hands_in(desk: Open, db: Database) -> None:
    at = desk(threads=4, poll_s=60.0)
    add(db)
    at.finish(*at.take())
    job_id = add(db)
    at.wake.set()
    (run,) = at.claimer.turn()
    assert (run.lease.job_id, at.keeper.held) == (job_id, 1)


def test_what_needed_the_result_is_claimed_at_once(desk: Open, db: Database) -> None:
    at = desk(threads=4, poll_s=60.0)
    jobs = Jobs(at.runtime)
    first = jobs.submit(Submission(kind="echo"))
    then = jobs.submit(Submission(kind="echo", after=(first,)))
    at.finish(*at.take())
    (after,) = at.take()
    assert after.lease.job_id == then


def test_results_wait_for_each_other_for_milliseconds_only(desk: Open, db: Database) -> None:
    at = desk(threads=8, poll_s=60.0)
    add(db), add(db), add(db)
    runs = at.take(3)
    until(lambda: at.turn() == [] and at.claimer.due_s() > 1, every_s=0)
    at.finish(runs[0])
    assert 0 < at.claimer.due_s() <= 0.002
    at.finish(runs[1], runs[2])
    assert at.claimer.due_s() <= 0  # nothing else runs: whom should they wait for


def test_an_idle_claimer_does_not_spin(desk: Open, db: Database) -> None:
    at = desk(poll_s=60.0)
    at.warm()
    add(db, delay_s=30.0)
    at.wake.set()
    until(lambda: at.turn() == [] and at.claimer.due_s() > 1, every_s=0)
    before = at.looks
    for _ in range(20):
        assert at.turn() == []
    assert at.looks == before


def test_a_full_claimer_asks_nothing(desk: Open, db: Database) -> None:
    at = desk(threads=2)
    for _ in range(4):
        add(db)
    at.take(2)
    before = at.looks
    for _ in range(10):
        at.wake.set()
        assert at.claimer.turn() == []
    assert at.looks == before


def test_a_higher_priority_is_taken_within_a_tenth_of_a_second_of_a_busy_claimer(
    desk: Open, db: Database, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on from place to place among the others all the while."""
    at = desk(threads=2)
    monkeypatch.setattr(at.claimer._pace, "ran", lambda kind, seconds: None)  # none is held ahead
    sql.execute("SELECT llm.submit('echo') FROM generate_series(1, 3000)")
    waited: list[float] = []
    passed = 0
    for _ in range(7):
        at.finish(*at.take())
        add(db, payload='"urgent"', priority=5)
        began_at = time.monotonic()
        while True:
            runs = at.take()
            at.finish(*runs)
            if any(run.lease.payload == '"urgent"' for run in runs):
                break
            passed += len(runs)
        waited.append(time.monotonic() - began_at)
    assert passed > 7  # else it looked at the head every time, which is what costs
    assert sorted(waited)[3] < 0.3, waited


def test_short_jobs_are_held_ahead_within_bounds(desk: Open, db: Database, sql: Connection) -> None:
    at = desk(threads=2)
    proven(at, db)
    at.claimer._pace._mean_s = 1e-5
    sql.execute("SELECT llm.submit('echo') FROM generate_series(1, 1500)")
    most = 0
    end = time.monotonic() + 20
    while at.keeper.held < 100 and time.monotonic() < end:
        at.claimer._waiting.clear()  # nobody runs them here: without patience
        at.turn()
        most = max(most, at.keeper.held)
    assert 100 <= most <= MOST_AHEAD + 2
    at.keeper.release_all()
    at.keeper.drop(list(at.keeper._runs.values()))


def test_jobs_that_waited_too_long_in_memory_are_given_back_with_their_tries(
    desk: Open, db: Database, dsn: str
) -> None:
    at = desk(threads=1)
    proven(at, db)
    ids = [add(db) for _ in range(6)]
    runs = at.held(2)
    assert runs[0].begin()  # and takes long
    began_at = time.monotonic()
    until(lambda: at.turn() == [] and at.keeper.held == 1, every_s=0)
    assert 0.1 < time.monotonic() - began_at < 2
    assert not any(run.begin() for run in runs[1:])
    assert at.claimer._pace.short == []
    assert status(dsn, *ids) == ["running", *["queued"] * 5]
    for run in runs[1:]:
        row = whole(dsn, run.lease.job_id)["job"]
        assert (row["attempts"] - row["releases"], row["crashes"]) == (0, 0)
    assert at.turn() == []  # and it does not take them again
    assert at.keeper.held == 1


# — hints that are lost —


def found_without_a_hint(at: Desk, db: Database) -> bool:
    """Whether a job that nobody is told of is leased within some polls."""
    at.warm()
    until(lambda: at.turn() == [] and at.claimer.due_s() > 0, every_s=0)
    add(db)
    end = time.monotonic() + 10 * at.runtime.settings.poll_s
    while time.monotonic() < end:
        if at.turn():
            return True
    return False


def test_what_nobody_is_told_of_is_found_all_the_same(desk: Open, db: Database) -> None:
    assert found_without_a_hint(desk(), db)


def test_it_shows_when_the_hint_is_the_only_way(desk: Open, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: a claimer that never polls. All goes well until one notice is lost."""
    monkeypatch.setattr("llm_mcp.claimer.random.uniform", lambda *_: math.inf)
    assert not found_without_a_hint(desk(), db)


# — lost replies —


def lose(at: Desk, proxy: Proxy) -> None:
    """Have the reply of the next turn lost."""
    at.runtime.notifier.close()  # the next to speak is the turn
    proxy.lose_a_reply()
    until(lambda: at.turn() == [] and proxy.lost.is_set(), every_s=0)


def test_a_turn_whose_reply_was_lost_has_finished_and_claimed(desk: Open, db: Database, proxy: Proxy, dsn: str) -> None:
    at = desk(threads=1, db_pool_size=1)  # another connection would have to prepare the statement first
    add(db), add(db)
    for _ in range(2):
        at.finish(*at.take())  # every statement that comes is prepared by then
    at.settled()
    first, second, third = (add(db) for _ in range(3))
    (run,) = at.take()
    at.finish(run)
    lose(at, proxy)
    # Its reply was lost before the server was through with it, maybe.
    until(lambda: status(dsn, first, second, third) == ["done", "running", "queued"])
    proxy.restore()
    (after,) = at.take()
    assert (after.lease.job_id, after.lease.attempt) == (second, 1)
    assert at.keeper.held == 1
    assert len(whole(dsn, first)["attempts"]) == 1
    at.finish(after)
    (last,) = at.take()
    assert last.lease.job_id == third
    assert (whole(dsn, second)["job"]["attempts"], whole(dsn, third)["job"]["attempts"]) == (1, 1)


def test_who_leaves_gives_back_what_a_lost_claim_took(desk: Open, db: Database, proxy: Proxy, dsn: str) -> None:
    """Nobody would renew that lease, nobody begin that job before it ends, and its try would count."""
    at = desk()
    at.warm()
    job_id = add(db)
    lose(at, proxy)
    assert status(dsn, job_id) == ["running"]
    at.keeper.draining = True
    proxy.restore()
    at.claimer.close()
    row = whole(dsn, job_id)["job"]
    assert (row["status"], row["attempts"] - row["releases"]) == ("queued", 0)


# — a database that is away —


def test_results_wait_for_the_database_in_bounds_and_in_one_piece(
    desk: Open, db: Database, proxy: Proxy, dsn: str
) -> None:
    at = desk(threads=4)
    ids = [add(db) for _ in range(6)]
    runs = at.take(4)
    proxy.refuse()
    at.finish(*runs[:2])
    for _ in range(3):
        assert at.turn() == []
    at.finish(*runs[2:])
    assert at.turn() == []
    assert at.keeper.held == 4
    proxy.restore()
    later = at.take(2)
    assert status(dsn, *ids) == ["done"] * 4 + ["running"] * 2
    assert [len(whole(dsn, job_id)["attempts"]) for job_id in ids[:4]] == [1] * 4
    assert {run.lease.job_id for run in later} == set(ids[4:])


def test_results_whose_lease_cannot_be_trusted_any_more_are_let_go(desk: Open, db: Database, proxy: Proxy) -> None:
    at = desk(threads=2, lease_s=2.0)
    add(db), add(db)
    runs = at.take(2)
    proxy.refuse()
    at.finish(*runs)
    at.settled()
    assert time.monotonic() >= max(run.fence_at for run in runs)
    assert len(at.claimer._results) == 0


def test_away_in_the_middle_of_leaving(desk: Open, db: Database, proxy: Proxy, dsn: str) -> None:
    at = desk(threads=2)
    job_id = add(db)
    (run,) = at.take()
    at.keeper.draining = True
    proxy.refuse()
    at.finish(run)
    assert at.turn() == []
    at.claimer.close()  # gives up after a while
    assert status(dsn, job_id) == ["running"]
    proxy.restore()
    at.claimer.close()
    assert status(dsn, job_id) == ["done"]
    assert at.keeper.held == 0


# — results the database refuses —


@pytest.mark.parametrize(
    ("sqlstate", "words"),
    [("23514", "refused"), ("22003", "refused"), ("P0001", "a trigger of this database refuses it")],
)
def test_a_result_the_database_refuses_fails_alone(
    desk: Open, db: Database, dsn: str, refuse: Refuse, sqlstate: str, words: str
) -> None:
    refuse("NEW.result = '\"poison\"'", sqlstate)
    at = desk(threads=3)
    ids = [add(db) for _ in range(4)]
    runs = at.take(3)
    at.finish(runs[0])
    at.finish(runs[1], result='"poison"')
    at.finish(runs[2])
    (last,) = at.take()
    assert status(dsn, *ids) == ["done", "error", "done", "running"]
    row = whole(dsn, ids[1])["job"]
    assert (row["reason"], row["error"]) == ("failed", f"result: {words}")
    at.finish(last)
    at.settled()


def test_what_was_handed_in_before_the_database_went_is_settled(
    desk: Open, db: Database, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a batch is refused, and as it is to be failed nobody answers."""
    refuse("NEW.result = '\"poison\"'", "23514")
    at = desk(threads=3)
    for _ in range(3):
        add(db)
    runs = at.take(3)
    for run, result in zip(runs, ("{}", '"poison"', "{}"), strict=True):
        at.finish(run, result=result)
    with monkeypatch.context() as away:
        away.setattr(rows, "fail", lambda *_args, **_more: (_ for _ in ()).throw(Unavailable("away")))
        until(lambda: at.turn() == [] and at.claimer.due_s() > 0.01, every_s=0)
        assert (at.keeper.held, len(at.claimer._results)) == (2, 2)
    at.settled()


def test_a_refused_result_whose_lease_is_lost_holds_up_nobody(desk: Open, db: Database, dsn: str) -> None:
    at = desk(threads=2, lease_s=30.0)
    ids = [add(db), add(db)]
    lost, good = at.take(2)
    job_rows.cancel(db, lost.lease.job_id)
    at.finish(lost, result="\x00")
    at.finish(good)
    began_at = time.monotonic()
    at.settled()
    assert time.monotonic() - began_at < 10
    assert status(dsn, *ids) == ["error", "done"]


def test_a_late_result_is_refused_and_let_go(desk: Open, db: Database, dsn: str) -> None:
    at = desk(threads=2)
    ids = [add(db), add(db)]
    late, good = at.take(2)
    rows.release(db, [late.key])
    at.finish(late, good)
    (again,) = at.take()
    assert (again.lease.job_id, again.lease.attempt) == (ids[0], 2)
    assert status(dsn, *ids) == ["running", "done"]
    with pytest.raises(LeaseLost):
        rows.complete(db, *late.key, result="{}")
    at.finish(again)
    at.settled()


def test_a_job_that_cannot_be_leased_is_not_tried_without_a_pause(desk: Open, db: Database, refuse: Refuse) -> None:
    refuse("NEW.status = 'running'", "23514")
    at = desk()
    add(db)
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        assert at.turn() == []
    assert at.looks <= 6


# — hints that all who are idle hear —


def test_who_comes_too_late_holds_back_and_looks_before_it_claims(desk: Open, db: Database) -> None:
    at = desk(poll_s=60.0)
    at.warm()
    before = at.looks
    for _ in range(20):
        at.wake.set()
        assert at.claimer.turn() == []
        until(lambda: at.claimer.turn() == [] and at.claimer.due_s() > 1, every_s=0.001)
    assert at.looks - before == 2, "those that were in vain before it learned"
    add(db)
    at.wake.set()
    at.finish(*at.take())
    at.settled()
    add(db)
    at.wake.set()
    (run,) = at.claimer.turn()  # it was the one in time: it does not hold back
    assert run.begin()
    at.finish(run)
    at.settled()


def too_late(at: Desk) -> None:
    """Have it come too late for two jobs in a row."""
    at.warm()
    for _ in range(2):
        at.wake.set()
        assert at.claimer.turn() == []


def test_who_came_too_late_leaves_what_is_new_to_the_others_for_a_moment(desk: Open, db: Database, dsn: str) -> None:
    at = desk(poll_s=60.0)
    for _ in range(5):
        too_late(at)
        before, job_id = at.looks, add(db)
        at.wake.set()
        (run,) = at.take()
        assert at.looks - before == 1
        job = whole(dsn, job_id)["job"]
        assert (job["begun_at"] - job["queued_at"]).total_seconds() >= 0.025
        at.finish(run)
        at.settled()


def test_of_many_the_first_who_looks_does_so_as_soon_as_of_few(desk: Open) -> None:
    at = desk()
    hints = Hints(at.keeper, kinds=lambda: ["echo"])
    assert hints.hear() == 0.0
    for _ in range(2):
        hints.followed(in_time=False)
    for peers, least_s in ((0, 0.0), (99, 0.5)):
        at.keeper.peers = peers
        began_at = time.monotonic()
        looks_at = [(hints.hear(), time.monotonic()) for _ in range(20)]
        assert max(look_at for look_at, _ in looks_at) > began_at + least_s
        assert all(look_at <= heard_at + 0.025 * (1 + peers) for look_at, heard_at in looks_at)
    hints.followed(in_time=True)
    assert hints.hear() == 0.0


@pytest.mark.parametrize("late", [False, True])
def test_a_hint_of_a_job_that_is_due_soon_is_not_in_vain(desk: Open, db: Database, dsn: str, late: bool) -> None:
    at = desk(poll_s=60.0)
    for _ in range(4):
        if late:
            too_late(at)
        job_id = add(db, delay_s=0.1)
        at.wake.set()
        (run,) = at.take()
        assert run.lease.job_id == job_id
        job = whole(dsn, job_id)["job"]
        assert (job["begun_at"] - job["run_at"]).total_seconds() < 25, "the clock alone would have brought it"
        at.finish(run)
        at.settled()
