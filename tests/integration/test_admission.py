"""The cap on waiting jobs: who is refused, who is answered all the same, and what knowing the length costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from llm_mcp import admission, config
from llm_mcp import runtime as runtimes
from llm_mcp.actors import echo
from llm_mcp.errors import QueueFull, Unavailable
from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store import admission as rows
from llm_mcp.store.pool import Connection, Database, connect
from tests.integration.proxy import Proxy
from tests.integration.rows import add, count

CAP = 20
Shift = Callable[[float], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Shift:
    """Let so many seconds pass."""
    passed = [1000.0]
    monkeypatch.setattr(admission, "time", SimpleNamespace(monotonic=lambda: passed[0]))

    def shift(seconds: float) -> None:
        passed[0] += seconds

    return shift


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What each look at the queue has found."""
    found: list[int] = []
    depth = rows.depth

    def noted(db: Database, *, most: int) -> int:
        found.append(depth(db, most=most))
        return found[-1]

    monkeypatch.setattr(rows, "depth", noted)
    return found


def capped(dsn: str, folder: Path, most: int = CAP) -> Jobs:
    """The service in a process whose queue may hold so many jobs."""
    return Jobs(Runtime(config.load(db_dsn=dsn, data_dir=folder, max_queued=most)))


@pytest.fixture
def full(dsn: str, db: Database, tmp_path: Path, clock: Shift) -> Iterator[Jobs]:
    """The service over a queue without room for one more."""
    jobs = capped(dsn, tmp_path)
    jobs.submit(Submission(kind="echo", idempotency_key="first"))
    for _ in range(CAP - 1):
        jobs.submit(Submission(kind="echo"))
    yield jobs
    jobs.runtime.close()


def test_the_first_too_many_is_refused_and_nothing_of_it_stays(full: Jobs, sql: Connection) -> None:
    with pytest.raises(QueueFull, match="the limit is 20") as refused:
        full.submit(Submission(kind="echo"))
    assert refused.value.code == "queue_full"
    assert refused.value.retry_after_s > 0
    assert count(sql) == CAP


def test_a_batch_is_let_in_whole_or_not_at_all(dsn: str, tmp_path: Path, clock: Shift, sql: Connection) -> None:
    jobs = capped(dsn, tmp_path)
    jobs.submit_many([Submission(kind="echo")] * (CAP - 2))
    with pytest.raises(QueueFull):
        jobs.submit_many([Submission(kind="echo")] * 3)
    assert count(sql) == CAP - 2
    assert len(jobs.submit_many([Submission(kind="echo")] * 2)) == 2
    jobs.runtime.close()


def test_who_asks_after_an_earlier_job_is_answered(full: Jobs, sql: Connection) -> None:
    again = Submission(kind="echo", idempotency_key="first")
    assert full.submit(again) == full.submit(again)
    assert full.submit_many([again, again]) == [full.submit(again)] * 2
    for mixed in ([again, Submission(kind="echo")], [again, Submission(kind="echo", idempotency_key="new")]):
        with pytest.raises(QueueFull):
            full.submit_many(mixed)
    assert count(sql) == CAP


def test_a_key_is_asked_after_by_whom_it_belongs_to(full: Jobs, sql: Connection) -> None:
    row = "INSERT INTO llm.jobs (id, kind, principal, idempotency_key) VALUES (llm.new_id(), 'echo', 'ann', %s)"
    again = Submission(kind="echo", idempotency_key="first", principal="ann")
    with pytest.raises(QueueFull):
        full.submit(again)
    sql.execute(row, (again.unique_key,))
    assert full.submit(again) == full.submit(again)
    assert count(sql) == CAP + 1


def test_a_key_whose_time_is_over_names_nothing(full: Jobs, sql: Connection) -> None:
    sql.execute("UPDATE llm.jobs SET key_until = now() - interval '1 s' WHERE idempotency_key = 'first'")
    with pytest.raises(QueueFull):
        full.submit(Submission(kind="echo", idempotency_key="first"))


def test_every_way_in_is_refused(full: Jobs) -> None:
    runtimes.use(full.runtime)
    try:
        with pytest.raises(QueueFull):
            echo.echo.submit(a=1)
        with pytest.raises(QueueFull):
            echo.echo.send(a=1)
    finally:
        runtimes.use(None)


def test_a_refusal_in_a_callers_transaction_leaves_it_whole(full: Jobs, dsn: str, sql: Connection) -> None:
    with connect(dsn, autocommit=False) as conn:
        conn.execute("SELECT 1")
        with pytest.raises(QueueFull):
            full.submit(Submission(kind="echo"), conn=conn)
        assert conn.execute("SELECT count(*) AS n FROM llm.jobs").fetchone() == {"n": CAP}


def test_a_key_named_in_the_same_transaction_is_known(dsn: str, tmp_path: Path, clock: Shift, sql: Connection) -> None:
    jobs = capped(dsn, tmp_path, most=1)
    with connect(dsn, autocommit=False) as conn:
        first = jobs.submit(Submission(kind="echo", idempotency_key="k"), conn=conn)
        assert jobs.submit(Submission(kind="echo", idempotency_key="k"), conn=conn) == first
        with pytest.raises(QueueFull):
            jobs.submit(Submission(kind="echo"), conn=conn)
    jobs.runtime.close()


def test_there_is_room_again_a_second_after_the_queue_went_down(
    full: Jobs, sql: Connection, clock: Shift, looks: list[int]
) -> None:
    with pytest.raises(QueueFull):
        full.submit(Submission(kind="echo"))
    sql.execute("DELETE FROM llm.jobs WHERE idempotency_key IS NULL")
    looks.clear()
    clock(0.5)
    with pytest.raises(QueueFull):
        full.submit(Submission(kind="echo"))
    assert looks == []
    clock(0.6)
    full.submit(Submission(kind="echo"))
    assert looks == [1]


def test_what_others_let_in_is_seen_within_a_second(dsn: str, db: Database, tmp_path: Path, clock: Shift) -> None:
    jobs = capped(dsn, tmp_path)
    jobs.submit(Submission(kind="echo"))
    for _ in range(CAP):
        add(db)
    jobs.submit(Submission(kind="echo"))  # it went by its look of a moment ago
    clock(1.1)
    with pytest.raises(QueueFull):
        jobs.submit(Submission(kind="echo"))
    jobs.runtime.close()


def test_the_length_is_looked_at_seldom(dsn: str, db: Database, tmp_path: Path, clock: Shift, looks: list[int]) -> None:
    jobs = capped(dsn, tmp_path, most=1000)
    for _ in range(10):
        jobs.submit(Submission(kind="echo"))
        clock(0.9)
    assert looks == [0], "next to nothing was let in, and most of the cap is free"
    jobs.submit(Submission(kind="echo"))  # the eleventh is over a hundredth of the cap
    assert looks == [0, 10]
    jobs.submit_many([Submission(kind="echo")] * 600)
    for _ in range(20):
        jobs.submit(Submission(kind="echo"))
    assert looks == [0, 10]
    clock(1.1)
    jobs.submit(Submission(kind="echo"))
    assert looks == [0, 10, 631]
    clock(1.1)
    jobs.submit(Submission(kind="echo"))
    assert looks == [0, 10, 631, 632], "more than half of the cap is used"
    jobs.runtime.close()


def test_what_is_let_in_beside_a_look_is_not_forgotten(
    dsn: str, tmp_path: Path, clock: Shift, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = capped(dsn, tmp_path)
    jobs.submit_many([Submission(kind="echo")] * 10)
    clock(11)
    depth = rows.depth

    def meanwhile(db: Database, *, most: int) -> int:
        found = depth(db, most=most)
        monkeypatch.setattr(rows, "depth", depth)
        jobs.submit_many([Submission(kind="echo")] * 8)
        return found

    monkeypatch.setattr(rows, "depth", meanwhile)
    jobs.submit(Submission(kind="echo"))
    jobs.submit(Submission(kind="echo"))
    with pytest.raises(QueueFull):
        jobs.submit(Submission(kind="echo"))
    jobs.runtime.close()


def test_a_count_goes_no_further_than_the_cap(dsn: str, db: Database) -> None:
    for _ in range(5):
        add(db)
    assert [rows.depth(db, most=most) for most in (3, 5, 9)] == [3, 5, 5]


def test_finished_and_delayed(dsn: str, db: Database, sql: Connection) -> None:
    add(db)
    add(db, delay_s=3600)
    sql.execute("UPDATE llm.jobs SET blocked = true WHERE id = %s", (add(db),))
    done = add(db)
    sql.execute(
        "UPDATE llm.jobs SET status = 'error', reason = 'cancelled', finished_at = now() WHERE id = %s", (done,)
    )
    assert rows.depth(db, most=9) == 3


def test_no_cap_looks_at_nothing(dsn: str, db: Database, tmp_path: Path, looks: list[int]) -> None:
    jobs = capped(dsn, tmp_path, most=0)
    jobs.submit_many([Submission(kind="echo")] * 50)
    assert looks == []
    jobs.runtime.close()


def test_a_queue_that_cannot_be_counted(dsn: str, proxy: Proxy, tmp_path: Path, sql: Connection) -> None:
    """The submit says that the database is away; on a connection of the caller's it is none of our business."""
    jobs = capped(proxy.dsn, tmp_path)
    proxy.refuse()
    with pytest.raises(Unavailable):
        jobs.submit(Submission(kind="echo"))
    jobs.runtime.close()
    mine = capped(proxy.dsn, tmp_path)
    mine.submit(Submission(kind="echo"), conn=sql)
    assert count(sql) == 1
    mine.runtime.close()
