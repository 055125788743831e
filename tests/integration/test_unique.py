"""A key with a window: one job as long as it holds, a new one after, and never two at its end."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from llm_mcp.errors import InvalidInput, KeyReused
from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs
from llm_mcp.store import leases as verbs
from llm_mcp.store.pool import Connection, Database
from tests.integration.rows import claim, count
from tests.waiting import until


def new(payload: Any = 1, *, unique_s: float | None = 60.0, key: str = "k") -> Submission:
    return Submission(kind="echo", payload=payload, idempotency_key=key, unique_s=unique_s)


def end_window(sql: Connection) -> None:
    """Let every window have ended a moment ago."""
    sql.execute("UPDATE llm.jobs SET key_until = now() - interval '1 ms' WHERE key_until IS NOT NULL")


def test_within_the_window_it_is_the_first_job(jobs: Jobs, sql: Connection) -> None:
    first = jobs.submit(new())
    assert [jobs.submit(new()) for _ in range(3)] == [first] * 3
    with pytest.raises(KeyReused):
        jobs.submit(new(2))
    assert count(sql) == 1


def test_also_when_the_first_is_finished(jobs: Jobs, db: Database) -> None:
    first = jobs.submit(new())
    (held,) = claim(db)
    verbs.complete(db, first, held.token, result="{}")
    assert jobs.submit(new()) == first


def test_after_it_there_is_a_new_one_whatever_the_request(jobs: Jobs, sql: Connection) -> None:
    first = jobs.submit(new())
    end_window(sql)
    second = jobs.submit(new(2))
    assert second != first
    assert jobs.submit(new(2)) == second
    assert (jobs.get(first).payload, jobs.get(second).payload) == ("1", "2")
    assert count(sql) == 2


def test_the_window_is_the_first_ones_and_is_not_moved_by_who_comes_later(jobs: Jobs, sql: Connection) -> None:
    jobs.submit(new(unique_s=60.0))
    before = sql.execute("SELECT key_until FROM llm.jobs").fetchall()
    jobs.submit(new(unique_s=6000.0)), jobs.submit(new(unique_s=None))
    assert sql.execute("SELECT key_until FROM llm.jobs").fetchall() == before


def test_it_ends_by_itself(jobs: Jobs) -> None:
    first = jobs.submit(new(unique_s=0.3))
    assert jobs.submit(new(unique_s=0.3)) == first
    until(lambda: jobs.submit(new(unique_s=60.0)) != first, timeout_s=5)


def test_without_a_window_it_holds_for_good(jobs: Jobs, sql: Connection) -> None:
    first = jobs.submit(new(unique_s=None))
    end_window(sql)
    assert jobs.submit(new()) == first


def test_a_job_whose_key_was_taken_over_runs_on(jobs: Jobs, db: Database, sql: Connection) -> None:
    first = jobs.submit(new())
    (held,) = claim(db)
    end_window(sql)
    second = jobs.submit(new())
    verbs.complete(db, first, held.token, result='"one"')
    assert [one.job_id for one in claim(db)] == [second]
    assert jobs.get(first).result == '"one"'


@pytest.mark.parametrize("batch", [1, 3])
def test_at_the_end_of_the_window_twenty_threads_make_one(jobs: Jobs, sql: Connection, batch: int) -> None:
    together = threading.Barrier(20)

    def submit(turn: int) -> tuple[UUID, ...]:
        together.wait(10)
        return tuple(jobs.submit_many([new(turn, key=f"k{n}") for n in range(batch)]))

    with ThreadPoolExecutor(20) as pool:
        for turn in range(5):
            assert len(set(pool.map(submit, [turn] * 20))) == 1
            assert count(sql) == batch * (turn + 1)
            end_window(sql)


def test_an_ended_key_in_the_middle_of_a_batch(jobs: Jobs, sql: Connection) -> None:
    old = jobs.submit(new("old", key="b"))
    end_window(sql)
    held = jobs.submit(new("held", key="c"))
    ids = jobs.submit_many([new("a", key="a"), new("b", key="b"), new("held", key="c"), new("b", key="b")])
    assert ids[1] == ids[3] != old
    assert ids[2] == held
    assert [jobs.get(job_id).payload for job_id in ids] == ['"a"', '"b"', '"held"', '"b"']
    assert count(sql) == 4


def test_a_refused_batch_frees_no_key(jobs: Jobs, sql: Connection) -> None:
    first = jobs.submit(new())
    end_window(sql)
    with pytest.raises(KeyReused):
        jobs.submit_many([new(2), new(3)])
    (row,) = sql.execute("SELECT id, idempotency_key FROM llm.jobs").fetchall()
    assert row == {"id": first, "idempotency_key": "k"}


@pytest.mark.parametrize("unique_s", [0.0, -1.0, float("nan"), float("inf"), 1e12])
def test_a_window_that_makes_no_sense_is_refused(jobs: Jobs, unique_s: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        jobs.submit(new(unique_s=unique_s))
    assert caught.value.field == "unique_s"


def test_a_window_needs_a_key(jobs: Jobs) -> None:
    with pytest.raises(InvalidInput) as caught:
        jobs.submit(Submission(kind="echo", unique_s=5.0))
    assert caught.value.field == "unique_s"
