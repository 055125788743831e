"""A pooler that hands one session to many stands before Postgres; there is a straight way for what needs a session."""

from __future__ import annotations

from typing import Any

from tests.faults.clients import wanted
from tests.faults.ground import LEASE_S, THREADS, Ground, lost_leases
from tests.integration.bouncer import Bouncer, needs_pgbouncer


@needs_pgbouncer
def test_all_of_it_works_behind_a_pooler(ground: Ground) -> None:
    """Few sessions for many; no statement is looked for where it was not prepared, and a dead worker is found."""
    direct = ground.stage.dsn
    with Bouncer(direct, size=3) as pooler:
        way: dict[str, Any] = {"db_dsn": pooler.dsn, "db_direct_dsn": direct}
        web = ground.member("web", "web", http_addr="127.0.0.1:0", **way)
        workers = ground.workers("a", "b", **way, lease_s=15.0)
        web.wait_ready()
        ground.client("web", lambda key: wanted(key, s=0.2), url=web.line, every_s=0.05)
        ground.client("pooled", lambda key: wanted(key, s=0.2), dsn=pooler.dsn, every_s=0.05)
        ground.ask_for(THREADS, name="long", s=LEASE_S + 1.0)
        ground.spend(2.5)
        workers[0].kill()
        ground.spend(1.5)
        evidence = ground.verdict()
        for said in (pooler.said(), web.said(), *(worker.said() for worker in workers)):
            assert "prepared statement" not in said
    assert len(evidence.jobs) > 20
    assert 0 < lost_leases(evidence) <= THREADS
    (row,) = ground.rows(
        "SELECT max(finished_at - started_at) AS longest FROM llm.job_attempts WHERE reason = 'lease_expired'"
    )
    assert row["longest"].total_seconds() < 10.0
