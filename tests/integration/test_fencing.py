"""Only the owner of a running lease changes anything, and is told the truth when it says something twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import psycopg
import pytest

from llm_mcp.errors import LeaseLost, NotFound
from llm_mcp.job import Status
from llm_mcp.store import events, sweeps
from llm_mcp.store import jobs as job_rows
from llm_mcp.store import leases as verbs
from llm_mcp.store.pool import Database, connect
from tests.integration.rows import add, claim, lease, rewind, whole
from tests.integration.test_plans import VALUES
from tests.waiting import until

Situation = Callable[[Database, str], tuple[UUID, int]]
Verb = Callable[[Database, UUID, int], bool]


# — the matrix: a token, and what became of its lease —


def _running(db: Database, dsn: str) -> tuple[UUID, int]:
    held = lease(db)
    return held.job_id, held.token


def _foreign(db: Database, dsn: str) -> tuple[UUID, int]:
    return _running(db, dsn)[0], _running(db, dsn)[1]


def _invented(db: Database, dsn: str) -> tuple[UUID, int]:
    return _running(db, dsn)[0], 0


def _queued(db: Database, dsn: str) -> tuple[UUID, int]:
    return add(db), 0


def _done_by_another(db: Database, dsn: str) -> tuple[UUID, int]:
    job_id, old = _claimed_again(db, dsn)
    with connect(dsn) as conn:
        row = conn.execute("SELECT lease_token FROM llm.jobs WHERE id = %s", (job_id,)).fetchone()
    assert row is not None
    verbs.complete(db, job_id, row["lease_token"], result='"theirs"')
    return job_id, old


def _cancelled(db: Database, dsn: str) -> tuple[UUID, int]:
    job_id, token = _running(db, dsn)
    assert job_rows.cancel(db, job_id)
    return job_id, token


def _expired(db: Database, dsn: str) -> tuple[UUID, int]:
    job_id, token = _running(db, dsn)
    with connect(dsn) as conn:
        conn.execute("UPDATE llm.jobs SET deadline_at = now() WHERE id = %s", (job_id,))
    assert len(sweeps.expire(db)) == 1
    return job_id, token


def _reaped(db: Database, dsn: str) -> tuple[UUID, int]:
    job_id, token = _running(db, dsn)
    rewind(dsn, job_id)
    assert len(sweeps.reap(db)) == 1
    return job_id, token


def _claimed_again(db: Database, dsn: str) -> tuple[UUID, int]:
    job_id, token = _reaped(db, dsn)
    assert [again.job_id for again in claim(db, "other")] == [job_id]
    return job_id, token


def _released(db: Database, dsn: str) -> tuple[UUID, int]:
    job_id, token = _running(db, dsn)
    assert verbs.release(db, [(job_id, token)]) == {token}
    return job_id, token


SITUATIONS: list[Situation] = [
    *(_running, _foreign, _invented, _queued, _done_by_another, _cancelled),
    *(_expired, _reaped, _claimed_again, _released),
]


def _told(write: Callable[[], object]) -> bool:
    try:
        write()
    except LeaseLost:
        return False
    return True


def heartbeat(db: Database, job_id: UUID, token: int) -> bool:
    return bool(verbs.heartbeat(db, [(job_id, token)], lease_s=600))


def append(db: Database, job_id: UUID, token: int) -> bool:
    return _told(lambda: events.append(db, job_id, token, [(1, "delta", '{"text":"x"}')]))


def complete(db: Database, job_id: UUID, token: int) -> bool:
    return _told(lambda: verbs.complete(db, job_id, token, result='"mine"'))


def fail(db: Database, job_id: UUID, token: int) -> bool:
    return _told(lambda: verbs.fail(db, job_id, token, error="no", retryable=True, delay_s=0))


def release(db: Database, job_id: UUID, token: int) -> bool:
    return bool(verbs.release(db, [(job_id, token)]))


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("verb", [heartbeat, append, complete, fail, release])
def test_only_the_right_token_of_a_running_job_changes_anything(
    db: Database, dsn: str, verb: Verb, situation: Situation
) -> None:
    job_id, token = situation(db, dsn)
    before = whole(dsn, job_id)
    accepted = verb(db, job_id, token)
    assert accepted is (situation is _running)
    assert (whole(dsn, job_id) != before) is accepted


@pytest.mark.parametrize("verb", [complete, fail])
def test_no_such_job(db: Database, verb: Verb) -> None:
    with pytest.raises(NotFound):
        verb(db, uuid4(), 1)


# — said twice —

_SAY: dict[str, Verb] = {"complete": complete, "fail": fail, "release": release}


@pytest.mark.parametrize("second", ["complete", "fail"])
@pytest.mark.parametrize("first", ["complete", "fail", "release"])
def test_only_the_very_same_word_counts_as_said_already(db: Database, dsn: str, first: str, second: str) -> None:
    job_id, token = _running(db, dsn)
    assert _SAY[first](db, job_id, token)
    before = whole(dsn, job_id)
    assert _SAY[second](db, job_id, token) is (first == second)
    assert whole(dsn, job_id) == before


def test_a_failure_said_twice_stays_true_when_another_has_the_job_by_now(db: Database, dsn: str) -> None:
    job_id, token = _running(db, dsn)
    assert verbs.fail(db, job_id, token, error="no", retryable=True, delay_s=0) is Status.QUEUED
    (again,) = claim(db, "other")
    assert verbs.fail(db, job_id, token, error="no", retryable=True, delay_s=0) is Status.RUNNING
    assert not complete(db, job_id, token)
    assert complete(db, job_id, again.token)
    assert not fail(db, job_id, token + 10_000)


def test_a_result_sent_again_while_the_first_is_still_committing_is_the_owners(db: Database, dsn: str) -> None:
    job_id, token = _running(db, dsn)
    with psycopg.connect(dsn) as first, connect(dsn) as look, ThreadPoolExecutor(1) as pool:
        mine = {"job_id": str(job_id), "token": token, "result": '"mine"', "metrics": "{}"}
        db.run("turn", {**VALUES["turn"], "results": json.dumps([mine]), "n": 0, "kinds": []}, conn=first)
        second = pool.submit(verbs.complete, db, job_id, token, result='"mine"')
        until(lambda: look.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'").rowcount)
        first.commit()
        second.result(10)
    assert whole(dsn, job_id)["job"]["result"] == '"mine"'


def test_a_result_that_waits_behind_a_cancel_loses(db: Database, dsn: str) -> None:
    job_id, token = _running(db, dsn)
    with psycopg.connect(dsn) as first, connect(dsn) as look, ThreadPoolExecutor(1) as pool:
        assert db.run("cancel", {"job_id": job_id}, conn=first)
        late = pool.submit(verbs.complete, db, job_id, token, result='"mine"')
        until(lambda: look.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'").rowcount)
        first.commit()
        with pytest.raises(LeaseLost):
            late.result(10)
    assert whole(dsn, job_id)["job"]["status"] == "error"


# — many at once —


def test_heartbeats_in_any_order_never_deadlock_with_each_other_or_with_the_streams(db: Database, dsn: str) -> None:
    """Each asker names the same leases in an order of its own; the statement locks them in one."""
    for _ in range(40):
        add(db)
    keys = [(one.job_id, one.token) for one in claim(db, n=40)]
    orders = [keys, keys[::-1], keys[20:] + keys[:20]]

    def beat(number: int) -> int:
        asked = {"job_ids": [job for job, _ in orders[number]], "tokens": [token for _, token in orders[number]]}
        with connect(dsn) as conn:  # its own, for the pool would hide a deadlock by asking again
            return sum(len(db.run("heartbeat", {**asked, "lease_s": 30.0}, conn=conn)) for _ in range(30))

    def stream(number: int) -> int:
        for seq in range(1, 4):
            for job_id, token in orders[number]:
                events.append(db, job_id, token, [(seq, "delta", "{}")])
        return 30 * 40

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(work, number) for number in range(3) for work in (beat, stream)]
        assert [one.result(60) for one in running] == [30 * 40] * 6
    for job_id, token in keys:
        assert complete(db, job_id, token)
