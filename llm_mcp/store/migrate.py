"""The schema: numbered SQL files, applied once each, in order, and never edited afterwards."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

import psycopg
from psycopg import sql

from llm_mcp.errors import SetupError, Unavailable

from .pool import Connection, connect, first_line
from .sql import DEFAULT_SCHEMA, in_schema

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
# First half of the lock's key, any constant of our own; the second is the schema's.
_LOCK_CLASS = 0x6C6C6D32
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '100ms'"
_PATIENCE_S = 60.0
_PAUSE_S = 0.2
_ALONE = "-- no-transaction"
_LEDGER = """CREATE TABLE llm.schema_migrations (
    version integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"""
_RECORD = "INSERT INTO llm.schema_migrations (version, name, sha256) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, name, text (in the target schema) and the SHA-256 of what is written."""

    version: int
    name: str
    text: str
    sha256: str


def migrations(schema: str = DEFAULT_SCHEMA) -> list[Migration]:
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


def pending(conn: Connection, schema: str = DEFAULT_SCHEMA, shipped: list[Migration] | None = None) -> list[Migration]:
    """Return the migrations this database still lacks.

    Raises SetupError when an applied one was edited since, or when the database is ahead of this version.
    """
    shipped = migrations(schema) if shipped is None else shipped
    if _ledger(conn, schema) is None:
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

    Raises SetupError below Postgres 14, and for a database that is not in UTF-8.
    """
    number = conn.info.server_version
    if number < 140000:
        raise SetupError(f"Postgres {number // 10000} is too old: 14 or newer is needed")
    encoding = conn.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise SetupError(f"the database is encoded in {encoding}: UTF8 is needed")
    return number


def migrate(
    dsn: str,
    *,
    schema: str = DEFAULT_SCHEMA,
    on_applied: Callable[[Migration], None] = lambda _: None,
    shipped: list[Migration] | None = None,
    patience_s: float = _PATIENCE_S,
) -> list[Migration]:
    """Bring the database up to this version and return what was applied.

    Each file is one transaction of one migrator at a time, under a short lock_timeout and tried again for `patience_s`
    (s), so that a waiting ALTER never holds up the queue behind it. Nothing outlives its transaction, so a pooler may
    lie between. A file that starts with `-- no-transaction` holds one statement that runs outside of one and may be
    repeated. Raises SetupError when it cannot be done, Unavailable without a server.
    """
    done: list[Migration] = []
    with connect(dsn) as conn:
        check_server(conn)
        _until(patience_s, conn, "the schema", lambda: _prepare(conn, schema))
        for migration in pending(conn, schema, shipped):
            if _until(patience_s, conn, migration.name, partial(_apply, conn, migration, schema)):
                done.append(migration)
                on_applied(migration)
    return done


def _prepare(conn: Connection, schema: str) -> bool:
    """Make the schema and the ledger; whoever may not make schemas can be given one."""
    with _turn(conn, schema):
        if not conn.execute("SELECT FROM pg_namespace WHERE nspname = %s", (schema,)).rowcount:
            conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        if _ledger(conn, schema) is None:
            conn.execute(in_schema(_LEDGER, schema))
    return True


def _apply(conn: Connection, migration: Migration, schema: str) -> bool:
    """Apply one file; False when another migrator did meanwhile."""
    record = in_schema(_RECORD, schema)
    values = (migration.version, migration.name, migration.sha256)
    if migration.text.startswith(_ALONE):
        conn.execute(migration.text)
        return conn.execute(record, values).rowcount == 1
    with _turn(conn, schema):
        # The record comes first: a file that somebody else applied must not be run again.
        if conn.execute(record, values).rowcount == 0:
            return False
        conn.execute(migration.text)  # our own file, not input
    return True


@contextmanager
def _turn(conn: Connection, schema: str) -> Iterator[None]:
    """A transaction that only one migrator of this schema is in, with a short patience for locks."""
    with conn.transaction():
        conn.execute(_LOCK_TIMEOUT)
        conn.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK_CLASS, schema))
        yield


def _until(patience_s: float, conn: Connection, what: str, action: Callable[[], bool]) -> bool:
    """Run `action` again and again until it gets its locks or patience ends; return what it returned."""
    end = time.monotonic() + patience_s
    while True:
        try:
            return action()
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() >= end:
                raise SetupError(f"migrate: {what}: no lock within {patience_s:g} s") from None
            time.sleep(_PAUSE_S)  # lets the queue behind us move between two tries
        except psycopg.Error as error:
            if conn.closed:
                raise Unavailable(f"migrate: {what}: the connection was lost") from None
            raise SetupError(f"migrate: {what}: {first_line(error)}") from None


def _ledger(conn: Connection, schema: str) -> str | None:
    """Return the name of the table of applied migrations, None when it is not there."""
    row = conn.execute("SELECT to_regclass(%s)::text AS ledger", (f'"{schema}".schema_migrations',)).fetchone()
    ledger: str | None = row["ledger"] if row else None
    return ledger
