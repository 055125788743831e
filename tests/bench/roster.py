"""Who takes part, with what, and how many jobs each is given: enough for some seconds, no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DRAIN, SUBMIT, BATCH, PICKUP = "drain", "submit", "batch", "pickup"
_ALONE = frozenset({DRAIN, SUBMIT, PICKUP})
_BATCHES = _ALONE | {BATCH}


@dataclass(frozen=True, slots=True)
class Peer:
    """One contestant."""

    name: str
    """What `--only` calls it."""
    label: str
    driver: str
    """Its script in `peers/`, or a module of ours."""
    jobs: int
    """Jobs of one drain."""
    submits: int
    """Jobs of one round of single submits; batches get ten times as many."""
    does: frozenset[str] = _ALONE
    requirements: str | None = None
    """File of its environment; None: our own."""
    shown: tuple[str, ...] = ()
    """Packages whose versions are told."""
    options: Mapping[str, Any] = field(default_factory=dict)
    store: str = "postgres"
    """postgres, redis, or memory."""
    processes: tuple[int, ...] = (1, 2)
    """How many worker processes drain."""
    fill: int = 1
    """Batch size that fills its queue before a drain."""
    pause_s: float = 0.12
    """Longest pause before a submit to an idle worker, s: longer than a poll, for those that poll."""
    python: tuple[int, int] = (3, 11)
    """The oldest Python it runs on."""


OURS = Peer(
    "ours", "llm-mcp", "tests.bench.ours", 40_000, 3_000, _BATCHES, shown=("llm-mcp", "dramatiq", "psycopg"), fill=500
)

PEERS = (
    OURS,
    Peer(
        "bare",
        "bare psycopg loop, batches of 50",
        "tests.bench.bare",
        60_000,
        3_000,
        _BATCHES - {PICKUP},
        shown=("psycopg",),
        fill=500,
    ),
    Peer(
        "stub",
        "Dramatiq StubBroker (in memory)",
        "tests.bench.stub",
        40_000,
        20_000,
        frozenset({DRAIN, SUBMIT}),
        shown=("dramatiq",),
        store="memory",
        processes=(1,),
    ),
    Peer(
        "pgqueuer",
        "PgQueuer, asyncpg, batch 10 (default)",
        "drive_pgqueuer.py",
        20_000,
        2_000,
        _BATCHES,
        "pgqueuer.txt",
        ("pgqueuer", "asyncpg"),
        fill=500,
    ),
    Peer(
        "pgqueuer-100",
        "PgQueuer, asyncpg, batch 100",
        "drive_pgqueuer.py",
        40_000,
        0,
        frozenset({DRAIN}),
        "pgqueuer.txt",
        ("pgqueuer", "asyncpg"),
        {"batch": 100},
        fill=500,
    ),
    Peer(
        "pgqueuer-psycopg",
        "PgQueuer, psycopg",
        "drive_pgqueuer.py",
        0,
        2_000,
        frozenset({SUBMIT, BATCH}),
        "pgqueuer.txt",
        ("pgqueuer", "psycopg"),
        {"driver": "psycopg"},
    ),
    Peer(
        "oban",
        "Oban, limit 8",
        "drive_oban.py",
        6_000,
        1_500,
        _BATCHES,
        "oban.txt",
        ("oban", "psycopg"),
        fill=500,
        python=(3, 12),
    ),
    Peer(
        "oban-64",
        "Oban, limit 64",
        "drive_oban.py",
        10_000,
        0,
        frozenset({DRAIN}),
        "oban.txt",
        ("oban", "psycopg"),
        {"limit": 64},
        fill=500,
        python=(3, 12),
    ),
    Peer(
        "redis",
        "Dramatiq on Redis (not durable)",
        "drive_dramatiq_redis.py",
        8_000,
        4_000,
        _ALONE,
        "dramatiq_redis.txt",
        ("dramatiq", "redis"),
        store="redis",
        pause_s=1.1,
    ),
    Peer(
        "dramatiq-postgres",
        "dramatiq-postgres",
        "drive_dramatiq_postgres.py",
        4_000,
        1_000,
        _ALONE,
        "dramatiq_postgres.txt",
        ("dramatiq-postgres", "dramatiq", "psycopg"),
    ),
    Peer("huey", "huey (Postgres)", "drive_huey.py", 2_500, 1_500, _ALONE, "huey.txt", ("huey", "psycopg")),
    Peer(
        "procrastinate",
        "procrastinate",
        "drive_procrastinate.py",
        1_500,
        1_000,
        _BATCHES,
        "procrastinate.txt",
        ("procrastinate", "psycopg"),
        fill=500,
    ),
    Peer(
        "celery",
        "Celery (SQLAlchemy transport)",
        "drive_celery.py",
        1_000,
        600,
        _ALONE,
        "celery.txt",
        ("celery", "kombu", "sqlalchemy"),
        pause_s=1.1,
    ),
    Peer(
        "dramatiq-pg",
        "dramatiq-pg",
        "drive_dramatiq_pg.py",
        200,
        1_000,
        _ALONE,
        "dramatiq_pg.txt",
        ("dramatiq-pg", "dramatiq", "psycopg2-binary"),
    ),
)
