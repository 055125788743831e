"""Which workers that come by a door are there: a row each, written now and then and not at every call."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from llm_mcp.errors import LlmMcpError
from llm_mcp.runtime import Runtime
from llm_mcp.store import remote as rows

log = logging.getLogger(__name__)

# A row is fresh for 60 s (see `live_workers`), and a worker may ask for other kinds each time.
_WRITE_S = 20.0
_ASKS_S = 60.0
_MOST = 10_000
_MOST_ASKS = 16


@dataclass(slots=True)
class _Known:
    written_at: float = -_WRITE_S
    asks: dict[tuple[str, ...], float] = field(default_factory=dict)
    """Kinds that were asked for together, and when last, monotonic, s."""


class Presence:
    """What one process knows of them. Safe for threads; never raises, for the call itself is what matters."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._mutex = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def seen(self, worker_id: str, kinds: tuple[str, ...]) -> None:
        """A worker asks for jobs of these kinds (none: of every kind)."""
        now = time.monotonic()
        with self._mutex:
            known = self._find(worker_id)
            news = kinds not in known.asks
            if news and len(known.asks) >= _MOST_ASKS:
                known.asks.clear()
            known.asks[kinds] = now
            if not news and now - known.written_at < _WRITE_S:
                return
            known.written_at = now
            known.asks = {asked: at for asked, at in known.asks.items() if now - at < _ASKS_S}
            every = () in known.asks
            union = [] if every else sorted({kind for asked in known.asks for kind in asked})
        self._write(lambda: rows.seen(self._runtime.db, worker_id, kinds=union))

    def heard(self, worker_id: str) -> None:
        """A worker is at work on what it claimed."""
        now = time.monotonic()
        with self._mutex:
            known = self._find(worker_id)
            if now - known.written_at < _WRITE_S:
                return
            known.written_at = now
        self._write(lambda: rows.heard(self._runtime.db, worker_id))

    def _find(self, worker_id: str) -> _Known:
        """Return what is known of a worker; called under the mutex."""
        known = self._known.setdefault(worker_id, _Known())
        self._known.move_to_end(worker_id)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return known

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except LlmMcpError as error:
            log.warning("a worker was not noted", extra={"action": "presence_failed", "error": str(error)})
