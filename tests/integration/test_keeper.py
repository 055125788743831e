"""Leases are kept while they can be, and a run is stopped before anybody else may have its job."""

from __future__ import annotations

import threading
import time
from uuid import uuid4

import pytest

from llm_mcp.events import Cursor
from llm_mcp.job import Lease
from llm_mcp.jobs import Jobs
from llm_mcp.keeper import new_worker_id
from llm_mcp.run import Run
from llm_mcp.runtime import Runtime
from llm_mcp.store import events, sweeps, workers
from llm_mcp.store.listen import JOB_ENDED
from llm_mcp.store.pool import Database, connect
from tests.integration.conftest import Begin
from tests.integration.proxy import Proxy
from tests.integration.rows import claim, lease, rewind, whole
from tests.waiting import until


def lease_left_s(dsn: str, run: Run) -> float:
    with connect(dsn) as conn:
        row = conn.execute(
            "SELECT extract(epoch FROM lease_until - clock_timestamp())::float8 AS s FROM llm.jobs WHERE id = %s",
            (run.lease.job_id,),
        ).fetchone()
        assert row is not None
        return float(row["s"])


# — beating —


def test_a_lease_is_renewed_for_as_long_as_the_work_takes(begin: Begin, db: Database, dsn: str) -> None:
    _, run = begin(lease_s=1.0)
    for _ in range(4):
        fence_at = run.fence_at
        until(lambda before=fence_at: run.fence_at > before)  # type: ignore[misc] # mypy cannot infer a lambda with a default
        assert sweeps.reap(db) == []
    assert run.was_cut is None
    assert 0 < lease_left_s(dsn, run) <= 1.0


def test_a_run_that_was_cut_is_not_renewed_for_others_wait_for_its_job(begin: Begin, dsn: str) -> None:
    keeper, run = begin()
    run.cut("lease_not_renewed")
    left_s = lease_left_s(dsn, run)
    keeper.beat()
    assert lease_left_s(dsn, run) <= left_s


def test_a_cancelled_job_is_cut_at_once_not_at_the_next_beat(begin: Begin, runtime: Runtime) -> None:
    keeper, run = begin()
    cut = threading.Event()
    run.when_cut(cut.set)
    until(lambda: keeper.runtime.listener.hears(JOB_ENDED))
    Jobs(runtime).cancel(run.lease.job_id)
    assert cut.wait(3)
    assert run.was_cut == "lease_lost"


def test_a_lease_that_was_taken_away_is_noticed_by_the_beat(begin: Begin, db: Database, dsn: str) -> None:
    _, run = begin(lease_s=2.0)

    def take_away() -> bool:
        rewind(dsn, run.lease.job_id)
        return bool(sweeps.reap(db))  # not when a beat came between

    until(take_away)
    until(lambda: run.was_cut == "lease_lost", timeout_s=5)


def test_without_the_database_a_run_is_cut_before_its_lease_ends(begin: Begin, proxy: Proxy, dsn: str) -> None:
    _, run = begin(lease_s=2.0)
    until(lambda: run.fence_at > time.monotonic() + 1.4)  # just renewed
    proxy.refuse()
    until(lambda: run.was_cut is not None)
    assert run.was_cut == "lease_not_renewed"
    assert lease_left_s(dsn, run) > 0
    assert time.monotonic() >= run.fence_at


def test_a_short_absence_of_the_database_costs_nothing(begin: Begin, proxy: Proxy) -> None:
    _, run = begin(lease_s=4.0)
    proxy.cut()
    fence_at = run.fence_at
    until(lambda: run.fence_at > fence_at)
    assert run.was_cut is None


def test_a_deadline_cuts_whatever_the_lease_says(begin: Begin, db: Database) -> None:
    held = lease(db)
    _, run = begin(
        Lease(
            **{name: getattr(held, name) for name in Lease.__slots__ if name != "seconds_left"},
            seconds_left=0.3,
        )
    )
    began_at = time.monotonic()
    until(lambda: run.was_cut == "deadline_exceeded")
    assert 0.2 < time.monotonic() - began_at < 5


def test_a_rude_cutter_does_not_end_the_watch(begin: Begin, db: Database, proxy: Proxy) -> None:
    keeper, rude = begin(lease_s=2.0)

    def raises() -> None:
        raise RuntimeError

    rude.when_cut(raises)
    proxy.refuse()
    until(lambda: rude.was_cut is not None)
    (later,) = keeper.hold([lease(db)], claimed_at=time.monotonic() - 1.4)
    until(lambda: later.was_cut is not None, timeout_s=5)
    assert keeper.fault() is None


def test_the_beat_does_not_stand_in_line_behind_the_work(begin: Begin) -> None:
    keeper, run = begin(lease_s=1.0, db_pool_size=1)
    with keeper.runtime.db._open_pool().connection():  # the only one, kept busy
        fence_at = run.fence_at
        until(lambda: run.fence_at > fence_at + 1.0)
    assert run.was_cut is None


# — places, release, presence —


def test_runs_are_counted(begin: Begin, db: Database) -> None:
    keeper, run = begin()
    assert keeper.held == 1
    more = keeper.hold([lease(db) for _ in range(3)], claimed_at=time.monotonic())
    assert keeper.held == 4
    assert not keeper.wait_idle(0)
    keeper.drop([run, *more[:2]])
    assert keeper.held == 1
    keeper.drop(more)
    assert keeper.held == 0
    assert keeper.wait_idle(0)


def test_who_leaves_gives_everything_back_at_once(begin: Begin, db: Database, dsn: str) -> None:
    keeper, run = begin()
    (other,) = keeper.hold([lease(db)], claimed_at=time.monotonic())
    keeper.release_all()
    assert run.was_cut == other.was_cut == "draining"
    for one in (run, other):
        job = whole(dsn, one.lease.job_id)["job"]
        assert (job["status"], job["releases"]) == ("queued", 1)
    assert len(claim(db, "next", n=5)) == 2


def test_leaving_without_a_database_is_quiet(begin: Begin, proxy: Proxy, dsn: str) -> None:
    keeper, run = begin()
    proxy.refuse()
    keeper.release_all()
    assert run.was_cut == "draining"
    assert whole(dsn, run.lease.job_id)["job"]["status"] == "running"


def test_a_worker_is_seen_while_it_is_there(begin: Begin, runtime: Runtime, dsn: str) -> None:
    keeper, _ = begin()
    (worker,) = Jobs(runtime).workers()
    assert (worker.id, worker.name, worker.kinds, worker.threads) == ("w", "me", ["echo"], 4)
    keeper.stop()
    assert Jobs(runtime).workers() == []
    with connect(dsn) as conn:
        row = conn.execute("SELECT stopped_at IS NOT NULL AS stopped FROM llm.workers").fetchone()
    assert row == {"stopped": True}


def test_it_knows_how_many_others_may_take_the_same_jobs(begin: Begin, db: Database) -> None:
    for name, kinds in (("one", ["echo", "x"]), ("another", ["echo"]), ("stranger", ["x"])):
        workers.seen(db, name, name="", host="", pid=1, version="", kinds=kinds, threads=1, running=0)
    keeper, _ = begin()
    assert keeper.peers == 2


def test_nothing_is_left_running(begin: Begin) -> None:
    keeper, _ = begin()
    names = {"llm-mcp-beat", "llm-mcp-watch", "llm-mcp-flush"}
    assert names <= {thread.name for thread in threading.enumerate()}
    assert keeper.fault() is None
    keeper.stop()
    assert not names & {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(("thread", "wakes"), [("beat", "_beat_now"), ("watch", "_watch_now"), ("flush", "_flush_now")])
def test_a_thread_that_is_told_to_stop_while_it_wakes_up_hears_it(begin: Begin, thread: str, wakes: str) -> None:
    keeper, _ = begin()
    event = getattr(keeper, wakes)
    clear = event.clear

    def clears() -> None:
        keeper._stop.set()
        event.set()
        clear()

    event.clear = clears
    event.set()
    (told,) = [one for one in keeper._threads if one.name == f"llm-mcp-{thread}"]
    until(lambda: not told.is_alive(), timeout_s=5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_told(begin: Begin) -> None:
    keeper, _ = begin()

    class Deadly:
        """Does what no run does: it kills the thread that looks at it."""

        was_cut = deadline = None

        @property
        def fence_at(self) -> float:
            raise SystemExit

    keeper._runs[0] = Deadly()  # type: ignore[assignment] # see above
    keeper._watch_now.set()
    until(lambda: keeper.fault() == "llm-mcp-watch")
    del keeper._runs[0]


def test_worker_ids_differ_and_can_be_read() -> None:
    made = {new_worker_id("gpu", uuid4()) for _ in range(100)}
    assert len(made) == 100
    assert all(one.startswith("gpu-") for one in made)


# — the stream —


def test_pieces_go_out_within_a_tenth_of_a_second_and_not_one_by_one(begin: Begin, db: Database) -> None:
    _, run = begin()
    run.text("first")
    for _ in range(300):
        run.text("x")
    until(lambda: _text(db, run) == "first" + "x" * 300, timeout_s=3)
    assert len(events.follow(db, run.lease.job_id, Cursor()).events) < 10


def test_a_stream_survives_a_short_absence_of_the_database(begin: Begin, db: Database, proxy: Proxy) -> None:
    _, run = begin()
    run.text("a")
    proxy.refuse()
    run.text("b")
    time_up = time.monotonic() + 0.5
    until(lambda: time.monotonic() > time_up)
    run.text("c")
    proxy.restore()
    until(lambda: _text(db, run) == "abc")


def _text(db: Database, run: Run) -> str:
    return "".join(event.data["text"] for event in events.follow(db, run.lease.job_id, Cursor()).events)
