"""Schemas that are thrown away: a self-test has one of its own and touches no other."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from uuid import UUID

import psycopg
from psycopg import sql

from llm_mcp.errors import SetupError, Unavailable

from .pool import Connection, Database, connect, first_line

_PREFIX = "llm_bench_"
_NAME = re.compile(f"{_PREFIX}[0-9a-f]{{12}}")
# First half of the lock's key, any constant of our own; the second is the schema's. Who has it uses the schema.
_LOCK_CLASS = 0x6C6C6D33
_LOCK = "SELECT pg_try_advisory_lock(%s, hashtext(%s)) AS got"
_UNLOCK = "SELECT pg_advisory_unlock(%s, hashtext(%s))"
_OURS = "SELECT nspname AS name FROM pg_namespace WHERE starts_with(nspname, %s) AND pg_has_role(nspowner, 'USAGE')"
_PATIENCE = "SET lock_timeout = '10s'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """How the jobs of a self-test went."""

    done: int
    repeated: int
    """Those that needed more than one attempt."""
    first_us: int | None
    """When the first one's function began, µs of the machine's monotonic clock; None: none did."""
    last_us: int | None
    """The same of the last one."""
    committed_s: float | None
    """From the first claim to the last commit of a result, s of the server's clock."""


def drained(db: Database, first: UUID, last: UUID) -> Drained:
    """Return how the jobs with ids from `first` to `last` went."""
    return Drained(**db.run("drained", {"first": first, "last": last})[0])


class ScratchSchema:
    """The name of a schema that is nobody else's from `take` to `drop`; making it is a migration's work.

    Parameters: `dsn`, which must reach Postgres itself, not a pooler: a lock that lasts as long as our session says
    that the schema is in use. What a process that was killed left behind is thus known, and dropped by the next one.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._conn: Connection | None = None
        self.name = f"{_PREFIX}{secrets.token_hex(6)}"

    def take(self) -> list[str]:
        """Take the name, drop what earlier ones left behind, and return the names of these. Raises Unavailable."""
        conn = self._conn = connect(self._dsn)
        if not self._locked(conn, self.name):
            raise SetupError(f"schema {self.name} is in use")
        conn.execute(_PATIENCE)
        found = [row["name"] for row in conn.execute(_OURS, (_PREFIX,)).fetchall()]
        left = [name for name in found if _NAME.fullmatch(name) and name != self.name and self._locked(conn, name)]
        for name in left:
            _drop(conn, name)
            conn.execute(_UNLOCK, (_LOCK_CLASS, name))
        return left

    def drop(self) -> None:
        """Drop the schema with all that is in it, if it was made. Raises SetupError when that cannot be done."""
        kept, self._conn = self._conn, None
        try:
            with connect(self._dsn) as conn:  # the other one may have been lost
                conn.execute(_PATIENCE)
                _drop(conn, self.name)
        except (psycopg.Error, Unavailable) as error:
            raise SetupError(
                f"schema {self.name} was left behind ({first_line(error)});"
                f" the next `bench queue` drops it, or: DROP SCHEMA {self.name} CASCADE"
            ) from None
        finally:
            if kept is not None:
                kept.close()

    @staticmethod
    def _locked(conn: Connection, name: str) -> bool:
        row = conn.execute(_LOCK, (_LOCK_CLASS, name)).fetchone()
        return bool(row and row["got"])


def _drop(conn: Connection, name: str) -> None:
    conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))
