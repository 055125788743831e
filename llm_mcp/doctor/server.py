"""The database server: what holds back its VACUUM, what it may lose, how much room it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

from llm_mcp.runtime import Runtime
from llm_mcp.store import health
from llm_mcp.store.health import Snapshot
from llm_mcp.store.pool import Database

from .finding import Finding, each, ok, span, warn

OLD_S = 60.0
"""A snapshot, or an open transaction, is old after this, s."""
STALLED_S = 10.0
"""A listener that takes nothing for so long does not read, s."""
_BEHIND = 100_000  # transactions; what a busy standby may lag
# Autovacuum of our tables comes long before either (at 500 rows and 1 %; at Postgres's own 20 % for the smaller ones).
_DEAD_ROWS, _DEAD_SHARE = 10_000, 0.25
_NOTICES_USED = 0.01  # of 8 GiB: nobody who reads leaves as much
_CLOCK_S = 5.0
_FULL = 0.8
_OF_A_PROCESS = 5  # connections beside its pool: leases, life, listening, notices, lead
_VANISHED_S = 60.0
_DURABILITY = ("fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names", "wal_writer_delay")
_KEEPALIVE = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
_IDLE = "idle_in_transaction_session_timeout"
_BETTER = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "'8s'",
    _IDLE: "'60s'",
}
_ROOM = ("max_connections", "superuser_reserved_connections", "reserved_connections")


def examine(runtime: Runtime) -> Iterator[Finding]:
    """Yield how the server stands."""
    db = runtime.db
    yield from each(
        {
            "snapshots": partial(snapshots, db),
            "dead rows": partial(dead_rows, db),
            "listeners": partial(listeners, db),
            "connections": partial(connections, runtime),
            "durability": partial(durability, runtime),
            "vanished clients": partial(vanished, runtime),
            "clock": partial(clock, db),
        }
    )


def snapshots(db: Database, *, older_s: float = OLD_S) -> Iterator[Finding]:
    """Yield what has kept VACUUM from removing dead rows for longer than `older_s` seconds."""
    found = health.old_snapshots(db, older_s=older_s, behind=_BEHIND)
    for one in found:
        yield warn("snapshots", *_snapshot(one))
    if not found and health.sees_all(db):
        yield ok("snapshots", f"none is older than {span(older_s)}")
    elif not found:
        yield ok("snapshots", f"none of this role's is older than {span(older_s)}; GRANT pg_monitor shows others'")


def _snapshot(one: Snapshot) -> tuple[str, str]:
    who = ", ".join(filter(None, (one.application, one.role, one.state)))
    age = span(one.age_s or 0)
    match one.what:
        case "backend":
            holds = "and keeps VACUUM from what died since: claims get slower" if one.behind is not None else ""
            return (
                f"backend {one.name} ({who}) has had a transaction open for {age} {holds}".rstrip(),
                f"let it end, or: SELECT pg_terminate_backend({one.name})",
            )
        case "prepared transaction":
            return (
                f"prepared transaction {one.name!r} ({who}) is {age} old and keeps VACUUM from what died since",
                "ROLLBACK PREPARED it, or COMMIT PREPARED",
            )
        case "standby":
            return (
                f"standby at backend {one.name} ({who}) keeps VACUUM from what died in {one.behind} transactions",
                "end the long query there, or set hot_standby_feedback = off",
            )
    return (
        f"replication slot {one.name!r} ({who}) keeps VACUUM from what died in {one.behind} transactions",
        "let its reader catch up, or: SELECT pg_drop_replication_slot(…)",
    )


def dead_rows(db: Database) -> Iterator[Finding]:
    """Yield the tables with more dead rows than autovacuum should leave."""
    found = health.dead_rows(db)
    bad = [table for table in found if table.dead > _DEAD_ROWS + _DEAD_SHARE * table.live]
    for table in bad:
        since = "never" if table.vacuumed_s is None else f"{span(table.vacuumed_s)} ago"
        yield warn(
            "dead rows",
            f"{table.name}: {table.dead} dead beside {table.live} live, vacuumed {since}",
            f'see "snapshots"; that autovacuum is on; or: VACUUM {db.schema}.{table.name}',
        )
    if not bad:
        yield ok("dead rows", f"{sum(table.dead for table in found)} beside {sum(table.live for table in found)} live")


def listeners(db: Database, *, older_s: float = STALLED_S) -> Iterator[Finding]:
    """Yield the listeners that do not read, and how full the queue of notices is."""
    stalled, used = health.stalled_listeners(db, older_s=older_s), health.notices_used(db)
    for one in stalled:
        yield warn(
            "listeners",
            f"backend {one.pid} ({', '.join(filter(None, (one.application, one.address)))}) has not read its notices"
            f" for {span(one.age_s)}, and keeps VACUUM from what died since",
            f"SELECT pg_terminate_backend({one.pid}); set tcp_user_timeout, and the server does so itself",
        )
    if used >= _NOTICES_USED:
        yield warn(
            "listeners",
            f"the queue of notices is {used:.0%} full: somebody listens and does not read",
            "end the oldest idle session that listens; when it is full, commits with a notice fail",
        )
    elif not stalled:
        yield ok("listeners", "all read their notices")


def connections(runtime: Runtime) -> Iterator[Finding]:
    """Yield how many connections there are, and whether they are enough for as many processes as work now."""
    db, pool = runtime.db, runtime.settings.db_pool_size
    asked, at = health.connections(db), health.settings_at(runtime.dsn, _ROOM)
    limits = [int(at["max_connections"]) - sum(int(at.get(name, 0)) for name in _ROOM[1:])]
    limits += [limit for limit in (asked["role_limit"], asked["database_limit"]) if limit >= 0]
    limit, used = min(limits), asked["used"]
    each_may = pool + _OF_A_PROCESS
    told = f"{used} of {limit} used; a process of ours may open {each_may}"
    if used >= _FULL * limit:
        yield warn("connections", told, "raise max_connections, or put fewer processes on this server")
    elif limit < 2 * each_may and not db.pooled:
        yield warn(
            "connections",
            f"{told}: too few for a worker and the web door",
            f"raise max_connections, or lower LLM_MCP_DB_POOL_SIZE ({pool})",
        )
    else:
        yield ok("connections", told)


def durability(runtime: Runtime) -> Iterator[Finding]:
    """Yield what this server may lose of what it said is done."""
    at = health.settings_at(runtime.dsn, _DURABILITY)
    well = True
    for name, lost in (
        ("fsync", "when the machine crashes the whole database may be lost"),
        ("full_page_writes", "when the machine crashes pages may be half written"),
    ):
        if at[name] == "off":
            well = False
            yield warn("durability", f"{name} is off: {lost}", f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()")
    if at["synchronous_commit"] == "off":
        well = False
        lost_ms = 3 * int(at["wal_writer_delay"])
        yield warn(
            "durability",
            f"synchronous_commit is off: a crash of Postgres loses up to {lost_ms} ms of submitted jobs and results",
            "set synchronous_commit = on for this server, database and role",
        )
    if well:
        waits = at["synchronous_standby_names"] and at["synchronous_commit"] != "local"
        lost = (
            "" if waits or not health.standbys(runtime.db) else ", not yet on a standby: a failover may lose the last"
        )
        yield ok("durability", f"what was submitted is on disk{lost}")


def vanished(runtime: Runtime) -> Iterator[Finding]:
    """Yield whether the server notices clients that are gone without a word, or do nothing."""
    at = {name: int(value) for name, value in health.settings_at(runtime.direct_dsn, (*_KEEPALIVE, _IDLE)).items()}
    missing: list[str] = []
    words: list[str] = []
    noticed_s = at["tcp_keepalives_idle"] + at["tcp_keepalives_interval"] * at["tcp_keepalives_count"]
    by_tcp = noticed_s > 0  # a Unix socket has none
    if noticed_s > _VANISHED_S:
        words.append(f"one whose machine vanished keeps its locks for {span(noticed_s)}")
        missing += _KEEPALIVE[:3]
    if by_tcp and at["tcp_user_timeout"] == 0:
        words.append("one that stopped reading is not cut")
        missing.append("tcp_user_timeout")
    if at[_IDLE] == 0:
        words.append("one that does nothing may keep its transaction open for ever")
        missing.append(_IDLE)
    if words:
        better = "; ".join(f"ALTER SYSTEM SET {name} = {_BETTER[name]}" for name in missing)
        yield warn("vanished clients", "; ".join(words), f"{better}; SELECT pg_reload_conf()")
    else:
        yield ok("vanished clients", f"noticed within {span(noticed_s)}" if by_tcp else "noticed at once (no TCP)")


def clock(db: Database, *, ours: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[Finding]:
    """Yield how far the database's clock is from ours."""
    before = ours()
    there = health.clock(db)
    here = before + (ours() - before) / 2
    ahead_s = (there - here).total_seconds()
    told = f"the database's is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} ours"
    if abs(ahead_s) < _CLOCK_S:
        yield ok("clock", told)
    else:
        yield warn(
            "clock",
            f"{told}; leases and delays do not mind, only a deadline_at made by our clock is off by as much",
            "set the clock that is wrong",
        )
