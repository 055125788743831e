"""What can quietly break a queue: sessions that are not one's own, snapshots that never end, servers that forget."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

import psycopg

from llm_mcp.errors import SetupError, Unavailable

from .pool import Connection, Database, Row, connect, first_line

_ROUNDS = 4
_AWAY = (
    "Connection refused",
    "starting up",
    "shutting down",
    "in recovery",
    "not yet accepting connections",
    "session is read-only",
)
_PATIENCE_S = 5.0
_NOTICE_S = 2.0


class Sessions(StrEnum):
    """What a connection made with some DSN is, at the server."""

    OWN = "own"
    """A session of the server's, the client's until it leaves."""
    KEPT = "kept"
    """A session that a pooler opened, the client's until it leaves."""
    SHARED = "shared"
    """Now this session, now that, between transactions anybody's: a transaction (or statement) pooler's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What keeps dead rows from being removed."""

    what: str
    """`backend`, `prepared transaction`, `standby` or `replication slot`."""
    name: str
    """The backend's pid, else its name."""
    role: str | None
    application: str | None
    state: str | None
    age_s: float | None
    """How long it has been there, s; None for a standby and a slot."""
    behind: int | None
    """Transactions begun since its oldest one; None when it holds nothing back (yet)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadRows:
    """One table's rows, and the dead ones among them that are still to be removed."""

    name: str
    live: int
    dead: int
    vacuumed_s: float | None
    """Seconds since they were last removed; None: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StalledListener:
    """A session that listens and does not read."""

    pid: int
    application: str
    address: str | None
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A job that waits, and for how long."""

    id: UUID
    kind: str
    waited_s: float


def sessions(dsn: str) -> Sessions:
    """Return whose sessions a DSN leads to, by what they do. Leaves nothing behind in them.

    Needs two connections for a few milliseconds. A pooler that is not asked for anything gives a session to whoever
    comes next: so one client's is taken by another, or it gets a different one. Raises Unavailable when the server does
    not answer within 5 s.
    """
    with _sessions(dsn, dsn) as (first, second):
        pid = _backend(first)
        own = first.conn.info.backend_pid == pid
        for _ in range(_ROUNDS):
            try:
                second.conn.execute("BEGIN")
            except psycopg.Error as error:
                if "pooling" in str(error):
                    return Sessions.SHARED  # it hands on sessions even between the statements of a transaction
                raise
            taken = _backend(second) == pid
            second.conn.execute("ROLLBACK")
            # Asked in any case: had our own been cut meanwhile, the other would have got its session rightly.
            if _backend(first) != pid or taken:
                return Sessions.SHARED
    return Sessions.OWN if own else Sessions.KEPT


def require_sessions(dsn: str, setting: str) -> None:
    """Refuse a DSN under which locks and LISTEN hold no longer than a transaction; `setting` is where it was set.

    Without a session of its own a worker cannot say that it lives: the lock stays with a stranger, or vanishes; the
    leader of the schedulers could stay a leader after its death, and nobody would take ended leases back. Raises
    SetupError saying what to do, Unavailable.
    """
    if sessions(dsn) is Sessions.SHARED:
        raise SetupError(
            f"{setting} leads to a transaction pooler, where no session is ours:"
            " set LLM_MCP_DB_DIRECT_DSN to Postgres itself"
        )


def is_away(why: Exception) -> bool:
    """Return whether a failed connection says that there is no server (yet), which is no cut wire.

    Of several servers each has to say so.
    """
    tried = [line for line in str(why).splitlines() if "connection to server" in line] or [str(why)]
    return all(any(words in line for words in _AWAY) for line in tried)


def life_held(db: Database, life_key: int) -> bool:
    """Return whether the lock that `workers.live` took is seen by those who look for dead workers.

    It is not when the session was a pooler's, or of another database than the jobs are in.
    """
    held: bool = db.run("life_held", {"life_key": life_key})[0]["held"]
    return held


def same_database(dsn: str, other: str) -> bool:
    """Return whether two DSNs lead to one database of one running server. Raises Unavailable."""
    with _sessions(dsn, other) as (one, two):
        return one.run("identity") == two.run("identity")


def hears_notices(dsn: str, direct_dsn: str) -> bool:
    """Return whether a notice sent by one DSN is heard by the other within 2 s. Not for a pooler's shared sessions,
    where it would leave somebody else listening. Raises Unavailable.
    """
    channel = f"llm_mcp_probe_{uuid4().hex[:12]}"
    with _sessions(direct_dsn, dsn) as (listening, sending):
        listening.conn.execute(f"LISTEN {channel}")
        sending.run("send_notice", {"channel": channel, "payload": ""})
        return any(True for _ in listening.conn.notifies(timeout=_NOTICE_S, stop_after=1))


def clock(db: Database) -> datetime:
    """Return what time it is by the database's clock."""
    at: datetime = db.run("database_clock")[0]["at"]
    return at


def settings_at(dsn: str, names: Sequence[str]) -> dict[str, str]:
    """Return server settings as a session of this DSN has them, by name. Raises Unavailable."""
    with _sessions(dsn) as (asked,):
        return {row["name"]: row["setting"] for row in asked.run("server_settings", {"names": list(names)})}


def sees_all(db: Database) -> bool:
    """Return whether this role may see what the sessions of others do."""
    seen: bool = db.run("rights")[0]["sees_all"]
    return seen


def connections(db: Database) -> Row:
    """Return `used`, connections of the server, and `role_limit` and `database_limit`, -1 where there is none."""
    return db.run("connections")[0]


def standbys(db: Database) -> int:
    """Return how many standbys (or other readers of its log) follow the server."""
    n: int = db.run("standbys")[0]["n"]
    return n


def old_snapshots(db: Database, *, older_s: float, behind: int) -> list[Snapshot]:
    """Return what has held back VACUUM for `older_s` seconds, or for `behind` transactions if it has no age; worst
    first."""
    return [Snapshot(**row) for row in db.run("old_snapshots", {"older_s": older_s, "behind": behind})]


def dead_rows(db: Database) -> list[DeadRows]:
    """Return the dead rows of the tables that are written all the time."""
    return [DeadRows(**row) for row in db.run("dead_rows")]


def notices_used(db: Database) -> float:
    """Return how full the server's queue of notices is, 0 to 1."""
    used: float = db.run("notices")[0]["used"]
    return used


def stalled_listeners(db: Database, *, older_s: float) -> list[StalledListener]:
    """Return the sessions that for `older_s` seconds have not taken the notices sent to them."""
    return [StalledListener(**row) for row in db.run("stalled_listeners", {"older_s": older_s})]


def event_days(db: Database) -> int | None:
    """Return for how many days from today (0: today only) the streams have partitions; None without any."""
    ahead: int | None = db.run("event_days")[0]["ahead"]
    return ahead


def crashed(db: Database) -> tuple[int, UUID | None]:
    """Return how many jobs were given up for killing their workers (1000: or more), and the newest of them."""
    row = db.run("crashed")[0]
    return row["n"], row["newest"]


def longest_waiting(db: Database, *, older_s: float) -> Waiting | None:
    """Return the job that has waited longest, if over `older_s` seconds, though a live worker takes its kind."""
    return next((Waiting(**row) for row in db.run("longest_waiting", {"older_s": older_s})), None)


class _Session:
    """One connection of its own, in which statements are run."""

    def __init__(self, dsn: str, conn: Connection) -> None:
        self._db = Database(dsn)
        self.conn = conn

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a named statement, of those that name no table of ours."""
        return self._db.run(name, params, conn=self.conn)


@contextmanager
def _sessions(*dsns: str) -> Iterator[list[_Session]]:
    """Connections, one by each DSN, that are cut when not done within 5 s: a pooler without a free session lets us wait
    for minutes."""
    late = threading.Event()
    with contextlib.ExitStack() as stack:
        made = [_Session(dsn, stack.enter_context(connect(dsn))) for dsn in dsns]
        timer = threading.Timer(_PATIENCE_S, _cut, [[one.conn.fileno() for one in made], late])
        timer.start()
        try:
            yield made
        except psycopg.OperationalError as error:
            why = f"no answer within {_PATIENCE_S:g} s" if late.is_set() else first_line(error)
            raise Unavailable(f"Postgres: {why}") from None
        finally:
            timer.cancel()
            timer.join()  # the number of a closed socket is soon another's


def _cut(filenos: list[int], late: threading.Event) -> None:
    late.set()
    for fileno in filenos:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fileno)) as same:
            same.shutdown(socket.SHUT_RDWR)


def _backend(session: _Session) -> int:
    pid: int = session.run("backend")[0]["pid"]
    return pid
