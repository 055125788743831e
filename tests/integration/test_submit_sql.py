"""The door for plain SQL checks what the other doors check, and lists show everything once."""

from __future__ import annotations

import time
from uuid import UUID

import psycopg
import pytest

from llm_mcp.errors import InvalidInput
from llm_mcp.job import Status
from llm_mcp.jobs import Jobs
from llm_mcp.store import leases as verbs
from llm_mcp.store.pool import Connection, Database, connect
from tests.integration.rows import add, claim, count, lease


def test_ids_made_by_the_database_are_of_version_7_and_grow(sql: Connection) -> None:
    made = [row["id"] for row in sql.execute("SELECT llm.new_id() AS id FROM generate_series(1, 200)")]
    sql.execute("SELECT pg_sleep(0.002)")
    later = sql.execute("SELECT llm.new_id() AS id").fetchone()
    assert later is not None
    assert {made_id.version for made_id in made} == {7}
    assert {made_id.variant for made_id in made} == {later["id"].variant}
    assert len(set(made)) == 200
    assert later["id"] > max(made)
    assert abs((later["id"].int >> 80) / 1000 - time.time()) < 60


# — plain SQL —


def test_plain_sql_submits_with_defaults_and_is_picked_up(db: Database, sql: Connection, jobs: Jobs) -> None:
    row = sql.execute("""SELECT llm.submit('echo', '{"text": "hi"}') AS id""").fetchone()
    assert row is not None
    job = jobs.get(row["id"])
    assert (job.status, job.source, job.max_attempts, job.priority) == (Status.QUEUED, "sql", 3, 0)
    (held,) = claim(db)
    assert held.job_id == row["id"]


def test_plain_sql_names_every_parameter(sql: Connection, jobs: Jobs) -> None:
    row = sql.execute(
        """SELECT llm.submit(kind => 'echo', payload => '[1]', priority => 3, source => 's', max_attempts => 0,
                             deadline_at => now() + interval '1 h', delay_s => 5, queue => 'q',
                             idempotency_key => 'k', id => '01890000-0000-7000-8000-000000000001') AS id"""
    ).fetchone()
    assert row is not None
    job = jobs.get(UUID("01890000-0000-7000-8000-000000000001"))
    assert (job.payload, job.priority, job.max_attempts, job.queue) == ("[1]", 3, 3, "q")
    again = sql.execute("SELECT llm.submit('echo', '[1]', idempotency_key => 'k') AS id").fetchone()
    assert again == row
    with pytest.raises(psycopg.Error, match="this key was used for another request") as caught:
        sql.execute("SELECT llm.submit('echo', '[2]', idempotency_key => 'k')")
    assert caught.value.sqlstate == "LM422"


@pytest.mark.parametrize(
    ("call", "column", "says"),
    [
        ("NULL", "kind", "kind: must not be blank"),
        ("E' \\t'", "kind", "kind: must not be blank"),
        ("repeat('x', 201)", "kind", "kind: is longer than 200 characters"),
        ("'echo', source => repeat('x', 201)", "source", "source: is longer than 200"),
        (r"E'a\nb'", "kind", "kind: holds a control character"),
        (r"U&'a\200B'", "kind", "kind: holds a control character"),
        (r"'echo', source => U&'\202Eback'", "source", "source: holds a control character"),
        (r"'echo', idempotency_key => E'a\tb'", "idempotency_key", "idempotency_key: holds a control character"),
        ("'echo', idempotency_key => ''", "idempotency_key", "idempotency_key: must be 1 to 255 characters"),
        ("'echo', deadline_at => 'infinity'", "deadline_at", "deadline_at: must be between 1970 and"),
        ("'echo', deadline_at => '-infinity'", "deadline_at", "deadline_at: must be between 1970 and"),
        ("'echo', deadline_at => '10000-01-01'", "deadline_at", "deadline_at: must be between 1970 and"),
        ("'echo', deadline_at => '0044-03-15 BC'", "deadline_at", "deadline_at: must be between 1970 and"),
        ("'echo', delay_s => 'NaN'", "delay_s", "delay_s: must be between 0 and"),
        ("'echo', delay_s => 'Infinity'", "delay_s", "delay_s: must be between 0 and"),
        ("'echo', delay_s => -1", "delay_s", "delay_s: must be between 0 and"),
        (r"""'echo', '{"a": "\u0000"}'""", "payload", r"payload: U\+0000 is not allowed in text"),
        (r"""'echo', '{"a": "\ud800"}'""", "payload", "payload: half a character"),
        (r"""'echo', '{"\udfff": 1}'""", "payload", "payload: half a character"),
        ("""'echo', '{"a": 1e400}'""", "payload", "payload: number out of range"),
        ("""'echo', '{"a": -1e131071}'""", "payload", "payload: number out of range"),
        ("""'echo', '{"a": 1e999999}'""", "payload", "payload: number out of range"),
        ("'echo', (repeat('[', 64) || '1' || repeat(']', 64))::json", "payload", "payload: nested deeper than 64"),
        ("'echo', (repeat('[', 5000) || repeat(']', 5000))::json", "payload", "payload: nested deeper than 64"),
        ("'echo', to_json(repeat('x', 16 * 1024 * 1024))", "payload", "payload: over 16 MiB"),
    ],
)
def test_plain_sql_is_refused_in_clear_words(sql: Connection, call: str, column: str, says: str) -> None:
    with pytest.raises(psycopg.Error, match=says) as caught:
        sql.execute(f"SELECT llm.submit({call})")
    assert caught.value.diag.column_name == column
    assert caught.value.sqlstate == ("LM413" if "MiB" in says else "LM400")
    assert count(sql) == 0


def test_plain_sql_at_the_edges_of_what_is_let_in(sql: Connection) -> None:
    sql.execute("SELECT llm.submit('echo', (repeat('[', 64) || repeat(']', 64))::json)")
    sql.execute("""SELECT llm.submit('echo', '{"a": 1.6e308, "b": "\\ud83d\\ude00", "c": "\\\\u0000"}')""")
    assert count(sql) == 2


@pytest.mark.parametrize(
    "change",
    ["deadline_at = 'infinity'", "deadline_at = '-infinity'", "run_at = 'infinity'", "run_at = '10000-01-01'"],
)
def test_no_instant_that_would_break_a_list_can_be_stored(db: Database, sql: Connection, change: str) -> None:
    job_id = add(db)
    with pytest.raises(psycopg.errors.CheckViolation):
        sql.execute(f"UPDATE llm.jobs SET {change} WHERE id = %s", (job_id,))


# — lists —


def test_a_list_pages_through_everything_once(db: Database, jobs: Jobs) -> None:
    ids = [add(db, kind=f"k{n % 2}", source=f"s{n % 3}") for n in range(12)]
    seen: list[UUID] = []
    while page := jobs.page(limit=5, before=seen[-1] if seen else None):
        seen += [job.id for job in page]
    assert seen == sorted(ids, reverse=True)
    assert {job.id for job in jobs.page(kind="k1", source="s1")} == {ids[n] for n in range(12) if n % 6 == 1}
    assert all(job.payload is None for job in jobs.page())


@pytest.mark.parametrize("status", list(Status))
def test_a_list_by_status(db: Database, jobs: Jobs, status: Status) -> None:
    by_status = {Status.DONE: lease(db).job_id, Status.ERROR: add(db)}
    verbs.complete(db, by_status[Status.DONE], token_of(jobs, db, by_status[Status.DONE]), result="{}")
    jobs.cancel(by_status[Status.ERROR])
    by_status[Status.RUNNING] = lease(db).job_id
    by_status[Status.QUEUED] = add(db)
    assert [job.id for job in jobs.page(status=status)] == [by_status[status]]


def token_of(jobs: Jobs, db: Database, job_id: UUID) -> int:
    with connect(db.dsn) as conn:
        row = conn.execute("SELECT lease_token FROM llm.jobs WHERE id = %s", (job_id,)).fetchone()
        assert row is not None
        return int(row["lease_token"])


@pytest.mark.parametrize("bad", ["a\x00b", "\ud800"])
def test_a_filter_that_no_row_could_match_is_refused_not_a_crash(jobs: Jobs, bad: str) -> None:
    with pytest.raises(InvalidInput):
        jobs.page(kind=bad)


def test_whether_anybody_takes_a_kind(db: Database, jobs: Jobs) -> None:
    from llm_mcp.store import workers

    lonely, other = add(db, kind="lonely"), add(db, kind="echo")
    assert not jobs.get(lonely).served
    assert jobs.unserved() == {"lonely": 1, "echo": 1}
    seen = {"name": "n", "host": "h", "pid": 1, "version": "v", "threads": 1, "running": 0}
    workers.seen(db, "w1", kinds=["echo"], **seen)  # type: ignore[arg-type] # one dict of mixed values
    assert jobs.unserved() == {"lonely": 1}
    assert jobs.get(other).served
    workers.seen(db, "w2", kinds=[], **seen)  # type: ignore[arg-type] # as above; no kinds: every kind
    assert jobs.unserved() == {}
    assert jobs.get(lonely).served
    workers.stopped(db, "w2")
    assert jobs.unserved() == {"lonely": 1}
    with connect(db.dsn) as conn:
        conn.execute("UPDATE llm.workers SET seen_at = now() - interval '2 min'")
    assert jobs.unserved() == {"lonely": 1, "echo": 1}
    assert jobs.workers() == []
