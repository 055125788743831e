"""Many jobs in one statement: in order, all or none, each checked and each with its own key."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from llm_mcp.errors import InvalidInput, KeyReused, NotFound, TooLarge
from llm_mcp.job import Job, Submission
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store.listen import JOB_QUEUED
from llm_mcp.store.pool import Connection, Database
from tests.integration.rows import claim, count


def new(n: int, **more: Any) -> Submission:
    return Submission(**{"kind": "echo", "payload": n, **more})


def test_they_come_back_and_run_in_their_order(jobs: Jobs, db: Database) -> None:
    ids = jobs.submit_many(new(n) for n in range(300))
    assert len(set(ids)) == 300
    assert [jobs.get(job_id).payload for job_id in (ids[0], ids[150], ids[299])] == ["0", "150", "299"]
    taken = [held for _ in range(3) for held in claim(db, n=100)]
    assert [held.job_id for held in taken] == ids
    assert [held.payload for held in taken] == [str(n) for n in range(300)]


def test_every_field_arrives_as_by_one(jobs: Jobs) -> None:
    asked: dict[str, Any] = {
        "priority": -3,
        "source": "s",
        "max_attempts": 7,
        "delay_s": 60.0,
        "result_ttl_s": 30.0,
        "idempotency_key": None,
    }
    one = jobs.get(jobs.submit(new(1, **asked)))
    many = [jobs.get(job_id) for job_id in jobs.submit_many([new(1, **asked), new(2)])]
    same = {field.name for field in fields(Job)} - {"id", "queued_at", "updated_at", "run_at"}
    assert {name: getattr(many[0], name) for name in same} == {name: getattr(one, name) for name in same}
    assert abs((many[0].run_at - many[0].queued_at).total_seconds() - 60) < 0.01
    assert (many[1].priority, many[1].max_attempts) == (0, 3)


def test_none_is_none(jobs: Jobs, sql: Connection) -> None:
    assert jobs.submit_many([]) == []
    assert count(sql) == 0


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"payload": {"text": "\x00"}}, "[3].payload.text"),
        ({"priority": 2**31}, "[3].priority"),
        ({"kind": ""}, "[3].kind"),
        ({"kind": "ollama.generate", "payload": {"prompt": 5}}, "[3].payload.prompt"),
        ({"unique_s": 5.0}, "[3].unique_s"),
        ({"idempotency_key": ""}, "[3].idempotency_key"),
        ({"delay_s": float("nan")}, "[3].delay_s"),
        ({"payload": "x" * (17 * 2**20)}, "[3].payload"),
        ({"after": (UUID(int=7),)}, "[3].after[0]"),
    ],
)
def test_what_is_wrong_with_one_is_told_by_its_place_and_none_is_written(
    jobs: Jobs, sql: Connection, more: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        jobs.submit_many([new(0), new(1), new(2), new(3, **more), new(4)])
    assert caught.value.field == field
    assert isinstance(caught.value, TooLarge) is (field == "[3].payload")
    assert count(sql) == 0


def test_the_same_key_twice_in_a_batch_is_one_job(jobs: Jobs, sql: Connection) -> None:
    ids = jobs.submit_many([new(1, idempotency_key="a"), new(2), new(1, idempotency_key="a"), new(3)])
    assert ids[0] == ids[2]
    assert len(set(ids)) == 3
    assert [jobs.get(job_id).payload for job_id in ids] == ["1", "2", "1", "3"]
    assert count(sql) == 3


def test_a_key_of_before_gives_that_job_in_its_place(jobs: Jobs, sql: Connection) -> None:
    first = jobs.submit(new(7, idempotency_key="k", priority=5))
    ids = jobs.submit_many([new(1), new(7, idempotency_key="k", priority=1), new(3)])
    assert ids[1] == first
    assert [jobs.get(job_id).payload for job_id in ids] == ["1", "7", "3"]
    assert jobs.get(first).priority == 5
    assert jobs.submit_many([new(7, idempotency_key="k")]) == [first]
    assert count(sql) == 3


@pytest.mark.parametrize("before", [True, False])
def test_a_key_of_another_request_refuses_the_whole_batch(jobs: Jobs, sql: Connection, before: bool) -> None:
    other = new(1, idempotency_key="k")
    batch = [new(0), new(2, idempotency_key="k"), new(3)]
    if before:
        jobs.submit(other)
    else:
        batch.append(other)
    with pytest.raises(KeyReused):
        jobs.submit_many(batch)
    assert count(sql) == int(before)


def test_a_batch_said_twice_is_there_once(jobs: Jobs, sql: Connection) -> None:
    ids = [uuid4() for _ in range(20)]
    batch = [new(n, id=job_id) for n, job_id in enumerate(ids)]
    assert jobs.submit_many(batch) == ids
    assert jobs.submit_many([*batch, new(20)])[:20] == ids
    with pytest.raises(KeyReused):
        jobs.submit_many([new(99, id=ids[3])])
    assert count(sql) == 21


def test_it_joins_the_callers_transaction(jobs: Jobs, sql: Connection, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        kept = jobs.submit_many([new(1), new(2)], conn=conn)
        assert count(sql) == 0
        conn.commit()
        with pytest.raises(KeyReused), conn.transaction():
            jobs.submit_many([new(3, idempotency_key="k"), new(4, idempotency_key="k")], conn=conn)
        dropped = jobs.submit_many([new(5)], conn=conn)
        conn.rollback()
    assert [jobs.get(job_id).payload for job_id in kept] == ["1", "2"]
    with pytest.raises(NotFound):
        jobs.get(dropped[0])


def test_workers_are_told_once_and_not_before_the_commit(
    runtime: Runtime, jobs: Jobs, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(runtime.notifier, "notify", lambda channel, payload="": told.append(channel))
    jobs.submit_many([new(n) for n in range(50)])
    assert told == [JOB_QUEUED]
    with psycopg.connect(dsn) as conn:
        jobs.submit_many([new(1)], conn=conn)
    assert told == [JOB_QUEUED]


def test_ten_thousand_are_one_statement_of_moments(jobs: Jobs, sql: Connection) -> None:
    batch = [new(n) for n in range(10_000)]
    began_at = time.monotonic()
    ids = jobs.submit_many(batch)
    took_s = time.monotonic() - began_at
    assert len(set(ids)) == count(sql) == 10_000
    (row,) = sql.execute("SELECT count(DISTINCT xmin::text) AS n FROM llm.jobs").fetchall()
    assert row["n"] == 1
    assert took_s < 8, took_s


def test_batches_with_the_same_keys_in_any_order_agree(jobs: Jobs, sql: Connection) -> None:
    """None locks the other out: that would take the database seconds to see, and one of them an error."""
    together = threading.Barrier(6)
    sql.execute(f"ALTER DATABASE {sql.info.dbname} SET deadlock_timeout = '1min'")

    def submit(number: int) -> dict[int, UUID]:
        keys = list(range(60))
        keys = keys[::-1] if number % 2 else keys
        together.wait(10)
        return dict(zip(keys, jobs.submit_many([new(n, idempotency_key=f"k{n}") for n in keys]), strict=True))

    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(submit, range(6)))
    assert all(one == told[0] for one in told)
    assert count(sql) == 60
