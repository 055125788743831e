"""Every statement stands on the migrated schema, and none reads a table from end to end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.store.pool import Connection
from llm_mcp.store.sql import numbered, statements
from tests.integration.rows import add_history, shared_database

ROWS = 50_000
KINDS = ["echo", "ollama.chat", "ollama.embed", "ollama.generate", "openai.chat", "openai.embed", "openrouter.chat"]
_ID = UUID("01890000-0000-7000-8000-000000000001")
_JOB = {
    "id": str(_ID),
    "kind": "echo",
    "payload": "{}",
    "priority": 0,
    "source": "",
    "max_attempts": 3,
    "deadline_at": "2040-01-01T00:00:00Z",
    "delay_s": 0.0,
    "queue": "default",
    "key": "k",
    "key_s": 60.0,
    "result_ttl_s": 60.0,
}
_AT = datetime(2040, 1, 1, tzinfo=UTC)
_SCHEDULE = {
    "name": "s7",
    "kind": "echo",
    "payload": "{}",
    "cron": "0 7 * * *",
    "timezone": "UTC",
    "queue": "default",
    "priority": 0,
    "max_attempts": 3,
    "source": "schedule",
    "next_at": "2040-01-01T00:00:00Z",
}
_TICK = {"name": "s7", "cron": "0 7 * * *", "timezone": "UTC", "due_at": _AT}
_ASKED = {"n": 1, "job_id": str(_ID), "attempt": 1, "seq": 2, "told": "running", "most": 500}
_RESULTS: dict[str, Any] = {
    "results": json.dumps([{"job_id": str(_ID), "token": 1, "result": "{}", "metrics": "{}"}]),
    "events": json.dumps([{"token": 1, "seq": 1, "type": "delta", "data": "{}"}]),
}
_CLAIM: dict[str, Any] = {
    "kinds": KINDS,
    "short": ["echo"],
    "n": 8,
    "free": 4,
    "ageing_s": 600.0,
    "lease_s": 30.0,
    "worker_id": "w",
    "claim_id": _ID,
    "aged_from": "-infinity",
    "fresh_from": "-infinity",
    "priority_from": 2**31 - 1,
    "priority_to": -(2**31),
}
# For every statement the values our code sends, as to their types.
VALUES: dict[str, dict[str, Any]] = {
    "submit": {"batch": json.dumps([_JOB])},
    "submit_one": {"job": json.dumps(_JOB)},
    "complete": _RESULTS,
    "claim": _CLAIM,
    "turn": {**_RESULTS, **_CLAIM},
    "claimed": {"worker_id": "w", "claim_id": _ID},
    "claim_any": {"worker_id": "w", "claim_id": _ID, "lease_s": 60.0, "ageing_s": 600.0},
    "standing": {"job_id": _ID, "worker_id": "w", "token": 1},
    "stream_size": {"job_id": _ID, "token": 1},
    "remote_seen": {"id": "w", "kinds": KINDS},
    "remote_heard": {"id": "w"},
    "report_metrics": {"device_id": "w", "notes": "{}"},
    "report_benchmark": {
        "device_id": "w",
        "model_id": "m",
        "task_type": "generate",
        "tokens_in": 1,
        "tokens_out": 1,
        "latency_ms": 1,
        "tps": 1.0,
        "meta": "{}",
    },
    "benchmarks": {"model_id": "m", "device_id": "w", "n": 20},
    "devices": {"n": 1000},
    "device_registered": {"id": "w", "name": "", "platform": "", "arch": "", "host": "", "tags": "{}"},
    "device_offline": {"id": "w", "reason": "r"},
    "heartbeat": {"job_ids": [_ID], "tokens": [1], "lease_s": 30.0},
    "fail": {"job_id": _ID, "token": 1, "error": "e", "retryable": True, "delay_s": 1.5, "metrics": "{}"},
    "depth": {"most": 100_000},
    "waiting": {"kinds": KINDS},
    "named": {"keys": ["k", "l"]},
    "verdicts": {"job_ids": [_ID], "tokens": [1]},
    "release": {"job_ids": [_ID], "tokens": [1]},
    "cancel": {"job_id": _ID},
    "answer": {"job_id": _ID},
    "keyed": {"key": "k"},
    "add_file": {"id": _ID, "purpose": "batch", "filename": "f", "bytes": 1, "most": 2**31, "expires_s": 60.0},
    "put_piece": {"id": _ID, "place": 0, "data": b"x"},
    "close_file": {"id": _ID, "bytes": 1},
    "file": {"id": _ID},
    "files": {"before": _ID, "purpose": "batch", "n": 50},
    "files_ahead": {"before": _ID, "purpose": "batch", "n": 50},
    "pieces": {"id": _ID, "place": 0, "n": 4},
    "delete_file": {"id": _ID},
    "sweep_files": {},
    "add_batch": {
        "id": _ID,
        "endpoint": "/v1/embeddings",
        "input_file_id": _ID,
        "metadata": "{}",
        "key": "k",
        "window_s": 60.0,
        "output_file_id": _ID,
        "error_file_id": _ID,
    },
    "batch": {"id": _ID},
    "batches": {"before": _ID, "n": 20},
    "step_batch": {"id": _ID, "step": 2},
    "add_lines": {"id": _ID, "lines": json.dumps([{"line": 9, "at": 1, "bytes": 2, "custom_id": "c"}])},
    "start_batch": {"id": _ID, "total": 9},
    "fail_batch": {"id": _ID, "errors": "[]"},
    "cancel_batch": {"id": _ID},
    "expire_batch": {"id": _ID},
    "finalize_batch": {"id": _ID},
    "end_batch": {"id": _ID},
    "waiting_lines": {"id": _ID, "n": 100},
    "take_lines": {"id": _ID, "lines": json.dumps([{"line": 9, "job_id": str(_ID)}])},
    "running_lines": {"id": _ID, "n": 100},
    "note_lines": {"id": _ID, "lines": json.dumps([{"line": 9, "failed": True, "outcome": "{}"}])},
    "line_outcomes": {"id": _ID, "after": 0, "failed": True, "n": 20},
    "spoken_attempts": {"job_id": _ID, "attempt": 3},
    "delete_job": {"job_id": _ID},
    "reap": {"n": 100, "max_crashes": 3, "longest_lease_s": 3600.0, "gone": ["w9"], "missing": ["w8"]},
    "expire": {"n": 100},
    "prune": {"days": 7, "n": 1000},
    "status": {"job_id": _ID, "principal": "p"},
    "job": {"job_id": _ID, "principal": "p"},
    "attempts": {"job_id": _ID},
    "jobs": {"before": _ID, "status": "running", "kind": "echo", "source": "s", "principal": "p", "n": 50},
    "unserved": {},
    "append": {"job_id": _ID, "token": 1, "seqs": [1], "types": ["delta"], "data": ["{}"]},
    "append_many": {
        "job_ids": [_ID],
        "tokens": [1],
        "owners": [1],
        "seqs": [1],
        "types": ["delta"],
        "data": ["{}"],
    },
    "said": {"job_id": _ID},
    "follow_many": {"asked": json.dumps([_ASKED]), "bytes": 2**18},
    "line": {"kinds": ["echo"], "walk": 10_000, "n": 2000},
    "speeds": {"kinds": ["echo"], "lately_s": 600.0, "n": 500, "enough": 3},
    "add_event_days": {"ahead": 7},
    "drop_event_days": {"days": 7},
    "worker_seen": {
        "id": "w",
        "name": "",
        "host": "",
        "pid": 1,
        "version": "",
        "kinds": KINDS,
        "threads": 1,
        "running": 0,
        "life_key": None,
    },
    "silence": {"probe_s": 8, "probes": 3, "timeout_ms": 24000},
    "live": {},
    "absent": {},
    "worker_stopped": {"id": "w"},
    "workers": {},
    "forget_workers": {},
    "backend": {},
    "identity": {},
    "send_notice": {"channel": "llm_mcp_probe", "payload": ""},
    "database_clock": {},
    "life_held": {"life_key": 1},
    "server_settings": {"names": ["fsync"]},
    "rights": {},
    "connections": {},
    "standbys": {},
    "old_snapshots": {"older_s": 60.0, "behind": 100_000},
    "dead_rows": {},
    "notices": {},
    "stalled_listeners": {"older_s": 10.0},
    "event_days": {},
    "crashed": {},
    "longest_waiting": {"older_s": 600.0},
    "await_needs": {"job_ids": [_ID]},
    "advance": {"needed": [_ID], "job_ids": [_ID], "n": 5000},
    "blocked": {"after": UUID(int=0), "n": 200},
    "inputs": {"job_id": _ID},
    "statuses": {"job_ids": [_ID]},
    "outcomes": {"job_ids": [_ID]},
    "clock": {},
    "drained": {"first": _ID, "last": _ID},
    "put_schedules": {"batch": json.dumps([_SCHEDULE])},
    "due_schedules": {"n": 100},
    "fire_schedule": {**_TICK, "next_at": _AT, "job_id": _ID, "key": "schedule:s7"},
    "run_schedule": {"name": "s7", "job_id": _ID},
    "spoil_schedule": {**_TICK, "error": "e"},
    "pause_schedule": {"name": "s7"},
    "resume_schedule": {"name": "s7", "next_at": _AT},
    "remove_schedule": {"name": "s7"},
    "schedule": {"name": "s7"},
    "schedules": {},
    "retry": {"job_ids": [_ID], "reason": "failed", "kind": "echo", "until": _AT, "n": 1000},
    "requeue": {"job_ids": [_ID]},
    "prune_some": {"days": 7, "status": "error", "n": 1000},
    "prunable": {"days": 7, "status": "error"},
    "expire_results": {"n": 500},
    "put_limit": {
        "kind": "echo",
        "max_running": 2,
        "rate": 10,
        "per_s": 60.0,
        "burst": 1,
        "change_running": True,
        "change_rate": True,
    },
    "declare_limits": {"batch": json.dumps([{"kind": "echo", "max_running": 2, "rate": None, "burst": 1}])},
    "remove_limit": {"kind": "echo"},
    "limits": {},
    "pause_queue": {"name": "default"},
    "resume_queue": {"name": "default"},
    "queues": {},
}
# Small tables, and those a full count of which is the question.
MAY_BE_READ_WHOLE = {
    "devices",  # as many as there are machines
    "files",  # a few thousand at most, and only to know their size together
    "workers",
    "limits",
    "paused_queues",
    "schema_migrations",
    "pg_database",
    "pg_authid",
    "pg_inherits",
}


@pytest.fixture(scope="module")
def full(postgres: EmbeddedPostgres, template: str) -> Iterator[Connection]:
    """A database with a long history, a long queue, some work in progress and its streams."""
    with (
        shared_database(postgres, template) as dsn,
        psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as conn,
    ):
        add_history(conn, ROWS)
        conn.execute(
            "UPDATE llm.jobs SET deadline_at = now() + interval '1 h' WHERE status = 'queued' AND priority = 1"
        )
        conn.execute(
            "INSERT INTO llm.job_events (job_id, attempt, seq, begun_at, type, data)"
            " SELECT id, 1, n, begun_at, 'delta', '{}' FROM llm.jobs, generate_series(1, 50) n WHERE status = 'running'"
        )
        conn.execute("INSERT INTO llm.devices (id) SELECT 'w' || n FROM generate_series(1, 2000) n UNION SELECT 'w'")
        conn.execute("INSERT INTO llm.device_metrics (device_id) SELECT id FROM llm.devices, generate_series(1, 10)")
        conn.execute(
            "INSERT INTO llm.benchmarks (device_id, model_id)"
            " SELECT id, 'm' || n FROM llm.devices, generate_series(1, 10) n"
        )
        conn.execute(
            "UPDATE llm.jobs SET principal = 'p' WHERE id IN (SELECT id FROM llm.jobs WHERE status = 'done' LIMIT 100)"
        )
        conn.execute(
            "INSERT INTO llm.schedules (name, kind, cron, next_at)"
            " SELECT 's' || n, 'echo', '0 7 * * *', now() + (n - 5) * interval '1 min' FROM generate_series(1, 5000) n"
        )
        conn.execute(
            "INSERT INTO llm.files (id, purpose, filename, bytes, expires_at)"
            " SELECT llm.new_id(), 'batch', 'f', 1, now() + n * interval '1 min' FROM generate_series(1, 5000) n"
        )
        conn.execute("INSERT INTO llm.file_pieces SELECT id, 0, 'x' FROM llm.files")
        conn.execute(
            "INSERT INTO llm.batches (id, endpoint, input_file_id, output_file_id, error_file_id, expires_at, status,"
            " finished_at) SELECT id, 'e', id, id, id, now(), 'completed', now() FROM llm.files"
        )
        conn.execute(
            "INSERT INTO llm.batches (id, endpoint, input_file_id, output_file_id, error_file_id, expires_at)"
            " VALUES (%s, 'e', %s, %s, %s, now())",
            [_ID] * 4,
        )
        conn.execute(
            "INSERT INTO llm.batch_lines (batch_id, line, at, bytes, custom_id)"
            " SELECT id, n, 1, 1, 'c' FROM llm.batches, generate_series(1, 10) n"
        )
        conn.execute(
            "WITH edges AS (INSERT INTO llm.job_needs (job_id, place, needs_id, may_fail)"
            " SELECT id, 0, lag(id) OVER (ORDER BY id), false FROM llm.jobs WHERE status = 'done'"
            " ORDER BY id OFFSET 1 RETURNING job_id) INSERT INTO llm.blocked_jobs SELECT job_id FROM edges"
        )
        conn.execute(
            "VACUUM ANALYZE llm.jobs, llm.job_attempts, llm.job_events, llm.schedules, llm.job_needs, llm.blocked_jobs,"
            " llm.files, llm.file_pieces, llm.batches, llm.batch_lines, llm.benchmarks"
        )
        yield conn


@pytest.fixture
def conn(full: Connection) -> Iterator[Connection]:
    """The full database in a transaction that leaves no trace."""
    with full.transaction(force_rollback=True):
        yield full


def plan(conn: Connection, name: str, values: dict[str, Any], *, generic: bool = True) -> list[dict[str, Any]]:
    """Run a statement and return the nodes of its plan, outermost first.

    `generic`: as the server plans a prepared statement for whatever values may come.
    """
    if not generic:
        found = conn.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statements()[name], values, prepare=False)
        return nodes(found.fetchone())
    conn.execute("DEALLOCATE ALL")
    conn.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    conn.execute(prepared(name), prepare=False)
    return nodes(conn.execute(explained(name, values), prepare=False).fetchone())


def prepared(name: str) -> sql.Composed:
    """Return what has a statement prepared under its own name."""
    return sql.SQL("PREPARE {} AS ").format(sql.Identifier(name)) + sql.SQL(numbered(statements()[name])[0].decode())


def called(name: str, values: dict[str, Any]) -> sql.Composed:
    """Return the call of a statement that is prepared."""
    parameters = numbered(statements()[name])[1]
    assert values.keys() == set(parameters)
    given = sql.SQL(", ").join(sql.Literal(values[parameter]) for parameter in parameters)
    return sql.SQL("EXECUTE {} ({})" if values else "EXECUTE {}").format(sql.Identifier(name), given)


def explained(name: str, values: dict[str, Any]) -> sql.Composed:
    """Return the same, told of instead of answered."""
    return sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ") + called(name, values)


def nodes(row: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    todo = [row["QUERY PLAN"][0]["Plan"]]
    while todo:
        node = todo.pop()
        found.append(node)
        todo += node.get("Plans", [])
    return found


def read_whole(found: list[dict[str, Any]]) -> set[str]:
    return {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"} - MAY_BE_READ_WHOLE


def pages_touched(found: list[dict[str, Any]]) -> int:
    return int(found[0]["Shared Hit Blocks"] + found[0]["Shared Read Blocks"])


def indexes(found: list[dict[str, Any]]) -> set[str]:
    return {node["Index Name"] for node in found if "Index Name" in node}


def test_there_are_values_for_every_statement() -> None:
    assert set(VALUES) == set(statements())


@pytest.mark.parametrize("name", sorted(VALUES))
def test_every_statement_can_be_prepared_as_it_is_sent(conn: Connection, name: str) -> None:
    conn.execute(statements()[name], VALUES[name], prepare=True)
    prepared = conn.execute("SELECT statement FROM pg_prepared_statements", prepare=False).fetchall()
    assert any(row["statement"].startswith(statements()[name].split("%(")[0]) for row in prepared)


@pytest.mark.parametrize(
    "name",
    sorted(
        set(VALUES)
        - {"follow_many", "said", "stream_size", "jobs", "unserved", "submit", "schedules", "queues", "spoken_attempts"}
    ),
)
def test_no_statement_reads_a_table_from_end_to_end(conn: Connection, name: str) -> None:
    assert read_whole(plan(conn, name, VALUES[name])) == set()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("claim", {"jobs_by_age", "jobs_by_priority", "jobs_delayed", "jobs_pkey", "limits_pkey"}),
        ("turn", {"jobs_by_age", "jobs_by_priority", "jobs_delayed", "jobs_pkey", "jobs_running", "limits_pkey"}),
        ("complete", {"jobs_pkey", "jobs_running"}),
        ("claimed", {"jobs_running"}),
        ("claim_any", {"jobs_by_age", "jobs_by_priority", "jobs_delayed", "jobs_pkey", "limits_pkey"}),
        ("standing", {"jobs_pkey", "job_attempts_pkey"}),
        ("reap", {"jobs_running", "jobs_pkey", "workers_pkey"}),
        ("expire", {"jobs_by_deadline", "jobs_pkey"}),
        ("prune", {"jobs_finished", "jobs_pkey", "job_attempts_pkey", "job_needs_followers", "job_needs_pkey"}),
        ("append", {"jobs_pkey"}),
        ("requeue", {"jobs_pkey", "jobs_running"}),
        ("prune_some", {"jobs_finished", "jobs_pkey", "job_attempts_pkey", "job_needs_followers", "job_needs_pkey"}),
        ("advance", {"job_needs_followers", "job_needs_pkey", "jobs_pkey", "blocked_jobs_pkey"}),
        ("blocked", {"blocked_jobs_pkey", "jobs_pkey"}),
        ("inputs", {"job_needs_pkey", "jobs_pkey"}),
        ("expire_results", {"jobs_results_until", "jobs_pkey"}),
        ("depth", {"jobs_by_age"}),
        ("named", {"jobs_by_key"}),
        ("job", {"jobs_pkey"}),
        ("due_schedules", {"schedules_due"}),
        ("run_schedule", {"schedules_pkey"}),
        ("schedule", {"schedules_pkey"}),
    ],
)
def test_each_finds_its_rows_by_the_index_made_for_it(conn: Connection, name: str, expected: set[str]) -> None:
    assert indexes(plan(conn, name, VALUES[name])) == expected


def claim_costs(conn: Connection, kinds: list[str]) -> tuple[int, int, int]:
    """Return the rows a turn for eight took, the rows it looked at in vain, and the pages it touched."""
    found = plan(conn, "turn", {**VALUES["turn"], "kinds": kinds, "free": 8})
    vain = sum(node.get("Rows Removed by Filter", 0) for node in found)
    return found[0]["Actual Rows"], vain, pages_touched(found)


def test_a_claim_touches_what_it_takes(conn: Connection) -> None:
    taken, vain, pages = claim_costs(conn, KINDS)
    assert taken == 8
    assert vain <= 16
    assert pages < 300


@pytest.mark.parametrize("before_it", [None, "now()", "now() - interval '1 h'"])
def test_a_long_queue_that_cannot_be_claimed_is_stepped_over_in_the_index(
    conn: Connection, before_it: str | None
) -> None:
    """Before the one job there are all those of another kind and, queued at `before_it`, as many that are delayed."""
    if before_it is not None:
        conn.execute(
            "INSERT INTO llm.jobs (id, kind, priority, queued_at, run_at)"
            f" SELECT llm.new_id(), 'lonely', 9, {before_it}, now() + interval '1 h' FROM generate_series(1, %s)",
            (ROWS,),
        )
    conn.execute("SELECT llm.add_job(llm.new_id(), 'lonely', '{}', -1, '', 3, NULL, 0, 'q', NULL)")
    taken, vain, pages = claim_costs(conn, ["lonely"])
    assert taken == 1
    assert vain <= 16
    assert pages < 3000


def claim_any_costs(conn: Connection) -> tuple[int, int]:
    """Return the rows a claim of whatever kind looked at in vain, and the pages it touched; it takes one."""
    found = plan(conn, "claim_any", VALUES["claim_any"])
    (update,) = (node for node in found if node["Node Type"] == "ModifyTable" and node["Relation Name"] == "jobs")
    assert update["Actual Rows"] == 1
    assert read_whole(found) == set()
    vain = sum(node.get("Rows Removed by Filter", 0) for node in found)
    return vain, pages_touched(found)


def test_a_claim_of_every_kind_touches_what_it_takes(conn: Connection) -> None:
    vain, pages = claim_any_costs(conn)
    assert vain <= 16
    assert pages < 300


@pytest.mark.parametrize("aged", [False, True])
def test_a_claim_of_every_kind_steps_over_kinds_at_their_limit_in_the_index(conn: Connection, aged: bool) -> None:
    """Before the one job there are fifty thousand of a kind of which none may run now."""
    conn.execute("INSERT INTO llm.limits (kind, max_running) VALUES ('echo', 0), ('none.such', 0)")
    conn.execute("SELECT llm.add_job(llm.new_id(), 'lonely', '{}', -1, '', 3, NULL, 0, 'q', NULL)")
    if aged:
        conn.execute("UPDATE llm.jobs SET queued_at = queued_at - interval '1 h' WHERE status = 'queued'")
    vain, pages = claim_any_costs(conn)
    assert vain <= 16
    assert pages < 3000


def test_a_claim_among_the_aged_walks_them_by_age_and_sorts_only_what_it_takes(conn: Connection) -> None:
    """Everybody waits for longer than the ageing bound: fifty thousand are in the first order, by age."""
    conn.execute("UPDATE llm.jobs SET queued_at = queued_at - interval '1 h' WHERE status = 'queued'")
    values = {**VALUES["turn"], "free": 8, "results": "[]"}
    found = plan(conn, "turn", values)
    assert found[0]["Actual Rows"] == 8
    assert all(node["Actual Rows"] <= 16 for node in found if node["Node Type"] in ("Sort", "Incremental Sort"))
    walked = [node for node in found if node.get("Index Name") == "jobs_by_age" and node["Actual Loops"]]
    assert [(node["Node Type"], node["Actual Rows"]) for node in walked] == [("Index Scan", 8)]
    assert read_whole(found) == set()


def test_a_claim_goes_on_from_its_place_in_the_index(conn: Connection) -> None:
    """What lies before it is not walked over, aged or fresh."""
    (row,) = conn.execute(
        "SELECT queued_at::text FROM llm.jobs WHERE status = 'queued' AND priority = 2 ORDER BY queued_at OFFSET 9000"
        " LIMIT 1"
    ).fetchall()
    fresh = {"aged_from": "infinity", "fresh_from": row["queued_at"], "priority_from": 2, "priority_to": 2}
    values = {**VALUES["turn"], "free": 8, "results": "[]"}
    assert pages_of(plan(conn, "turn", {**values, **fresh})) < 300
    conn.execute("UPDATE llm.jobs SET queued_at = queued_at - interval '1 h' WHERE status = 'queued'")
    (row,) = conn.execute(
        "SELECT queued_at::text FROM llm.jobs WHERE status = 'queued' ORDER BY queued_at OFFSET 40000 LIMIT 1"
    ).fetchall()
    aged = {"aged_from": row["queued_at"], "priority_from": -(2**31)}
    assert pages_of(plan(conn, "turn", {**values, **aged})) < 300


def pages_of(found: list[dict[str, Any]]) -> int:
    assert found[0]["Actual Rows"] == 8
    return pages_touched(found)


def test_a_stream_is_read_from_one_partition(conn: Connection) -> None:
    row = conn.execute("SELECT id FROM llm.jobs WHERE status = 'running' LIMIT 1").fetchone()
    assert row is not None
    asked = json.dumps([{**_ASKED, "job_id": str(row["id"])}])
    found = plan(conn, "follow_many", {"bytes": 2**18, "asked": asked})
    visited = [
        node for node in found if node.get("Relation Name", "").startswith("job_events") and node["Actual Loops"]
    ]
    assert [node["Node Type"] for node in visited] == ["Index Scan"]
    assert visited[0]["Actual Rows"] == 48


def test_a_stream_is_measured_in_one_partition(conn: Connection) -> None:
    row = conn.execute("SELECT id, lease_token FROM llm.jobs WHERE status = 'running' LIMIT 1").fetchone()
    assert row is not None
    found = plan(conn, "stream_size", {"job_id": row["id"], "token": row["lease_token"]})
    visited = [
        node for node in found if node.get("Relation Name", "").startswith("job_events") and node["Actual Loops"]
    ]
    assert [node["Actual Rows"] for node in visited] == [50]
    assert visited[0]["Node Type"] != "Seq Scan"


def test_what_was_said_is_read_from_one_partition(conn: Connection) -> None:
    row = conn.execute("SELECT id FROM llm.jobs WHERE status = 'running' LIMIT 1").fetchone()
    assert row is not None
    found = plan(conn, "said", {"job_id": row["id"]})
    visited = [
        node for node in found if node.get("Relation Name", "").startswith("job_events") and node["Actual Loops"]
    ]
    assert [node["Actual Rows"] for node in visited] == [50]
    assert visited[0]["Node Type"] != "Seq Scan"


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ({}, "benchmarks_pkey"),
        ({"model_id": "m3"}, None),
        ({"device_id": "w3"}, "benchmarks_on"),
        ({"device_id": "w3", "model_id": "m3"}, "benchmarks_on"),
        ({"model_id": "none such"}, "benchmarks_of"),
    ],
)
def test_measurements_are_found_by_an_index(conn: Connection, asked: dict[str, Any], index: str | None) -> None:
    found = plan(conn, "benchmarks", {"model_id": None, "device_id": None, "n": 20, **asked}, generic=False)
    assert read_whole(found) == set()
    assert index is None or indexes(found) == {index}


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ({}, "jobs_pkey"),
        ({"before": uuid4()}, "jobs_pkey"),
        ({"status": "running"}, "jobs_running"),
        ({"status": "error"}, "jobs_errors"),
        ({"status": "done"}, "jobs_pkey"),
        ({"status": "queued"}, "jobs_pkey"),
        ({"kind": "echo"}, "jobs_pkey"),
        ({"principal": "p"}, "jobs_of_principal"),
        ({"principal": "p", "before": uuid4(), "status": "done", "kind": "echo"}, "jobs_of_principal"),
        ({"principal": "nobody"}, "jobs_of_principal"),
    ],
)
def test_a_page_of_jobs_is_found_by_an_index(conn: Connection, asked: dict[str, Any], index: str) -> None:
    values = {"before": None, "status": None, "kind": None, "source": None, "principal": None, "n": 50, **asked}
    found = plan(conn, "jobs", values, generic=False)
    assert read_whole(found) == set()
    assert indexes(found) == {index}


def test_nothing_here_left_a_trace(full: Connection) -> None:
    row = full.execute("SELECT count(*) AS n FROM llm.jobs").fetchone()
    assert row == {"n": 2 * ROWS}
    with pytest.raises(psycopg.errors.UndefinedTable):
        full.execute("SELECT FROM llm.no_such_table")
