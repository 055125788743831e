"""The session of a worker process whose end says that the process is dead: others may have its jobs within seconds.

A worker that lost it though it lives must stop in time, so it knows from when on it is held for dead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .runtime import Runtime
from .store import health, workers
from .store.pool import Connection, Database
from .store.session import Session

log = logging.getLogger(__name__)

# A worker whose session is lost is given up after 1.8 s (see scheduler.py): it must stop before.
_ALONE_S = 1.5


class Liveness:
    """That session, kept from `start` to `close`; without `start` only leases tell who lives.

    Parameters: `db`, a way to the tables; `silence_s`, the longest the server may hear nothing of us and hold us for
    alive, s; `changed`, called when the session was opened or lost, on its thread: the worker has to report again.
    """

    def __init__(self, runtime: Runtime, db: Database, *, silence_s: float, changed: Callable[[], None]) -> None:
        self._runtime = runtime
        self._db = db
        self._silence_s = silence_s
        self._changed = changed
        self._session: Session | None = None
        self.key: int | None = None
        """The lock that the session holds, for a report to name; None: there is none, and only leases tell."""
        self.alone_at: float | None = None
        """Monotonic instant from which on others may have our jobs, for our session is lost, s."""

    def start(self) -> None:
        """Open the session, now and whenever it is lost."""
        self._session = Session(self._runtime.direct_dsn, name="llm-mcp-life", begin=self._swear, lost=self._unsworn)
        self._session.start()

    def close(self) -> None:
        """End the session."""
        if self._session is not None:
            self._session.close()

    @property
    def alone(self) -> bool:
        """Whether others may take our jobs by now."""
        return self.alone_at is not None and self.alone_at <= time.monotonic()

    def reported(self, key: int | None) -> bool:
        """Note that a report named this key; False when it is another by now, so that one has to report again."""
        if key != self.key:
            return False
        self.alone_at = None
        return True

    def _swear(self, conn: Connection) -> None:
        """Have a session say that this process lives, and tell by which lock.

        The server ends the session of a process that died at once. Of one whose network was cut it must not think so
        before the process itself has stopped trusting its leases: else a job would run twice at a time.
        """
        key = workers.live(self._db, conn, silence_s=self._silence_s)
        self.key = key if health.life_held(self._db, key) else None
        if self.key is None:
            log.warning("the lock of a living worker does not hold: only leases tell", extra={"action": "no_life_lock"})
        self._changed()

    def _unsworn(self, why: Exception | None) -> None:
        """Without its session this process will be held for dead in a moment: its leases are good for no longer.

        Unless it can say in time, by another way, that only its leases tell; or the server itself is away: then nobody
        takes anything, and the moment begins when it is back.
        """
        if self.alone_at is None or (why is not None and health.is_away(why)):
            self.alone_at = time.monotonic() + _ALONE_S
        self.key = None
        self._changed()
