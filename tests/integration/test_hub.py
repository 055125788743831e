"""The hub reads for all who watch: in few statements, for nobody who does not wait, and never too much at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import orjson
import pytest

from llm_mcp import config, hub
from llm_mcp.errors import Unavailable
from llm_mcp.events import Cursor, Event
from llm_mcp.hub import Hub
from llm_mcp.job import Job, Lease
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.seat import Seat
from llm_mcp.store import events
from llm_mcp.store import leases as verbs
from llm_mcp.store.listen import JOB_UPDATE
from llm_mcp.store.pool import Database
from llm_mcp.watch import _Patience
from tests.integration.proxy import Proxy
from tests.integration.rows import add, lease
from tests.integration.test_follow import Watch, finish, short, write
from tests.waiting import until


class Asked:
    """What the hub asked the database for, statement by statement, and how much it was answered."""

    def __init__(self) -> None:
        self.statements: list[list[str]] = []
        self.sizes: list[int] = []

    def jobs(self) -> list[str]:
        """The ids asked for so far, with repeats."""
        return [job_id for statement in self.statements for job_id in statement]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    noted, run_tuples = Asked(), Database.run_tuples

    def run(self: Database, name: str, params: Any, **options: Any) -> Any:
        rows = run_tuples(self, name, params, **options)
        if name == "follow_many":
            noted.statements.append([ask["job_id"] for ask in orjson.loads(params["asked"])])
            noted.sizes.append(sum(len(row[5] or "") for row in rows))
        return rows

    monkeypatch.setattr(Database, "run_tuples", run)
    return noted


def begun(jobs: Jobs, held: Lease, **options: Any) -> Iterator[Job | Event | None]:
    """Follow a running job and have it told that it runs."""
    items = jobs.follow(held.job_id, **options)
    assert short(next(items)) == "running"
    return items


# — how much is asked —


def test_many_watchers_cost_few_statements(runtime: Runtime, jobs: Jobs, asked: Asked) -> None:
    leases = [lease(runtime.db) for _ in range(100)]
    watches = [Watch(jobs, held.job_id) for held in leases]
    for watch in watches:
        watch.wait("running")
    until(lambda: runtime.listener.hears(JOB_UPDATE))
    asked.statements.clear()
    for held in leases:
        events.append(runtime.db, held.job_id, held.token, [(1, "delta", '{"text":"a"}')])
    runtime.announce(*(held.job_id for held in leases))
    for watch in watches:
        watch.wait("1:1 a")
    assert len(asked.statements) < 30
    for held in leases:
        finish(runtime, held)
    assert {tuple(watch.rest()) for watch in watches} == {("running", "1:1 a", "done")}


def test_who_is_at_the_same_place_shares_what_is_read(runtime: Runtime, jobs: Jobs, asked: Asked) -> None:
    held = lease(runtime.db)
    watches = [Watch(jobs, held.job_id) for _ in range(50)]
    for watch in watches:
        watch.wait("running")
    asked.statements.clear()
    write(runtime, held, *map(str, range(20)))
    for watch in watches:
        watch.wait("1:20 19")
    assert max(map(len, asked.statements)) <= 3  # some may have come too late for the first
    finish(runtime, held)
    assert {len(watch.rest()) for watch in watches} == {22}


def test_many_who_wait_for_the_end_cost_few_statements(runtime: Runtime, jobs: Jobs, asked: Asked) -> None:
    leases = [lease(runtime.db) for _ in range(40)]
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(jobs.wait, held.job_id, timeout_s=30) for held in leases]
        until(lambda: set(asked.jobs()) == {str(held.job_id) for held in leases})
        until(lambda: runtime.listener.hears(JOB_UPDATE))
        for held in leases:
            write(runtime, held, "a")
        asked.statements.clear()
        for held in leases:
            verbs.complete(runtime.db, held.job_id, held.token, result="{}")
        runtime.announce(*(held.job_id for held in leases))
        assert {one.result(20).status for one in waiting} == {"done"}
    assert len(asked.statements) < 20
    assert sum(asked.sizes) == 0, "events were read for who wants none"


def test_who_does_not_come_back_is_not_read_for_and_costs_nobody(runtime: Runtime, jobs: Jobs, asked: Asked) -> None:
    slow, quick = lease(runtime.db), lease(runtime.db)
    stuck, live = begun(jobs, slow), begun(jobs, quick)
    until(lambda: runtime.listener.hears(JOB_UPDATE))
    asked.statements.clear()
    for n in range(1, 11):
        write(runtime, slow, "x" * 10_000, first=n)
        write(runtime, quick, str(n), first=n)
        assert short(next(live)) == f"1:{n} {n}"
    assert str(slow.job_id) not in asked.jobs()
    assert [short(next(stuck))[:4] for _ in range(10)] == [f"1:{n} "[:4] for n in range(1, 11)]


def test_one_answer_has_its_bounds_whoever_asks(runtime: Runtime, jobs: Jobs, asked: Asked) -> None:
    """Forty streams of two megabytes each, some in pieces that are larger than anybody's share."""
    leases = [lease(runtime.db) for _ in range(40)]
    for place, held in enumerate(leases):
        size = 1_000_000 if place % 4 == 0 else 40_000
        for first in range(1, 2_000_000 // size, 25):
            count = min(25, 2_000_000 // size)
            items = [(first + n, "delta", f'{{"text":"{"x" * size}"}}') for n in range(count)]
            events.append(runtime.db, held.job_id, held.token, items)
        verbs.complete(runtime.db, held.job_id, held.token, result="{}")
    with ThreadPoolExecutor(40) as pool:

        def read(held: Lease) -> int:
            return sum(len(item.data["text"]) for item in jobs.follow(held.job_id) if isinstance(item, Event))

        assert set(pool.map(read, leases)) == {2_000_000}
    assert max(asked.sizes) < 2**21 + 1_001_000


# — when it is asked —


def test_who_is_new_does_not_wait_for_the_gathering(
    runtime: Runtime, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_GATHER_S", 30.0)
    monkeypatch.setattr(hub, "_GATHER_ONE_S", 30.0)
    held = lease(runtime.db)
    write(runtime, held, *map(str, range(2 * events.PAGE)))
    began = time.monotonic()
    for _ in range(3):
        items = begun(jobs, held)
        assert short([next(items) for _ in range(2 * events.PAGE)][-1]) == f"1:{2 * events.PAGE} {2 * events.PAGE - 1}"
    assert time.monotonic() - began < 10


def test_what_nobody_gave_notice_of_is_found_all_the_same(runtime: Runtime, jobs: Jobs) -> None:
    held = lease(runtime.db)
    watch = Watch(jobs, held.job_id)
    watch.wait("running")
    until(lambda: runtime.listener.hears(JOB_UPDATE))
    for n in range(1, 3):
        events.append(runtime.db, held.job_id, held.token, [(n, "delta", f'{{"text":"{n}"}}')])
        until(lambda n=n: watch.told[-1] == f"1:{n} {n}", timeout_s=5)  # type: ignore[misc] # mypy cannot infer a lambda with a default
    finish(runtime, held)
    watch.rest()


def test_a_nudge_ends_a_wait_at_once_and_is_told_once(runtime: Runtime, jobs: Jobs) -> None:
    watch = jobs.watch(lease(runtime.db).job_id)
    items = watch.items(quiet_s=60)
    assert short(next(items)) == "running"
    began = time.monotonic()
    watch.nudge()
    assert next(items) is None
    threading.Timer(0.2, watch.nudge).start()
    assert next(items) is None
    assert 0.2 <= time.monotonic() - began < 10
    items.close()


def test_a_nudged_waiter_gives_up(runtime: Runtime, jobs: Jobs) -> None:
    waiter = jobs.waiter(add(runtime.db))
    threading.Timer(0.2, waiter.nudge).start()
    began = time.monotonic()
    assert not waiter.final(timeout_s=None)
    assert time.monotonic() - began < 10


# — what goes wrong —


def test_what_fails_is_told_to_those_it_was_for_and_to_no_other(
    runtime: Runtime, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = lease(runtime.db)
    with monkeypatch.context() as patch:
        patch.setattr(events, "follow_many", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            next(jobs.follow(held.job_id))
    assert short(next(jobs.follow(held.job_id))) == "running"


def test_one_event_that_cannot_be_read_fails_its_own_watcher_only(runtime: Runtime, jobs: Jobs) -> None:
    bad, good = lease(runtime.db), lease(runtime.db)
    broken, whole = begun(jobs, bad), begun(jobs, good)
    for held, data in ((bad, "no json"), (good, '{"text":"a"}')):
        events.append(runtime.db, held.job_id, held.token, [(1, "delta", data)])
    runtime.announce(bad.job_id, good.job_id)
    assert short(next(whole)) == "1:1 a"
    with pytest.raises(ValueError, match=r"unexpected character|expected"):
        next(broken)


def test_a_database_that_stays_away_ends_a_watch_after_its_patience(proxy: Proxy, dsn: str, runtime: Runtime) -> None:
    far = Runtime(config.load(db_dsn=proxy.dsn, db_direct_dsn=dsn))
    try:
        items = begun(Jobs(far), lease(runtime.db), patience_s=1.0, quiet_s=0.2)
        proxy.refuse()
        began = time.monotonic()
        with pytest.raises(Unavailable):
            assert set(items) == {None}
        assert time.monotonic() - began >= 1.0
    finally:
        far.close()


def test_patience_begins_anew_when_the_database_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("llm_mcp.watch.time.monotonic", lambda: now)
    seat = type("Stub", (), {"read_at": 99.0})()
    patience, error = _Patience(seat, 30.0), Unavailable("away")
    patience.left(error)
    now = 129.0
    patience.left(error)
    seat.read_at, now = 129.5, 150.0
    patience.left(error)  # it was there between: another absence
    now = 179.9
    patience.left(error)
    now = 180.0
    with pytest.raises(Unavailable):
        patience.left(error)


def test_a_closed_hub_refuses_and_leaves_no_thread(dsn: str, runtime: Runtime) -> None:
    other = Runtime(config.load(db_dsn=dsn))
    items = begun(Jobs(other), lease(runtime.db), patience_s=0.0)
    other.close()
    with pytest.raises(Unavailable):
        next(items)
    assert not any(thread.name == "llm-mcp-hub" and thread.is_alive() for thread in _threads_of(other))


def _threads_of(runtime: Runtime) -> list[threading.Thread]:
    made = hub.of(runtime)._thread
    return [] if made is None else [made]


# — seats —


def test_who_left_is_forgotten(runtime: Runtime) -> None:
    made = hub.of(runtime)
    with Seat(made, lease(runtime.db).job_id, Cursor()) as seat:
        assert seat.take(20, look_in_s=0.0) is not None
        seat.set()
    assert _kept(made, seat) == set()
    assert not runtime.listener._waiting


def _kept(made: Hub, seat: Seat) -> set[str]:
    places: dict[str, Callable[[], bool]] = {
        "ready": lambda: seat in made._ready,
        "line": lambda: seat in made._in_line,
        "large": lambda: seat in made._large,
    }
    return {name for name, look in places.items() if look()}


def test_a_notice_that_comes_while_its_owner_is_busy_is_not_lost(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_LOOK_ANYWAY_S", 30.0)
    held = lease(runtime.db)
    with Seat(hub.of(runtime), held.job_id, Cursor()) as seat:
        until(lambda: runtime.listener.hears(JOB_UPDATE))  # else it looks by itself soon
        first = seat.take(20, look_in_s=0.0)
        assert isinstance(first, events.Glance)
        seat.told, seat.after = first.status, Cursor(first.attempts, 0)
        events.append(runtime.db, held.job_id, held.token, [(1, "delta", "{}")])
        seat.set()
        began = time.monotonic()
        second = seat.take(20)
        assert isinstance(second, events.Glance)
        assert [item[0] for item in second.items] == [1]
        assert time.monotonic() - began < 10


def test_a_job_that_is_gone_is_told_so(runtime: Runtime, dsn: str) -> None:
    found = events.follow_many(runtime.db, [events.Ask(UUID(int=1), Cursor()), events.Ask(add(runtime.db), Cursor())])
    assert found[0] is None
    assert found[1] is not None
