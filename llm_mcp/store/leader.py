"""One leader among all processes on this database, by a session lock that dies with its holder."""

from __future__ import annotations

import psycopg

from llm_mcp.errors import Unavailable

from .pool import Connection, connect

# First half of the lock's key, any constant of our own; the second is the schema's, for several may share a database.
_LOCK_CLASS = 0x6C6C6D31
_LOCK = "SELECT pg_try_advisory_lock(%s, hashtext(%s)) AS got"


class Leadership:
    """The claim of one process to be the leader. Owned by one thread.

    Needs a session of its own: `dsn` must reach Postgres itself, not a pooler. `schema` is whose leader it is.
    """

    def __init__(self, dsn: str, schema: str) -> None:
        self._dsn = dsn
        self._schema = schema
        self._conn: Connection | None = None
        self._held = False

    def held(self) -> bool:
        """Take the lead if it is free and say whether it is ours; False while the database is away."""
        try:
            if self._conn is None or self._conn.closed:
                self._held = False
                self._conn = connect(self._dsn)
            if self._held:
                self._conn.execute("SELECT 1")
            else:
                row = self._conn.execute(_LOCK, (_LOCK_CLASS, self._schema)).fetchone()
                self._held = bool(row and row["got"])
        except (psycopg.Error, Unavailable):
            self.resign()
        return self._held

    @property
    def away(self) -> bool:
        """Whether the database was, when we were asked last."""
        return self._conn is None

    def resign(self) -> None:
        """Let another lead."""
        self._held = False
        if self._conn is not None:
            self._conn.close()
            self._conn = None
