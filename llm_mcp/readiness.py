"""Whether this process can do its work now: its database answers, and has the schema this version needs."""

from __future__ import annotations

import logging
import threading
import time

from . import schema
from .errors import SetupError, Unavailable
from .runtime import Runtime
from .store import health

log = logging.getLogger(__name__)

_KEPT_S = 0.5


class Readiness:
    """Looks when asked, in a thread that lives as long as the look. Safe for threads: who asks meanwhile shares it.

    A database that takes the question and says nothing holds up nobody for longer than they want to wait.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._mutex = threading.Lock()  # guards the rest
        self._looking: threading.Thread | None = None
        self._began_at = 0.0
        self._found_at = -_KEPT_S
        self._found: dict[str, str] = {}
        # Once is enough: an upgrade migrates the database before it replaces us, and until then we go on.
        self._schema_seen = False

    def reasons(self, *, timeout_s: float) -> dict[str, str]:
        """Return why not, words for people by code; empty: it can. `timeout_s`: the longest a look may take, s.

        Codes: `database_away`, `schema_behind`, `setup_error`, `internal_error`.
        """
        with self._mutex:
            if time.monotonic() - self._found_at < _KEPT_S:
                return self._found
            looking = self._looking
            if looking is None:
                looking = self._looking = threading.Thread(target=self._look, name="readiness", daemon=True)
                self._began_at = time.monotonic()
                looking.start()
            left_s = self._began_at + timeout_s - time.monotonic()
        looking.join(max(0.0, left_s))
        if looking.is_alive():
            return {"database_away": f"the database does not answer within {timeout_s:g} s"}
        with self._mutex:
            return self._found

    def _look(self) -> None:
        try:
            found = self._ask()
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            log.error("the look failed", extra={"action": "look_failed", "error": type(error).__name__})
            found = {"internal_error": "internal error"}
        with self._mutex:
            self._looking, self._found, self._found_at = None, found, time.monotonic()

    def _ask(self) -> dict[str, str]:
        try:
            if not self._schema_seen:
                if missing := schema.missing(self._runtime):
                    return {"schema_behind": f"{len(missing)} migrations are missing; run: llm-mcp migrate"}
                self._schema_seen = True
            health.clock(self._runtime.db)
        except Unavailable as error:
            log.warning("the database is away", extra={"action": "database_away", "error": str(error)})
            return {"database_away": "the database does not answer"}
        except SetupError as error:
            log.warning("not set up", extra={"action": "not_set_up", "error": str(error)})
            return {"setup_error": "the database is not set up for this version; the log says how"}
        return {}
