"""Claims of some kinds and of every kind mind what a turn of our own workers minds, and so does what follows a job."""

from __future__ import annotations

from uuid import uuid4

from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs
from llm_mcp.limits import Limits
from llm_mcp.runtime import Runtime
from llm_mcp.store.pool import Connection
from tests.integration.web.test_submit import made
from tests.integration.web.workers.calls import Foreign


def test_every_kind_and_some_kinds(one: Foreign, runtime: Runtime, sql: Connection) -> None:
    sql.execute("DELETE FROM llm.jobs")
    a, b = f"a-{uuid4().hex}", f"b-{uuid4().hex}"
    low, high = made(one.client, {"kind": a}), made(one.client, {"kind": b, "priority": 5})
    assert one.claim(f"c-{uuid4().hex}") == {}
    assert one.claim(a, a, "")["job"]["id"] == low["id"]
    made(one.client, {"kind": a})
    assert one.claim()["job"]["id"] == high["id"]
    assert one.claim(kinds=None)["job"]["kind"] == a
    assert one.claim() == {}


def test_a_claim_of_every_kind_minds_what_a_turn_minds(one: Foreign, runtime: Runtime, sql: Connection) -> None:
    """Limits, paused queues, delays, deadlines and jobs that wait for others; then age before priority."""
    sql.execute("DELETE FROM llm.jobs")
    limited, full, free = (f"{name}-{uuid4().hex}" for name in ("m", "f", "a"))
    limits = Limits(runtime)
    limits.set(limited, max_running=1)
    limits.set(full, max_running=0)
    try:
        first, _second = (made(one.client, {"kind": limited, "priority": 9}) for _ in range(2))
        made(one.client, {"kind": full, "priority": 9})
        made(one.client, {"kind": free, "delay_s": 60, "priority": 9})
        made(one.client, {"kind": free, "priority": 9})
        sql.execute("UPDATE llm.jobs SET blocked = true WHERE id IN (SELECT id FROM llm.jobs ORDER BY id DESC LIMIT 1)")
        made(one.client, {"kind": free, "priority": 9})
        sql.execute(
            "UPDATE llm.jobs SET queue = 'night' WHERE id IN (SELECT id FROM llm.jobs ORDER BY id DESC LIMIT 1)"
        )
        sql.execute("INSERT INTO llm.paused_queues (name) VALUES ('night')")
        young = made(one.client, {"kind": free, "priority": 8})
        old = made(one.client, {"kind": free, "priority": -8})
        sql.execute("UPDATE llm.jobs SET queued_at = now() - interval '1 h' WHERE id = %s", (old["id"],))
        claimed = [one.claim() for _ in range(4)]
        assert [found.get("job", {}).get("id") for found in claimed] == [old["id"], first["id"], young["id"], None]
        assert one.say("complete", claimed[1])[0] == 200
        assert one.claim()["job"]["kind"] == limited
    finally:
        sql.execute("DELETE FROM llm.limits")
        sql.execute("DELETE FROM llm.paused_queues")


def test_a_rate_is_spent_by_claims_of_every_kind(one: Foreign, runtime: Runtime, sql: Connection, kind: str) -> None:
    sql.execute("DELETE FROM llm.jobs")
    Limits(runtime).set(kind, rate="1/h")
    try:
        made(one.client, {"kind": kind})
        made(one.client, {"kind": kind})
        assert one.claim()["job"]["kind"] == kind
        assert one.claim() == {}
    finally:
        sql.execute("DELETE FROM llm.limits")


def test_followers_go_on_when_a_foreign_worker_is_done(one: Foreign, jobs: Jobs, kind: str) -> None:
    first = jobs.submit(Submission(kind=kind))
    after = jobs.submit(Submission(kind=kind, after=(first,)))
    claimed = one.claim(kind)
    assert claimed["job"]["id"] == str(first)
    assert one.claim(kind) == {}
    one.say("complete", claimed)
    assert one.claim(kind)["job"]["id"] == str(after)


def test_followers_stop_when_a_foreign_worker_fails(one: Foreign, jobs: Jobs, kind: str) -> None:
    first = jobs.submit(Submission(kind=kind, max_attempts=1))
    after = jobs.submit(Submission(kind=kind, after=(first,)))
    one.say("fail", one.claim(kind), error="no")
    assert jobs.get(after).reason == "dependency_failed"
