"""The schema: numbered SQL files, applied once each, in order, and never edited afterwards."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

import psycopg
from psycopg import sql

from llm_mcp.errors import SetupError

from .pool import Connection, connect
from .sql import in_schema

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
# Session lock of the one migrator at a time; any constant of our own will do.
_LOCK_KEY = 0x6C6C6D5F6D6967
_LOCK_TIMEOUT = "100ms"
_PATIENCE_S = 60.0
_PAUSE_S = 0.2
_ALONE = "-- no-transaction"
_LEDGER = """CREATE TABLE IF NOT EXISTS llm.schema_migrations (
    version integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, name, text (in the target schema) and the SHA-256 of what is written."""

    version: int
    name: str
    text: str
    sha256: str


def migrations(schema: str = "llm") -> list[Migration]:
    """Return the shipped migrations in order.

    Raises SetupError when a file is misnamed or numbers do not run 1, 2, 3, ….
    """
    found = []
    for path in sorted(files("llm_mcp.db").joinpath("migrations").iterdir(), key=lambda entry: entry.name):
        if not path.name.endswith(".sql"):
            continue
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise SetupError(f"{path.name}: a migration is named NNNN_name.sql")
        text = path.read_text(encoding="utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        found.append(Migration(int(match[1]), match[2], in_schema(text, schema), digest))
    if [m.version for m in found] != list(range(1, len(found) + 1)):
        raise SetupError("migrations must be numbered 0001, 0002, … without gaps")
    return found


def pending(conn: Connection, schema: str = "llm", shipped: list[Migration] | None = None) -> list[Migration]:
    """Return the migrations this database still lacks.

    Raises SetupError when an applied one was edited since, or when the database is ahead of this version.
    """
    shipped = migrations(schema) if shipped is None else shipped
    there = conn.execute("SELECT to_regclass(%s) AS ledger", (f"{schema}.schema_migrations",)).fetchone()
    if there is None or there["ledger"] is None:
        return shipped
    rows = conn.execute(in_schema("SELECT version, name, sha256 FROM llm.schema_migrations", schema)).fetchall()
    applied = {row["version"]: row for row in rows}
    for migration in shipped:
        row = applied.get(migration.version)
        if row is not None and row["sha256"] != migration.sha256:
            raise SetupError(f"migration {migration.version:04} {migration.name} was edited after it was applied")
    ahead = sorted(set(applied) - {m.version for m in shipped})
    if ahead:
        raise SetupError(f"the database is newer than this llm-mcp (it has migration {ahead[-1]:04}); upgrade llm-mcp")
    return [m for m in shipped if m.version not in applied]


def check_server(conn: Connection) -> int:
    """Return the server's version, e.g. 180006.

    Raises SetupError below Postgres 14.
    """
    number = conn.info.server_version
    if number < 140000:
        raise SetupError(f"Postgres {number // 10000} is too old: 14 or newer is needed")
    return number


def migrate(
    dsn: str,
    *,
    schema: str = "llm",
    on_applied: Callable[[Migration], None] = lambda _: None,
    shipped: list[Migration] | None = None,
    patience_s: float = _PATIENCE_S,
) -> list[Migration]:
    """Bring the database up to this version and return what was applied.

    One migrator at a time. Each file is one transaction under a short lock_timeout, tried again for `patience_s` (s),
    so that a waiting ALTER never holds up the queue behind it. A file that starts with `-- no-transaction` runs
    outside one and must be repeatable. Raises SetupError when it cannot be done, Unavailable without a server.
    """
    with connect(dsn) as conn:
        check_server(conn)
        _until(patience_s, lambda: conn.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,)), conn, "another migrator")
        try:
            if _missing(conn, schema):
                conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
                conn.execute(in_schema(_LEDGER, schema))
            todo = pending(conn, schema, shipped)
            for migration in todo:
                _until(patience_s, lambda m=migration: _apply(conn, m, schema), conn, f"{migration.name}")  # type: ignore[misc] # mypy cannot infer a lambda with a default
                on_applied(migration)
            return todo
        finally:
            if not conn.closed:
                conn.execute("SELECT pg_advisory_unlock(%s)", (_LOCK_KEY,))


def _missing(conn: Connection, schema: str) -> bool:
    row = conn.execute("SELECT to_regclass(%s) AS ledger", (f"{schema}.schema_migrations",)).fetchone()
    return row is None or row["ledger"] is None


def _apply(conn: Connection, migration: Migration, schema: str) -> None:
    record = in_schema("INSERT INTO llm.schema_migrations (version, name, sha256) VALUES (%s, %s, %s)", schema)
    values = (migration.version, migration.name, migration.sha256)
    text = migration.text  # our own file, not input
    if migration.text.startswith(_ALONE):
        conn.execute(text)
        conn.execute(record, values)
    else:
        with conn.transaction():
            conn.execute(text)
            conn.execute(record, values)


def _until(patience_s: float, action: Callable[[], object], conn: Connection, what: str) -> None:
    """Run `action` under a short lock_timeout again and again until it gets its locks or patience ends."""
    conn.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
    end = time.monotonic() + patience_s
    while True:
        try:
            action()
            return
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() >= end:
                raise SetupError(f"migrate: no lock within {patience_s:g} s ({what})") from None
            time.sleep(_PAUSE_S)  # lets the queue behind us move between two tries
        except psycopg.Error as error:
            raise SetupError(f"migrate: {what}: {str(error).strip().splitlines()[0]}") from None
