"""The database's schema as the command line and the supervisor see it."""

from __future__ import annotations

from collections.abc import Callable

from .runtime import Runtime
from .store import migrate as store
from .store.migrate import Migration
from .store.pool import connect


def missing(runtime: Runtime) -> list[Migration]:
    """Return the migrations the database still lacks.

    Raises SetupError for a server that is too old, an edited migration or a database that is newer than we are.
    """
    with connect(runtime.dsn) as conn:
        store.check_server(conn)
        return store.pending(conn, runtime.settings.db_schema)


def migrate(runtime: Runtime, *, on_applied: Callable[[Migration], None] = lambda _: None) -> list[Migration]:
    """Apply what is missing, calling `on_applied` after each, and return it. Raises SetupError, Unavailable."""
    return store.migrate(runtime.dsn, schema=runtime.settings.db_schema, on_applied=on_applied)
