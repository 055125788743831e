"""Streams are rows: each number once, under the lease, in a partition that is dropped one day."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from llm_mcp import config
from llm_mcp.errors import Cut, InvalidInput, LeaseLost, Unavailable
from llm_mcp.events import Cursor
from llm_mcp.job import Lease
from llm_mcp.run import Run
from llm_mcp.runtime import Runtime
from llm_mcp.store import events, sweeps
from llm_mcp.store import jobs as verbs
from llm_mcp.store.pool import Connection, Database
from tests.integration.proxy import Proxy
from tests.integration.rows import claim, lease, rewind, whole
from tests.waiting import until


def a_run(held: Lease, runtime: Runtime) -> Run:
    return Run(held, runtime, fence_at=float("inf"))


def told(db: Database, held: Lease) -> list[tuple[int, str]]:
    """Return the numbers and texts of the stream so far."""
    found = events.follow(db, held.job_id, Cursor()).events
    return [(event.seq, event.data.get("text", event.type)) for event in found]


def _waiting(sql: Connection) -> int:
    return sql.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'").rowcount


# — rows —


def test_a_repeated_batch_changes_nothing(db: Database, dsn: str) -> None:
    held = lease(db)
    batch = [(1, "delta", '{"text":"a"}'), (2, "progress", '{"fraction":0.5}')]
    for _ in range(2):
        events.append(db, held.job_id, held.token, batch)
    events.append(db, held.job_id, held.token, [(2, "delta", '{"text":"other"}'), (3, "delta", '{"text":"b"}')])
    assert told(db, held) == [(1, "a"), (2, "progress"), (3, "b")]


def test_a_repeat_that_meets_its_own_first_try_still_running_writes_nothing_twice(
    db: Database, dsn: str, sql: Connection
) -> None:
    held = lease(db)
    batch = {"seqs": [1, 2], "types": ["delta"] * 2, "data": ['{"text":"a"}', '{"text":"b"}']}
    with psycopg.connect(dsn) as first, ThreadPoolExecutor(1) as pool:
        assert db.run("append", {"job_id": held.job_id, "token": held.token, **batch}, conn=first)
        again = pool.submit(events.append, db, held.job_id, held.token, [(1, "delta", '{"text":"a"}')])
        until(lambda: _waiting(sql))
        first.commit()
        again.result(10)
    assert told(db, held) == [(1, "a"), (2, "b")]


def test_a_repeat_after_a_first_try_that_was_undone_writes_it(db: Database, dsn: str, sql: Connection) -> None:
    held = lease(db)
    batch = {"seqs": [1], "types": ["delta"], "data": ['{"text":"a"}']}
    with psycopg.connect(dsn) as first, ThreadPoolExecutor(1) as pool:
        assert db.run("append", {"job_id": held.job_id, "token": held.token, **batch}, conn=first)
        again = pool.submit(events.append, db, held.job_id, held.token, [(1, "delta", '{"text":"a"}')])
        until(lambda: _waiting(sql))
        first.rollback()
        again.result(10)
    assert told(db, held) == [(1, "a")]


def test_the_lease_cannot_end_between_the_look_and_the_write(db: Database, dsn: str, sql: Connection) -> None:
    held = lease(db)
    with psycopg.connect(dsn) as ending, ThreadPoolExecutor(1) as pool:
        assert db.run("cancel", {"job_id": held.job_id}, conn=ending)
        late = pool.submit(events.append, db, held.job_id, held.token, [(1, "delta", "{}")])
        until(lambda: _waiting(sql))
        ending.commit()
        with pytest.raises(LeaseLost):
            late.result(10)
    assert whole(dsn, held.job_id)["events"] == []


def test_the_same_numbers_of_another_attempt_are_other_events(db: Database, dsn: str) -> None:
    held = lease(db)
    events.append(db, held.job_id, held.token, [(1, "delta", '{"text":"old"}')])
    rewind(dsn, held.job_id)
    sweeps.reap(db)
    (again,) = claim(db)
    events.append(db, again.job_id, again.token, [(1, "delta", '{"text":"new"}')])
    assert told(db, again) == [(1, "new")]
    assert len(whole(dsn, held.job_id)["events"]) == 2


# — the stream as the working code writes it —


def test_pieces_are_joined_and_numbered(runtime: Runtime, db: Database) -> None:
    held = lease(db)
    run = a_run(held, runtime)
    run.text("first")
    assert told(db, held) == [(1, "first")]  # at once
    for piece in ("a", "b", "", "c"):
        run.text(piece)
    run.thinking("hm")
    run.thinking("m")
    run.text("d")
    run.progress(0.5, "half")
    run.usage(tokens_in=1)
    run.flush()
    run.flush()
    glance = events.follow(db, held.job_id, Cursor(1, 1))
    assert [(event.seq, event.type, event.data) for event in glance.events] == [
        (2, "delta", {"text": "abc"}),
        (3, "delta", {"thinking": "hmm"}),
        (4, "delta", {"text": "d"}),
        (5, "progress", {"fraction": 0.5, "note": "half"}),
        (6, "usage", {"tokens_in": 1}),
    ]


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_progress_has_its_bounds(runtime: Runtime, db: Database, fraction: float) -> None:
    with pytest.raises(InvalidInput):
        a_run(lease(db), runtime).progress(fraction)


def test_text_that_no_column_takes_is_streamed_all_the_same(runtime: Runtime, db: Database) -> None:
    held = lease(db)
    run = a_run(held, runtime)
    run.text("a\x00b\ud800")
    assert told(db, held) == [(1, "a\ufffdb\ufffd")]


def test_a_lost_lease_cuts_the_attempt(runtime: Runtime, db: Database) -> None:
    held = lease(db)
    run, cut = a_run(held, runtime), threading.Event()
    run.when_cut(cut.set)
    verbs.cancel(db, held.job_id)
    run.text("too late")
    assert cut.is_set()
    with pytest.raises(Cut, match="lease_lost"):
        run.text("more")


def test_a_cut_reaches_who_asks_too_late_and_survives_a_rude_cutter(runtime: Runtime, db: Database) -> None:
    run = a_run(lease(db), runtime)

    def rude() -> None:
        raise RuntimeError("no")

    run.when_cut(rude)
    run.cut("draining")
    run.cut("lease_lost")
    assert run.was_cut == "draining"
    late = threading.Event()
    run.when_cut(late.set)
    assert late.is_set()


def test_a_run_that_is_over_is_not_cut(runtime: Runtime, db: Database) -> None:
    run, cut = a_run(lease(db), runtime), threading.Event()
    run.when_cut(cut.set)
    run.close()
    run.cut("draining")
    assert run.was_cut is None
    assert not cut.is_set()


# — a database that is away —


@pytest.fixture
def far(proxy: Proxy, dsn: str) -> Iterator[Runtime]:
    """A runtime that reaches its tables through the proxy only, by one connection."""
    made = Runtime(config.load(db_dsn=proxy.dsn, db_direct_dsn=dsn, db_pool_size=1))
    yield made
    made.close()


def test_an_answer_that_was_lost_leaves_no_gap_and_no_repeat(
    far: Runtime, proxy: Proxy, runtime: Runtime, db: Database
) -> None:
    """The batch was written, the writer does not know; it must not be joined with what comes after."""
    held = lease(db)
    run = a_run(held, far)
    run.text("a")
    run.text("b")
    far.notifier.close()  # the next to speak is the stream
    proxy.lose_a_reply()
    with pytest.raises(Unavailable):
        run.flush()
    assert proxy.lost.is_set()
    assert told(db, held) == [(1, "a"), (2, "b")]
    run.text("c")
    with pytest.raises(Unavailable):
        run.flush()
    proxy.restore()
    run.flush()
    assert told(db, held) == [(1, "a"), (2, "b"), (3, "c")]


def test_a_first_token_that_cannot_be_written_waits(far: Runtime, proxy: Proxy, db: Database) -> None:
    held, dirty = lease(db), list[Run]()
    run = Run(held, far, fence_at=float("inf"), on_dirty=dirty.append)
    proxy.refuse()
    run.text("a")
    assert dirty == [run]
    proxy.restore()
    run.flush()
    assert told(db, held) == [(1, "a")]


def test_memory_is_bounded_while_the_database_is_away(far: Runtime, proxy: Proxy, db: Database) -> None:
    run = a_run(lease(db), far)
    proxy.refuse()
    run.text("first")  # numbered and sent in vain
    for _ in range(8):
        run.text("x" * 2**20)
        run.progress(0.5, "y" * 2**20)
    assert sum(len(str(data)) for _, data in run._waiting) < far.settings.max_stream_bytes + 1000
    assert run.was_cut is None, "the work goes on without its stream"


# — days —


def partitions(sql: Connection) -> list[str]:
    found = sql.execute(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'llm.job_events'::regclass"
    )
    return sorted(row["name"] for row in found)


def test_days_are_made_ahead_and_dropped_when_old(db: Database, sql: Connection) -> None:
    sql.execute(
        "CREATE TABLE llm.job_events_20200101 PARTITION OF llm.job_events"
        " FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')"
    )
    sql.execute(
        "INSERT INTO llm.job_events (job_id, attempt, seq, begun_at, type, data) "
        "SELECT %s, 1, n, timestamptz '2020-01-01' + n * interval '23 h', 'delta', '{}' FROM generate_series(1, 2) n",
        (uuid4(),),
    )
    before = partitions(sql)
    events.keep_days(db, ahead=30, keep=7)
    after = partitions(sql)
    assert "llm.job_events_20200101" in before
    assert "llm.job_events_20200101" not in after
    assert len(after) == 1 + 1 + 31 + 0  # the default, yesterday, and today with thirty days to come
    assert sql.execute("SELECT FROM llm.job_events").rowcount == 0  # also the one that lay in the default partition
    events.keep_days(db, ahead=30, keep=7)
    assert partitions(sql) == after


def test_an_attempt_of_a_day_without_a_partition_streams_all_the_same(db: Database, sql: Connection) -> None:
    held = lease(db)
    sql.execute("UPDATE llm.jobs SET begun_at = '2019-05-05'")
    events.append(db, held.job_id, held.token, [(1, "delta", '{"text":"a"}')])
    assert told(db, held) == [(1, "a")]
    assert sql.execute("SELECT FROM llm.job_events_other").rowcount == 1


def test_a_day_that_lies_in_the_default_partition_already_is_left_there(db: Database, sql: Connection) -> None:
    sql.execute("SELECT llm.drop_event_days(-40)")
    assert partitions(sql) == ["llm.job_events_other"]
    held = lease(db)
    events.append(db, held.job_id, held.token, [(1, "delta", '{"text":"a"}')])
    events.keep_days(db, ahead=2, keep=7)
    assert len(partitions(sql)) == 1 + 3  # yesterday and the two days to come
    assert told(db, held) == [(1, "a")]
    events.append(db, held.job_id, held.token, [(2, "delta", '{"text":"b"}')])
    assert told(db, held) == [(1, "a"), (2, "b")]


def test_housekeeping_gives_up_at_once_behind_a_long_reader(db: Database, dsn: str, sql: Connection) -> None:
    """Whoever waits for the whole table has every stream wait behind it."""
    sql.execute("SELECT llm.drop_event_days(-40)")
    with psycopg.connect(dsn) as reader:
        reader.execute("SELECT count(*) FROM llm.job_events")
        with pytest.raises(Unavailable, match="lock timeout"):
            events.keep_days(db, ahead=3, keep=7)
    events.keep_days(db, ahead=7, keep=7)
