"""Connections, and the running of named statements on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Format
from psycopg.rows import dict_row, tuple_row
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from llm_mcp.errors import InvalidInput, KeyReused, LlmMcpError, SetupError, Unavailable

from .connection import CONFIGURE, PoolConnection
from .sql import numbered, statements

Row = dict[str, Any]
Connection = psycopg.Connection[Any]
T = TypeVar("T")

# A peer that vanished is noticed in seconds, not after the kernel's two hours.
_KEEPALIVE: Mapping[str, Any] = {
    "connect_timeout": 3,
    "keepalives": 1,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,
    "application_name": "llm-mcp",
}
# How long a caller waits for a free connection before it is told that the database is not there, s.
_CHECKOUT_S = 2.0
_ASK_AGAIN_S = 5.0
# SQLSTATEs with which a server says that it ends this connection.
_SHUTDOWN = "57P"


def conninfo(dsn: str) -> str:
    """Return the DSN with our keepalive defaults, which the DSN's own words override.

    Raises InvalidInput when it is no DSN at all; the text never repeats it (it may hold a password).
    """
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise InvalidInput("not a Postgres DSN", field="DB_DSN", code="setup_error") from None
    return make_conninfo("", **{**_KEEPALIVE, **given})


def connect(dsn: str, *, autocommit: bool = True) -> Connection:
    """Open one connection outside the pool. Nothing is prepared in it, for it may be a pooler's.

    Raises Unavailable when the server does not answer.
    """
    try:
        return psycopg.connect(conninfo(dsn), autocommit=autocommit, row_factory=dict_row, prepare_threshold=None)
    except psycopg.OperationalError as error:
        raise Unavailable(f"Postgres does not answer: {first_line(error)}") from None


class _TakesNoWrites(Unavailable):
    """The server at the other end of a session is a standby, or was made read-only."""


class Database:
    """A lazily opened pool, and `run`. Safe for threads; not for use across a fork.

    Parameters: `dsn`; `schema`, a plain identifier; `size`, the most connections, opened as needed; `pooled`, whether
    `dsn` leads to a pooler that may hand one session to many, so that nothing is prepared in it (None: each connection
    finds out).
    """

    def __init__(self, dsn: str, *, schema: str = "llm", size: int = 16, pooled: bool | None = None) -> None:
        self.dsn = dsn
        self.schema = schema
        self._size = size
        self.pooled = pooled
        self._statements = statements(schema)
        self._pool: ConnectionPool[PoolConnection] | None = None
        self._mutex = threading.Lock()
        self._renewed_at = 0.0
        self._asking = threading.Lock()
        self._asked_at = -_ASK_AGAIN_S
        self._reason = ""

    def run(
        self,
        name: str,
        params: Mapping[str, Any] | None = None,
        *,
        conn: Connection | None = None,
        repeatable: bool = True,
        prepare: bool | None = None,
    ) -> list[Row]:
        """Run one named statement and return its rows.

        Without `conn` it is its own transaction, and is asked once more when the connection broke, for our statements
        may be repeated (ids and tokens see to it); `repeatable` says so. On `conn` it joins the caller's transaction,
        whose end is the caller's to see to: what breaks that one (a lost connection, a serialization failure) is
        raised as psycopg raises it. `prepare=False` has it planned anew for its very values.
        Raises Unavailable when the database is not there, InvalidInput for values it refuses, KeyReused.
        """
        if conn is not None:
            with psycopg.RawCursor(conn, row_factory=dict_row) as cursor:
                return _fetch(cursor, self._statements[name], params, prepare)

        def fetch(own: Connection) -> list[Row]:
            with psycopg.RawCursor(own, row_factory=dict_row) as cursor:
                return _fetch(cursor, self._statements[name], params, prepare)

        return self._with_connection(fetch, repeatable=repeatable)

    def run_tuples(self, name: str, params: Mapping[str, Any], *, repeatable: bool = True) -> list[tuple[Any, ...]]:
        """Run one named statement in its own transaction and return its rows as tuples; for long answers."""

        def fetch(own: Connection) -> list[tuple[Any, ...]]:
            with psycopg.RawCursor(own, row_factory=tuple_row) as cursor:
                cursor.format = Format.BINARY
                return _fetch(cursor, self._statements[name], params, None)

        return self._with_connection(fetch, repeatable=repeatable)

    def _with_connection(self, fetch: Callable[[Connection], T], *, repeatable: bool) -> T:
        for last in (False, True) if repeatable else (True,):
            began_at, pool = time.monotonic(), self._open_pool()
            try:
                with pool.connection(timeout=_CHECKOUT_S) as own:
                    return fetch(own)
            except (PoolTimeout, PoolClosed):
                raise Unavailable(self._why()) from None
            except psycopg.errors.DiskFull:
                raise Unavailable("Postgres has no disk space left", retry_after_s=5.0) from None
            except _TakesNoWrites:  # by now the DSN may lead to the one that does
                self._renew(pool, began_at)
                if last:
                    raise
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if own.closed or (error.sqlstate or "").startswith(_SHUTDOWN):
                    self._renew(pool, began_at)
                if last or isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
                    raise Unavailable(f"Postgres: {first_line(error)}") from None
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close every connection; `run` opens anew."""
        with self._mutex:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(timeout=2.0)

    def _open_pool(self) -> ConnectionPool[PoolConnection]:
        with self._mutex:
            if self._pool is None:
                self._pool = ConnectionPool(
                    conninfo(self.dsn),
                    min_size=1,
                    max_size=self._size,
                    connection_class=PoolConnection,
                    kwargs={"autocommit": True},
                    configure=CONFIGURE[self.pooled],
                    max_idle=60.0,
                    reconnect_timeout=0.0,
                    open=True,
                    name="llm-mcp-pool",
                    num_workers=min(3, self._size),
                )
            return self._pool

    def _why(self) -> str:
        """Return why no connection was to be had. The server is asked once in a while, not by everybody who waits."""
        with self._asking:
            if time.monotonic() - self._asked_at >= _ASK_AGAIN_S:
                try:
                    psycopg.connect(conninfo(self.dsn), connect_timeout=1).close()
                    self._reason = f"all {self._size} connections to Postgres are busy"
                except psycopg.OperationalError as error:
                    self._reason = f"Postgres does not answer: {first_line(error)}"
                self._asked_at = time.monotonic()
            return self._reason

    def _renew(self, pool: ConnectionPool[PoolConnection], began_at: float) -> None:
        """Throw the idle connections away, for they broke with the one we had; once for all who notice."""
        with self._mutex:
            if began_at < self._renewed_at:
                return
            self._renewed_at = time.monotonic()
        pool.drain()


def _fetch(cursor: psycopg.RawCursor[T], text: str, params: Mapping[str, Any] | None, prepare: bool | None) -> list[T]:
    # Numbered by us and once: psycopg would look for the names each time, and describes each column to who asks.
    query, names = numbered(text)
    try:
        cursor.execute(query, [params[name] for name in names] if params else None, prepare=prepare)
        return cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []
    except psycopg.Error as error:
        raise _ours(error) or error from None
    except UnicodeEncodeError:
        raise InvalidInput("half a character (lone surrogate)") from None


def _ours(error: psycopg.Error) -> LlmMcpError | None:
    """Map what the database refuses to our errors; None for anything that is not the caller's doing."""
    said = first_line(error)
    match error.sqlstate:
        case "LM422":
            return KeyReused(said)
        case "LM400":
            return InvalidInput(said, field=error.diag.column_name or "")
        case "P0001":  # in words of the user's own, which may quote the row
            return InvalidInput("a trigger of this database refuses it")
        case "42P01" | "3F000" | "42883":  # our statements name only what our migrations make
            return Unavailable(f"the schema is not there yet ({said}); run: llm-mcp migrate")
        case "26000" | "42P05":
            return SetupError(
                "DB_DSN leads to a pooler that hands one session to many, in which nothing can be prepared:"
                " set LLM_MCP_DB_POOLER=yes"
            )
        case "42501":
            return SetupError(f"this database role lacks rights: {said}")
        case "25006":
            return _TakesNoWrites(f"this Postgres is a standby ({said})")
        case _ if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
            return InvalidInput(said)
    return None


def first_line(error: Exception) -> str:
    """Return the first line of what the database said."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
