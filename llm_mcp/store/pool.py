"""Connections, and the running of named statements on them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from llm_mcp.errors import InvalidInput, KeyReused, LlmMcpError, TooLarge, Unavailable

from .sql import statements

Row = dict[str, Any]
Connection = psycopg.Connection[Any]

log = logging.getLogger(__name__)

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
    """Open one connection outside the pool.

    Raises Unavailable when the server does not answer.
    """
    try:
        return psycopg.connect(conninfo(dsn), autocommit=autocommit, row_factory=dict_row)
    except psycopg.OperationalError as error:
        raise Unavailable(f"Postgres does not answer: {_first_line(error)}") from None


class Database:
    """A lazily opened pool, and `run`. Safe for threads; not for use across a fork.

    Parameters: `dsn`; `schema`, a plain identifier; `size`, the most connections, opened as needed.
    """

    def __init__(self, dsn: str, *, schema: str = "llm", size: int = 16) -> None:
        self.dsn = dsn
        self.schema = schema
        self._size = size
        self._statements = statements(schema)
        self._pool: ConnectionPool[Connection] | None = None
        self._opening = threading.Lock()

    def run(
        self,
        name: str,
        params: Mapping[str, Any] | None = None,
        *,
        conn: Connection | None = None,
        repeatable: bool = True,
    ) -> list[Row]:
        """Run one named statement and return its rows.

        On `conn` it joins the caller's transaction. Without one it is its own transaction, and is asked once more
        when the connection broke, for our statements may be repeated (ids and tokens see to it); `repeatable` says so.
        Raises Unavailable when the database is not there, InvalidInput for values it refuses.
        """
        query = self._statements[name]
        if conn is not None:
            with conn.cursor(row_factory=dict_row) as cursor:
                return _fetch(cursor, query, params)
        pool = self._open_pool()
        for last in (False, True) if repeatable else (True,):
            try:
                with pool.connection(timeout=_CHECKOUT_S) as own, own.cursor(row_factory=dict_row) as cursor:
                    return _fetch(cursor, query, params)
            except PoolTimeout:
                raise Unavailable("Postgres does not answer") from None
            except psycopg.errors.QueryCanceled as error:
                raise Unavailable(_first_line(error)) from None
            except psycopg.errors.DiskFull:
                raise Unavailable("Postgres has no disk space left", retry_after_s=5.0) from None
            except psycopg.OperationalError as error:
                if last:
                    raise Unavailable(f"Postgres: {_first_line(error)}") from None
                pool.check()  # the others in the pool are likely dead too
        raise AssertionError("unreachable")

    def _open_pool(self) -> ConnectionPool[Connection]:
        with self._opening:
            if self._pool is None:
                self._pool = ConnectionPool(
                    conninfo(self.dsn),
                    min_size=1,
                    max_size=self._size,
                    kwargs={"autocommit": True},
                    max_idle=60.0,
                    reconnect_timeout=0.0,
                    check=None,
                    open=True,
                    name="llm-mcp",
                )
            return self._pool

    def close(self) -> None:
        """Close every connection; `run` opens anew."""
        with self._opening:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(timeout=2.0)


def _fetch(cursor: psycopg.Cursor[Row], query: str, params: Mapping[str, Any] | None) -> list[Row]:
    try:
        cursor.execute(query, params)
        return cursor.fetchall() if cursor.description else []
    except psycopg.Error as error:
        raise _ours(error) or error from None


def _ours(error: psycopg.Error) -> LlmMcpError | None:
    """Map what the database refuses to our errors; None for anything that is not the caller's doing."""
    said = _first_line(error)
    match error.sqlstate:
        case "LM400":
            return InvalidInput(said, field="kind", code="kind_required")
        case "LM413":
            return TooLarge(said, field="payload", code="body_too_large")
        case "LM422":
            return KeyReused(said)
        case "42P01" | "3F000" | "42883" if "llm" in said or "schema" in said or "relation" in said:
            return Unavailable(f"the schema is not there yet ({said}); run: llm-mcp migrate")
        case _ if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
            return InvalidInput(said)
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
