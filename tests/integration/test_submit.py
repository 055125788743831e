"""One write path, idempotent, joinable to the caller's transaction, and nothing poisonous gets in."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import IsolationLevel

from llm_mcp.errors import Conflict, InvalidInput, KeyReused, NotFound, TooLarge, Unavailable
from llm_mcp.job import Reason, Status, Submission
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store import jobs as job_rows
from llm_mcp.store import leases as verbs
from llm_mcp.store import sweeps
from llm_mcp.store.pool import Connection, Database
from tests.integration.rows import add, claim, count, lease, whole
from tests.waiting import until

# — the row —


def test_a_job_is_what_was_submitted(jobs: Jobs) -> None:
    deadline = datetime.now(UTC) + timedelta(hours=1)
    job_id = jobs.submit(
        Submission(
            kind="acme.any",
            payload={"text": "Grüße, 世界 😀", "n": [1, 2.5, None, True]},
            priority=-7,
            source="test",
            max_attempts=-1,
            deadline_at=deadline,
            delay_s=60.0,
        )
    )
    job = jobs.get(job_id)
    assert (job.kind, job.queue, job.status, job.reason) == ("acme.any", "default", Status.QUEUED, None)
    assert job.payload == '{"text":"Grüße, 世界 😀","n":[1,2.5,null,true]}'
    assert (job.priority, job.source, job.max_attempts, job.attempts) == (-7, "test", -1, 0)
    assert job.deadline_at == deadline
    assert timedelta(seconds=59) < job.run_at - job.queued_at < timedelta(seconds=61)
    assert job_id.version == 7


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {
            "payload": {"text": "Grüße\n\"'"},
            "priority": -7,
            "source": "test",
            "max_attempts": 9,
            "deadline_at": datetime.now(UTC) + timedelta(hours=1),
            "delay_s": 60.5,
            "idempotency_key": "k",
            "unique_s": 7.5,
            "result_ttl_s": 5.5,
            "principal": "p",
        },
    ],
    ids=["the least", "all that can be said"],
)
def test_a_job_by_itself_and_one_of_a_batch_become_the_same_row(jobs: Jobs, dsn: str, asked: dict[str, Any]) -> None:
    """They are written by different statements."""

    def row(ids: list[UUID]) -> dict[str, Any]:
        job: dict[str, Any] = whole(dsn, ids[0])["job"]
        spans = {name: job[name] - job["queued_at"] for name in ("run_at", "key_until") if job[name]}
        own = {"id", "idempotency_key", "queued_at", "updated_at"}
        assert job["updated_at"] == job["queued_at"]
        return {name: value for name, value in {**job, **spans}.items() if name not in own}

    alone = row([jobs.submit(Submission(kind="acme.any", **asked))])
    key = {"idempotency_key": "other"} if asked else {}
    assert row(jobs.submit_many([Submission(kind="acme.any", **{**asked, **key}), Submission(kind="x")])) == alone
    assert alone["run_at"] == timedelta(seconds=asked.get("delay_s", 0))


@pytest.mark.parametrize("payload", [None, [], "text", 0, False, {"a": None}])
def test_a_payload_may_be_any_json(jobs: Jobs, payload: Any) -> None:
    job = jobs.get(jobs.submit(Submission(kind="acme.any", payload=payload)))
    assert job.payload is not None
    assert json.loads(job.payload) == payload


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"kind": " "}, "kind", "kind_required"),
        ({"kind": "a\x00b"}, "kind", "invalid_kind"),
        ({"priority": 2**31}, "priority", "invalid_input"),
        ({"priority": True}, "priority", "invalid_input"),
        ({"max_attempts": -(2**31) - 1}, "max_attempts", "invalid_input"),
        ({"source": "x" * 201}, "source", "invalid_input"),
        ({"source": "a\nb"}, "source", "invalid_input"),
        ({"idempotency_key": ""}, "idempotency_key", "invalid_input"),
        ({"idempotency_key": "k" * 256}, "idempotency_key", "invalid_input"),
        ({"idempotency_key": "\ud800"}, "idempotency_key", "invalid_input"),
        ({"delay_s": -1.0}, "delay_s", "invalid_input"),
        ({"delay_s": float("inf")}, "delay_s", "invalid_input"),
        ({"delay_s": float("nan")}, "delay_s", "invalid_input"),
        ({"deadline_at": datetime(2030, 1, 1)}, "deadline_at", "invalid_deadline_at"),  # noqa: DTZ001 - naive on purpose
        ({"deadline_at": datetime(9999, 12, 31, tzinfo=UTC)}, "deadline_at", "invalid_deadline_at"),
        ({"deadline_at": datetime(1, 1, 1, tzinfo=UTC)}, "deadline_at", "invalid_deadline_at"),
        ({"payload": {"a": [float("nan")]}}, "payload.a[0]", "invalid_json"),
        ({"payload": {"a": "\x00"}}, "payload.a", "invalid_json"),
        ({"payload": {"a": object()}}, "payload.a", "invalid_json"),
        ({"kind": "ollama.generate", "payload": {"prompt": 5}}, "payload.prompt", "invalid_payload"),
    ],
)
def test_what_must_not_become_a_row_is_refused_by_its_field(
    jobs: Jobs, sql: Connection, fields: dict[str, Any], field: str, code: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        jobs.submit(Submission(**{"kind": "acme.any", **fields}))
    assert (caught.value.field, caught.value.code) == (field, code)
    assert count(sql) == 0


def test_the_limit_is_the_settings_and_counts_bytes(runtime: Runtime, jobs: Jobs) -> None:
    limit = runtime.settings.max_body_bytes
    jobs.submit(Submission(kind="acme.any", payload="x" * (limit - 2)))
    with pytest.raises(TooLarge, match=f"the limit is {limit}"):
        jobs.submit(Submission(kind="acme.any", payload="é" * (limit // 2)))


def test_zero_tries_means_what_the_kind_says(jobs: Jobs) -> None:
    assert jobs.get(jobs.submit(Submission(kind="acme.any"))).max_attempts == 3
    assert jobs.get(jobs.submit(Submission(kind="acme.any", max_attempts=1))).max_attempts == 1


# — the same request again —


def test_the_same_key_returns_the_first_job_as_it_was(jobs: Jobs, sql: Connection) -> None:
    first = jobs.submit(Submission(kind="acme.any", payload={"n": 1}, priority=5, idempotency_key="k"))
    again = jobs.submit(
        Submission(
            kind="acme.any",
            payload={"n": 1},
            priority=9,
            source="other",
            delay_s=5,
            max_attempts=1,
            idempotency_key="k",
        )
    )
    assert again == first
    assert count(sql) == 1
    assert jobs.get(first).priority == 5


@pytest.mark.parametrize("other", [{"payload": {"n": 2}}, {"kind": "acme.other"}, {"payload": {"n": 1, "m": 1}}])
def test_the_same_key_for_another_request_is_refused(jobs: Jobs, sql: Connection, other: dict[str, Any]) -> None:
    request: dict[str, Any] = {"kind": "acme.any", "payload": {"n": 1}, "idempotency_key": "k"}
    jobs.submit(Submission(**request))
    with pytest.raises(KeyReused) as caught:
        jobs.submit(Submission(**{**request, **other}))
    assert caught.value.code == "idempotency_key_reused"
    assert count(sql) == 1


def test_a_key_names_its_job_also_when_that_is_finished(db: Database, jobs: Jobs) -> None:
    first = jobs.submit(Submission(kind="echo", idempotency_key="k"))
    (held,) = claim(db)
    verbs.complete(db, first, held.token, result="{}")
    assert jobs.submit(Submission(kind="echo", idempotency_key="k")) == first


def test_a_repeated_statement_writes_one_row(db: Database, sql: Connection) -> None:
    job_id = uuid4()
    for _ in range(3):
        assert job_rows.submit(db, [job_rows.New(job_id, Submission(kind="echo"), "{}", "default", 3)]) == [job_id]
    assert count(sql) == 1
    with pytest.raises(KeyReused):
        job_rows.submit(db, [job_rows.New(job_id, Submission(kind="echo"), "[]", "default", 3)])


def test_twenty_threads_with_one_key_make_one_job(jobs: Jobs, sql: Connection) -> None:
    together = threading.Barrier(20)

    def submit(turn: int) -> UUID:
        together.wait(10)
        return jobs.submit(Submission(kind="acme.any", payload={"n": 1}, idempotency_key=f"k{turn}"))

    with ThreadPoolExecutor(20) as pool:
        for turn in range(5):
            assert len(set(pool.map(submit, [turn] * 20))) == 1
    assert count(sql) == 5


def test_a_key_that_was_pruned_is_free_again(db: Database, jobs: Jobs, sql: Connection) -> None:
    first = jobs.submit(Submission(kind="acme.any", payload={"n": 1}, idempotency_key="k"))
    jobs.cancel(first)
    assert sweeps.prune(db, days=0) == 1
    assert jobs.submit(Submission(kind="acme.any", payload={"n": 2}, idempotency_key="k")) != first


def test_a_key_that_is_being_deleted_is_waited_for(db: Database, sql: Connection, dsn: str) -> None:
    first = add(db, idempotency_key="k")
    with psycopg.connect(dsn) as remover, ThreadPoolExecutor(1) as pool:
        remover.execute("DELETE FROM llm.jobs WHERE id = %s", (first,))
        second = pool.submit(add, db, payload="[2]", idempotency_key="k")
        until(lambda: _waiting(sql))
        remover.commit()
        assert second.result(10) != first
    assert count(sql) == 1


def test_a_key_deleted_between_the_two_looks_is_tried_again(db: Database, sql: Connection) -> None:
    """The insert meets a row that is gone when it is looked at: neither an error nor a job that does not exist."""
    first = add(db, idempotency_key="k")
    sql.execute(
        "CREATE FUNCTION llm.prune_now() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN DELETE FROM llm.jobs WHERE payload = '{}'; RETURN NULL; END $$"
    )
    sql.execute("CREATE TRIGGER prune_now AFTER INSERT ON llm.jobs EXECUTE FUNCTION llm.prune_now()")
    try:
        second = add(db, payload="[2]", idempotency_key="k")
    finally:
        sql.execute("DROP FUNCTION llm.prune_now() CASCADE")
    assert second != first
    assert job_rows.get(db, second).payload == "[2]"


# — in the caller's transaction —


def test_a_job_joins_the_callers_transaction(db: Database, jobs: Jobs, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        kept = jobs.submit(Submission(kind="echo"), conn=conn)
        with pytest.raises(NotFound):
            jobs.get(kept)
        assert claim(db) == []
        conn.commit()
        assert jobs.get(kept).status is Status.QUEUED
        dropped = jobs.submit(Submission(kind="echo"), conn=conn)
        conn.rollback()
    with pytest.raises(NotFound):
        jobs.get(dropped)


def test_a_refusal_leaves_the_rest_of_the_transaction_to_its_owner(jobs: Jobs, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        with pytest.raises(InvalidInput):
            jobs.submit(Submission(kind=""), conn=conn)  # refused before any SQL: the transaction is whole
        jobs.submit(Submission(kind="echo", idempotency_key="k"), conn=conn)
        with pytest.raises(KeyReused), conn.transaction():
            jobs.submit(Submission(kind="echo", payload=[1], idempotency_key="k"), conn=conn)
        after = jobs.submit(Submission(kind="echo"), conn=conn)
        conn.commit()
    assert jobs.get(after).status is Status.QUEUED


def _waiting(sql: Connection) -> int:
    return sql.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'").rowcount


@pytest.mark.parametrize("commits", [True, False])
def test_a_key_that_another_open_transaction_used_is_waited_for(
    jobs: Jobs, sql: Connection, dsn: str, commits: bool
) -> None:
    request = Submission(kind="acme.any", payload={"n": 1}, idempotency_key="k")
    with psycopg.connect(dsn) as conn, ThreadPoolExecutor(1) as pool:
        first = jobs.submit(request, conn=conn)
        second = pool.submit(jobs.submit, request)
        until(lambda: _waiting(sql))
        (conn.commit if commits else conn.rollback)()
        assert (second.result(10) == first) is commits
    assert count(sql) == 1


def test_a_key_used_behind_a_repeatable_reads_back_is_a_serialization_failure(jobs: Jobs, dsn: str) -> None:
    """The first job cannot be seen from that snapshot: the owner of the transaction repeats it, as it always must."""
    request = Submission(kind="acme.any", payload={"n": 1}, idempotency_key="k")
    with psycopg.connect(dsn) as conn:
        conn.isolation_level = IsolationLevel.REPEATABLE_READ
        conn.execute("SELECT 1")
        first = jobs.submit(request)
        with pytest.raises(psycopg.errors.SerializationFailure):
            jobs.submit(request, conn=conn)
        conn.rollback()
        assert jobs.submit(request, conn=conn) == first


# — cancel, and a database that is away —


def test_cancel_in_every_status(db: Database, jobs: Jobs, dsn: str) -> None:
    queued = add(db)
    assert jobs.cancel(queued).reason is Reason.CANCELLED
    held = lease(db)
    job = jobs.cancel(held.job_id)
    assert (job.status, job.reason, job.error, job.lease_until) == (Status.ERROR, Reason.CANCELLED, "cancelled", None)
    (attempt,) = jobs.attempts(held.job_id)
    assert (attempt.status, attempt.reason) == ("error", "cancelled")
    for finished in (queued, held.job_id):
        before = whole(dsn, finished)
        with pytest.raises(Conflict) as caught:
            jobs.cancel(finished)
        assert caught.value.code == "already_finished"
        assert whole(dsn, finished) == before
    with pytest.raises(NotFound):
        jobs.cancel(uuid4())


def test_no_database_is_told_within_seconds() -> None:
    db = Database("postgresql://nobody@127.0.0.1:1/nothing")
    began_at = time.monotonic()
    with pytest.raises(Unavailable):
        add(db)
    assert time.monotonic() - began_at < 5
    db.close()


def test_a_server_that_restarted_is_found_though_every_idle_connection_is_dead(dsn: str, sql: Connection) -> None:
    db = Database(dsn, size=6)
    try:
        together = threading.Barrier(6)

        def busy(_: int) -> None:
            together.wait(10)
            with db._open_pool().connection():
                together.wait(10)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(busy, range(6)))
        ended = sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert ended.rowcount >= 6
        job_id = add(db)
        assert job_rows.status(db, job_id) is Status.QUEUED
    finally:
        db.close()


def test_no_schema_is_told_with_the_cure(empty_dsn: str) -> None:
    db = Database(empty_dsn)
    with pytest.raises(Unavailable, match="llm-mcp migrate"):
        add(db)
    with pytest.raises(Unavailable, match="llm-mcp migrate"):
        claim(db)
    db.close()
