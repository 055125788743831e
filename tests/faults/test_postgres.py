"""What Postgres may do to us: end every session, die, keep an old snapshot."""

from __future__ import annotations

import psycopg
import pytest

from tests.faults.clients import wanted
from tests.faults.ground import Ground, lost_leases
from tests.waiting import until

_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""


@pytest.mark.parametrize("seconds", [4.5, pytest.param(60.0, marks=pytest.mark.soak)])
def test_every_session_ended_every_two_seconds(ground: Ground, seconds: float) -> None:
    """Sessions are opened again at once: no lease is lost, and no client is told that Postgres is away."""
    ground.workers("a", "b")
    clients = [ground.client(name, lambda key: wanted(key, s=0.4), every_s=0.2) for name in ("one", "two")]
    ground.spend(seconds, lambda: ground.rows(_TERMINATE), every_s=2.0)
    assert lost_leases(ground.verdict()) == 0
    assert sum(client.refused for client in clients) == 0
    assert max(wait_s for client in clients for wait_s in client.waits_s) <= 2.0


@pytest.mark.parametrize(
    ("kills", "away_s"), [(3, 1.5), pytest.param(10, 60.0, marks=[pytest.mark.soak, pytest.mark.timeout(400)])]
)
def test_postgres_killed_again_and_again_under_load(ground: Ground, kills: int, away_s: float) -> None:
    """Clients are told 503 and when to come back; nothing is kept in memory for it meanwhile."""
    web = ground.member("web", "web", http_addr="127.0.0.1:0")
    web.wait_ready()
    (worker,) = ground.workers("worker")
    clients = [ground.client(f"web{n}", lambda key: wanted(key, s=0.2), url=web.line, every_s=0.1) for n in range(3)]
    clients.append(ground.client("library", lambda key: wanted(key, s=0.2), every_s=0.2))
    before: list[float] = []
    for kill in range(kills):
        ground.spend(0.5)
        if kill == 1:  # every path was gone by then
            before = [web.rss_mib(), worker.rss_mib()]
        if kill == 2:
            ground.stop_postgres()
            ground.spend(away_s)
        ground.stage.restart()
    ground.spend(1.0)
    after = [web.rss_mib(), worker.rss_mib()]
    ground.verdict()
    assert sum(client.refused for client in clients) > 0
    assert [round(now - then, 1) for now, then in zip(after, before, strict=True) if now - then > 10.0] == []
    assert worker.alive


def test_an_old_snapshot_stops_nothing(ground: Ground) -> None:
    """Somebody reads for long: what is finished meanwhile cannot be cleared away, and is stepped over."""
    ground.workers("worker", worker_threads=8)
    with psycopg.connect(ground.stage.dsn) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT count(*) FROM llm.jobs")
        for batch in range(6):
            ground.submit([wanted(f"{batch}-{n}", "faults.nothing") for n in range(500)])
            until(lambda batch=batch: ground.count("status = 'done'") == 500 * (batch + 1), timeout_s=60)  # type: ignore[misc] # a lambda with defaults
    ground.verdict()
