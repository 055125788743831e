"""Watching a job: everything once, in order, from any place, and the end last."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import psycopg
import pytest

from llm_mcp import config, hub
from llm_mcp.errors import JobFailed, NotFound, WaitTimeout
from llm_mcp.events import Cursor, Event
from llm_mcp.handle import JobHandle
from llm_mcp.job import Job, Lease, Status
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store import events, sweeps
from llm_mcp.store import leases as verbs
from llm_mcp.store.listen import JOB_UPDATE
from llm_mcp.store.pool import connect
from tests.integration.rows import add, claim, emptied, lease, rewind
from tests.waiting import until


@pytest.fixture
def deaf(dsn: str) -> Iterator[Jobs]:
    """A service whose process hears no notice: it must look by itself."""
    made = Runtime(config.load(db_dsn=dsn, db_direct_dsn="postgresql://nobody@127.0.0.1:1/nothing"))
    yield Jobs(made)
    made.close()


class Watch:
    """Follows a job on a thread of its own and keeps what it was told, short."""

    def __init__(self, jobs: Jobs, job_id: UUID, after: Cursor | None = None) -> None:
        self.told: list[str] = []
        self.error: Exception | None = None
        self._items = jobs.follow(job_id, after)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._items:
                self.told.append(short(item))
        except NotFound as error:
            self.error = error

    def wait(self, last: str) -> None:
        until(lambda: self.told and self.told[-1] == last)

    def rest(self) -> list[str]:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.told


def short(item: Job | Event | None) -> str:
    match item:
        case Job():
            return str(item.status)
        case Event(type="delta"):
            return f"{item.cursor} {item.data['text']}"
        case Event():
            return f"{item.cursor} {item.type}"
    return "quiet"


def write(runtime: Runtime, held: Lease, *texts: str, first: int = 1) -> None:
    """Append deltas and announce them, as a worker does."""
    items = [(seq, "delta", f'{{"text":"{text}"}}') for seq, text in enumerate(texts, first)]
    events.append(runtime.db, held.job_id, held.token, items)
    runtime.announce(held.job_id)


def finish(runtime: Runtime, held: Lease) -> None:
    verbs.complete(runtime.db, held.job_id, held.token, result="{}")
    runtime.announce(held.job_id)


def begin_again(runtime: Runtime, dsn: str, held: Lease) -> Lease:
    """Lose the lease and claim the job anew."""
    rewind(dsn, held.job_id)
    sweeps.reap(runtime.db)
    (again,) = claim(runtime.db)
    runtime.announce(held.job_id)
    return again


# — the order of things —


def test_a_life_as_it_happens(runtime: Runtime, jobs: Jobs, dsn: str) -> None:
    job_id = add(runtime.db)
    watch = Watch(jobs, job_id)
    watch.wait("queued")
    (held,) = claim(runtime.db)
    runtime.announce(job_id)
    watch.wait("running")  # at once, though no token came yet
    write(runtime, held, "a", "b")
    watch.wait("1:2 b")
    held = begin_again(runtime, dsn, held)
    watch.wait("2:0 reset")
    write(runtime, held, "c")
    watch.wait("2:1 c")
    finish(runtime, held)
    assert watch.rest() == ["queued", "running", "1:1 a", "1:2 b", "2:0 reset", "2:1 c", "done"]


def test_a_retry_that_waits_is_queued_again_and_its_events_are_not_told_twice(
    runtime: Runtime, jobs: Jobs, dsn: str
) -> None:
    held = lease(runtime.db)
    watch = Watch(jobs, held.job_id)
    write(runtime, held, "a")
    watch.wait("1:1 a")
    verbs.fail(runtime.db, held.job_id, held.token, error="no", retryable=True, delay_s=3600)
    runtime.announce(held.job_id)
    watch.wait("queued")
    jobs.cancel(held.job_id)
    assert watch.rest() == ["running", "1:1 a", "queued", "error"]


def test_a_finished_job_is_told_whole_with_the_end_last(runtime: Runtime, jobs: Jobs) -> None:
    held = lease(runtime.db)
    write(runtime, held, "a", "b")
    finish(runtime, held)
    assert [short(item) for item in jobs.follow(held.job_id)] == ["1:1 a", "1:2 b", "done"]


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (Cursor(2, 1), ["2:2 d", "done"]),
        (Cursor(2, 2), ["done"]),
        (Cursor(2, 0), ["2:1 c", "2:2 d", "done"]),
        (Cursor(2, 99), ["done"]),
        (Cursor(1, 1), ["2:0 reset", "2:1 c", "2:2 d", "done"]),
        (Cursor(1, 99), ["2:0 reset", "2:1 c", "2:2 d", "done"]),
        (Cursor(0, 0), ["2:1 c", "2:2 d", "done"]),
        (Cursor(7, 1), ["2:1 c", "2:2 d", "done"]),
    ],
)
def test_reading_on_from_any_place(runtime: Runtime, jobs: Jobs, dsn: str, after: Cursor, told: list[str]) -> None:
    held = lease(runtime.db)
    write(runtime, held, "a", "b")
    held = begin_again(runtime, dsn, held)
    write(runtime, held, "c", "d")
    finish(runtime, held)
    assert [short(item) for item in jobs.follow(held.job_id, after)] == told


@pytest.mark.parametrize("count", [events.PAGE - 1, events.PAGE, events.PAGE + 1, 3 * events.PAGE + 7])
def test_more_than_a_page(runtime: Runtime, jobs: Jobs, dsn: str, count: int) -> None:
    held = begin_again(runtime, dsn, old := lease(runtime.db))
    assert old.attempt == 1
    write(runtime, held, *(str(n) for n in range(count)))
    running = jobs.follow(held.job_id, Cursor(1, 5))
    assert short(next(running)) == "running"  # at once, not after the pages
    assert short(next(running)) == "2:0 reset"
    assert [short(next(running)) for _ in range(count)] == [f"2:{n + 1} {n}" for n in range(count)]
    running.close()
    finish(runtime, held)
    told = [short(item) for item in jobs.follow(held.job_id)]
    assert told == [*(f"2:{n + 1} {n}" for n in range(count)), "done"]


def test_nothing_is_missing_when_it_says_done(runtime: Runtime, jobs: Jobs) -> None:
    """Writer and readers race; each reader breaks off at every event and reads on from there, as clients do."""

    def read(job_id: UUID) -> list[int]:
        cursor, seqs = Cursor(), list[int]()
        while True:
            for item in jobs.follow(job_id, cursor):
                if isinstance(item, Event):
                    cursor = item.cursor
                    seqs.append(item.seq)
                    if item.seq % 3 == 0:
                        break
                elif item is not None and item.status.final:
                    return seqs

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            held = lease(runtime.db)
            readers = [pool.submit(read, held.job_id) for _ in range(4)]
            for seq in range(1, 41):
                write(runtime, held, "x", first=seq)
            finish(runtime, held)
            assert [reader.result(20) for reader in readers] == [list(range(1, 41))] * 4


def test_a_job_that_moves_on_between_the_two_looks_is_told_in_order(runtime: Runtime, dsn: str) -> None:
    held = lease(runtime.db)
    write(runtime, held, "a")

    class Racing(Jobs):
        """Something happens just before the job itself is read."""

        def get(self, job_id: UUID, *, principal: str | None = None) -> Job:
            if happens:
                happens.pop(0)()
            return super().get(job_id, principal=principal)

    def more() -> None:
        nonlocal held
        held = begin_again(runtime, dsn, held)
        write(runtime, held, "b")

    def end() -> None:
        finish(runtime, held)

    happens = [more, end]
    told = [short(item) for item in Racing(runtime).follow(held.job_id)]
    assert told == ["1:1 a", "2:0 reset", "2:1 b", "done"]


def test_silence_is_told_and_then_told_again(runtime: Runtime, jobs: Jobs) -> None:
    items = jobs.follow(add(runtime.db), quiet_s=0.05)
    began_at = time.monotonic()
    assert [short(next(items)) for _ in range(3)] == ["queued", "quiet", "quiet"]
    assert 0.1 <= time.monotonic() - began_at < 2
    items.close()


# — jobs that are not there —


def test_no_such_job(jobs: Jobs) -> None:
    with pytest.raises(NotFound):
        next(jobs.follow(uuid4()))
    with pytest.raises(NotFound):
        jobs.wait(uuid4(), timeout_s=1)


def test_a_job_deleted_meanwhile(runtime: Runtime, jobs: Jobs, dsn: str) -> None:
    job_id = add(runtime.db)
    watch = Watch(jobs, job_id)
    watch.wait("queued")
    emptied(dsn)
    runtime.announce(job_id)
    watch.rest()
    assert isinstance(watch.error, NotFound)


# — without notices, connections, or luck —


def test_who_hears_no_notice_looks_by_itself(runtime: Runtime, deaf: Jobs) -> None:
    job_id = add(runtime.db)
    watch = Watch(deaf, job_id)
    watch.wait("queued")
    (held,) = claim(runtime.db)
    write(runtime, held, "a")
    watch.wait("1:1 a")
    finish(runtime, held)
    assert watch.rest() == ["queued", "running", "1:1 a", "done"]


def test_many_watchers_hold_no_connection(dsn: str, runtime: Runtime) -> None:
    """Fifty watchers on a pool of two: one that held a connection between two looks would starve the others."""
    narrow = Runtime(config.load(db_dsn=dsn, db_pool_size=2))
    held = lease(runtime.db)
    try:
        watches = [Watch(Jobs(narrow), held.job_id) for _ in range(50)]
        for watch in watches:
            watch.wait("running")
        with connect(dsn) as conn:
            until(
                lambda: (
                    conn.execute(
                        "SELECT FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()"
                        " AND datname = current_database()"
                    ).rowcount
                    == 0
                )
            )
        write(runtime, held, "a")
        finish(runtime, held)
        assert {tuple(watch.rest()) for watch in watches} == {("running", "1:1 a", "done")}
    finally:
        narrow.close()


def test_a_listener_that_was_cut_off_misses_nothing(runtime: Runtime, jobs: Jobs, dsn: str) -> None:
    held = lease(runtime.db)
    watch = Watch(jobs, held.job_id)
    watch.wait("running")
    until(lambda: runtime.listener.hears(JOB_UPDATE))
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
    write(runtime, held, "a")
    finish(runtime, held)
    assert watch.rest() == ["running", "1:1 a", "done"]


# — waiting for the end —


@pytest.mark.parametrize("timeout_s", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("hears", [True, False])
def test_a_wait_ends_when_it_was_told_to(
    runtime: Runtime, jobs: Jobs, deaf: Jobs, timeout_s: float, hears: bool
) -> None:
    service = jobs if hears else deaf
    job_id = add(runtime.db)
    service.get(job_id)  # the pool is open
    took = []
    for _ in range(3):
        began_at = time.monotonic()
        with pytest.raises(WaitTimeout, match=f"after {timeout_s:g} s"):
            service.wait(job_id, timeout_s=timeout_s)
        took.append(time.monotonic() - began_at)
    assert timeout_s <= min(took) < timeout_s + 0.15
    assert service.get(job_id).status is Status.QUEUED


@pytest.mark.parametrize("hears", [True, False])
def test_a_wait_ends_soon_after_the_job_does(
    runtime: Runtime, jobs: Jobs, deaf: Jobs, hears: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_LOOK_ANYWAY_S", 30.0)
    held = lease(runtime.db)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit((jobs if hears else deaf).wait, held.job_id, timeout_s=20)
        until(lambda: not hears or runtime.listener.hears(JOB_UPDATE))
        finish(runtime, held)
        ended_at = time.monotonic()
        assert waiting.result(20).status is Status.DONE
        assert time.monotonic() - ended_at < 10


def test_a_handle_gives_the_result_or_says_why_not(runtime: Runtime, jobs: Jobs) -> None:
    held = lease(runtime.db)
    verbs.complete(runtime.db, held.job_id, held.token, result='{"n":[1]}')
    handle = JobHandle(jobs, held.job_id)
    assert handle.wait(timeout=5) == {"n": [1]}
    assert handle.status is Status.DONE
    held = lease(runtime.db)
    verbs.fail(runtime.db, held.job_id, held.token, error="no luck", retryable=False, delay_s=0)
    with pytest.raises(JobFailed, match="no luck") as failed:
        JobHandle(jobs, held.job_id).wait(timeout=5)
    assert failed.value.reason == "failed"
    with pytest.raises(JobFailed) as failed:
        JobHandle(jobs, jobs.cancel(add(runtime.db)).id).wait(timeout=5)
    assert failed.value.reason == "cancelled"


def test_a_handle_streams_events_only(runtime: Runtime, jobs: Jobs) -> None:
    held = lease(runtime.db)
    write(runtime, held, "a", "b")
    finish(runtime, held)
    assert [event.data["text"] for event in JobHandle(jobs, held.job_id).stream()] == ["a", "b"]
