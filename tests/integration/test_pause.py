"""Paused queues: nothing is claimed from them, running jobs run on, and a long one is in nobody's way."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import uuid4

import pytest

from llm_mcp.errors import InvalidInput
from llm_mcp.limits import Queues
from llm_mcp.runtime import Runtime
from llm_mcp.store import leases as verbs
from llm_mcp.store.listen import JOB_QUEUED
from llm_mcp.store.pool import Connection, Database
from tests.integration.rows import add, claim
from tests.integration.test_limits import many
from tests.integration.test_plans import VALUES, pages_touched, plan
from tests.waiting import until

BACKLOG = 50_000


@pytest.fixture
def queues(runtime: Runtime) -> Queues:
    return Queues(runtime)


def test_nothing_is_claimed_until_it_is_resumed(db: Database, queues: Queues, sql: Connection) -> None:
    many(sql, "echo", 1, queue="bulk", priority=9)
    mine = add(db)
    assert queues.pause("bulk")
    assert not queues.pause("bulk")
    assert [held.job_id for held in claim(db, n=9)] == [mine]
    assert queues.resume("bulk")
    assert not queues.resume("bulk")
    assert len(claim(db, n=9)) == 1


def test_what_runs_runs_on(db: Database, queues: Queues, sql: Connection) -> None:
    many(sql, "echo", 2, queue="bulk")
    done, failed = claim(db, n=2)
    queues.pause("bulk")
    assert verbs.heartbeat(db, [(done.job_id, done.token)], lease_s=60.0) == {done.token}
    verbs.complete(db, done.job_id, done.token, result="{}")
    verbs.fail(db, failed.job_id, failed.token, error="no", retryable=True, delay_s=0)
    assert claim(db, n=9) == []
    queues.resume("bulk")
    assert [held.job_id for held in claim(db, n=9)] == [failed.job_id]


def test_aged_jobs_of_a_paused_queue_stay_where_they_are(db: Database, queues: Queues, sql: Connection) -> None:
    many(sql, "echo", 3, queue="bulk")
    sql.execute("UPDATE llm.jobs SET queued_at = now() - interval '1 h'")
    queues.pause("bulk")
    assert claim(db, n=9) == []


def test_resume_wakes_the_workers(runtime: Runtime, queues: Queues) -> None:
    listener = runtime.listener
    with listener.subscribe(JOB_QUEUED, "") as woken:
        until(lambda: listener.hears(JOB_QUEUED) and woken.is_set())
        woken.clear()
        queues.pause("bulk")
        queues.resume("bulk")
        assert woken.wait(5)


@pytest.mark.parametrize("waited", ["0 s", "1 h"])
def test_a_long_paused_queue_in_front_is_passed_by(db: Database, queues: Queues, sql: Connection, waited: str) -> None:
    """The head of the queue costs a look at the pages of what is paused; claims that go on from there do not."""
    many(sql, "echo", BACKLOG, queue="bulk", priority=9)
    many(sql, "echo", 32)
    sql.execute("UPDATE llm.jobs SET queued_at = queued_at - %s::interval", (waited,))
    queues.pause("bulk")
    sql.execute("VACUUM ANALYZE llm.jobs")
    with sql.transaction(force_rollback=True):
        taken, pages = cost(sql)
    assert taken == 8
    assert pages < 6000
    first = verbs.turn(db, "w", uuid4(), kinds=["echo"], n=8, lease_s=60.0, ageing_s=600.0)
    assert len(first.leases) == 8
    assert first.place is not None
    with sql.transaction(force_rollback=True):
        taken, pages = cost(sql, **asdict(first.place))
    assert taken == 8
    assert pages < 400


def cost(sql: Connection, **place: Any) -> tuple[int, int]:
    """Return how many jobs a turn took, and the pages it touched."""
    found = plan(sql, "turn", {**VALUES["turn"], "kinds": ["echo"], "free": 8, "results": "[]", **place})
    return found[0]["Actual Rows"], pages_touched(found)


def test_the_list_says_what_waits_where(db: Database, queues: Queues, sql: Connection) -> None:
    assert queues.every() == []
    many(sql, "echo", 3, queue="bulk")
    claim(db, n=1)
    sql.execute("UPDATE llm.jobs SET queued_at = now() - interval '90 s', run_at = now() - interval '90 s'")
    add(db, delay_s=3600)
    queues.pause("bulk")
    queues.pause("empty")
    bulk, default, empty = queues.every()
    assert (bulk.name, bulk.queued, bulk.running) == ("bulk", 2, 1)
    assert bulk.oldest_s is not None
    assert 90 <= bulk.oldest_s < 120
    assert bulk.paused_at is not None
    assert (default.name, default.queued, default.oldest_s, default.paused_at) == ("default", 1, None, None)
    assert (empty.name, empty.queued, empty.running, empty.oldest_s) == ("empty", 0, 0, None)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 201])
def test_a_name_that_is_none_is_refused(queues: Queues, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        queues.pause(name)
    assert refused.value.field == "name"
