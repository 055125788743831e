"""Which models are in memory: loaded when first asked for, one request at a time each, gone when nobody asks.

Whoever has a model's turn is alone with it: to load it, to run it, to unload it. So two loads never race and nothing
is unloaded under a running generation. Turns are given in the order they were asked for.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from llm_mcp.ollama_words.names import LIBRARY, full_name
from llm_mcp.ollama_words.wire import Refusal

from .call import Call, Cancelled
from .catalog import CatalogModel
from .runner import EngineGone, Runner

KEEP_ALIVE_S = 300.0
MAX_WAITING = 512
MAX_LOADED = 3
_BUSY = "server busy, please try again.  maximum pending requests exceeded"
_FOR_EVER = timedelta(days=36500)

_log = logging.getLogger(__name__)


@dataclass
class _Resident:
    model: CatalogModel
    runner: Runner | None = None
    wanted_context: int = 0
    taken: bool = False
    waiting: deque[threading.Event] = field(default_factory=deque)
    keep_s: float = KEEP_ALIVE_S
    expires_at: float = math.inf

    @property
    def idle(self) -> bool:
        return not self.taken and not self.waiting


@dataclass(frozen=True, slots=True)
class Held:
    """A loaded model whose turn the holder has; `load_ns` is what getting it loaded took, ns, at least 1."""

    model: CatalogModel
    runner: Runner
    load_ns: int


class Residents:
    """The models of one device and what is loaded of them.

    `models` by the name the user gave; `context`, tokens, is what a model is loaded with when a request does not say.
    A thread of its own unloads what has expired.
    """

    def __init__(self, models: Mapping[str, CatalogModel], context: int) -> None:
        self._by_name = {model.name.lower(): _Resident(model) for model in models.values()}
        self._context = context
        self._changed = threading.Condition()
        self._waiting = 0
        self._places = 0
        self._ending = False
        self._reaper = threading.Thread(target=self._reap, name="model reaper", daemon=True)
        self._reaper.start()

    def models(self) -> list[CatalogModel]:
        """Return every model on offer, in the order given."""
        return [resident.model for resident in self._by_name.values()]

    def find(self, name: str) -> CatalogModel | None:
        """Return the model of that name, with or without tag and registry, in any case of letters."""
        resident = self._by_name.get(full_name(name.lower().removeprefix(LIBRARY)))
        return None if resident is None else resident.model

    def running(self) -> list[dict[str, Any]]:
        """Return the entries of /api/ps, the one that stays longest first."""
        now, today = time.monotonic(), datetime.now(UTC)
        entries = []
        with self._changed:
            for resident in self._by_name.values():
                runner = resident.runner
                if runner is not None and runner.alive:
                    left = _FOR_EVER
                    # A model in use expires only after its request; until then the time counts from now.
                    until = now + resident.keep_s if resident.taken else resident.expires_at
                    with contextlib.suppress(OverflowError):
                        left = min(timedelta(seconds=until - now), _FOR_EVER)
                    entries.append((left, resident.model, runner.context))
        entries.sort(key=lambda entry: entry[0], reverse=True)
        return [model.running(context=context, expires_at=today + left) for left, model, context in entries]

    @contextlib.contextmanager
    def turn(
        self, model: CatalogModel, call: Call, *, keep_s: float | None = None, context: int | None = None
    ) -> Iterator[Held]:
        """Wait for the model's turn, load it when needed, and have it alone while the block runs.

        `keep_s` is how long it stays loaded afterwards, s (inf for ever; None: the default); `context`, tokens, is
        the caller's wish, for which the model is loaded again (None: whatever is loaded, if no less than the default).
        Raises Refusal 503 when too many wait, Cancelled when the call is given up, EngineGone when it does not load.
        """
        resident = self._by_name[model.name.lower()]
        self._take(resident, call)
        try:
            began = time.perf_counter_ns()
            runner = self._loaded(resident, context, call)
            resident.keep_s = KEEP_ALIVE_S if keep_s is None else keep_s
            yield Held(model, runner, max(1, time.perf_counter_ns() - began))
        except EngineGone:
            # It did not load, or died and may not look it yet: the next one must not be given it.
            self._unload(resident)
            raise
        finally:
            self._give_back(resident)

    def expire(self, model: CatalogModel) -> None:
        """Unload the model: now, or when the request that uses it is done."""
        resident = self._by_name[model.name.lower()]
        with self._changed:
            resident.keep_s = 0.0
            if not resident.idle:
                return
            resident.taken = True
        self._give_back(resident)

    def close(self) -> None:
        """End every model's process, also those at work, and the thread."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._reaper.join()
        for resident in self._by_name.values():
            if resident.runner is not None:
                resident.runner.close()

    def _take(self, resident: _Resident, call: Call) -> None:
        with self._changed:
            if resident.idle:
                resident.taken = True
                return
            if self._waiting >= MAX_WAITING:
                raise Refusal(503, _BUSY)
            bell = threading.Event()
            resident.waiting.append(bell)
            self._waiting += 1
        try:
            with call.breaking(bell.set):
                bell.wait()
        finally:
            with self._changed:
                self._waiting -= 1
                # Not in the line any more means that the turn was handed over, even to a call given up meanwhile.
                handed_over = bell not in resident.waiting
                if not handed_over:
                    resident.waiting.remove(bell)
            given_up = call.cancelled
            if handed_over and given_up:
                self._give_back(resident)
        if given_up:
            raise Cancelled

    def _give_back(self, resident: _Resident) -> None:
        if resident.keep_s <= 0 and not resident.waiting:
            self._unload(resident)
        with self._changed:
            resident.expires_at = time.monotonic() + resident.keep_s
            if resident.waiting:
                resident.waiting.popleft().set()
            else:
                resident.taken = False
            self._changed.notify_all()

    def _loaded(self, resident: _Resident, context: int | None, call: Call) -> Runner:
        wanted = resident.model.context(context or self._context)
        runner = resident.runner
        if runner is not None:
            # A wish is met exactly; without one, a model that was loaded larger need not be loaded again.
            fits = resident.wanted_context == wanted or (context is None and resident.wanted_context > wanted)
            if fits and runner.alive:
                return runner
            self._unload(resident)
        self._find_place(call)
        try:
            runner = Runner(resident.model, wanted)
        except BaseException:
            self._free_place()
            raise
        # Known before it is ready, so that `close` finds it.
        resident.runner, resident.wanted_context = runner, wanted
        runner.await_ready()
        return runner

    def _unload(self, resident: _Resident) -> None:
        """Only for the one whose turn it is."""
        if resident.runner is not None:
            resident.runner.close()
            resident.runner = None
            _log.info("unloaded %s", resident.model.name)
            self._free_place()

    def _find_place(self, call: Call) -> None:
        """Count one more loaded model; when there are too many, unload an idle one or wait for one."""

        def wake() -> None:
            with self._changed:
                self._changed.notify_all()

        with call.breaking(wake):
            while True:
                with self._changed:
                    call.check()
                    if self._places < MAX_LOADED:
                        self._places += 1
                        return
                    idle = [r for r in self._by_name.values() if r.runner is not None and r.idle]
                    if not idle:
                        self._changed.wait()
                        continue
                    oldest = min(idle, key=lambda resident: resident.expires_at)
                    oldest.taken = True
                self._unload(oldest)
                self._give_back(oldest)

    def _free_place(self) -> None:
        with self._changed:
            self._places -= 1
            self._changed.notify_all()

    def _reap(self) -> None:
        while True:
            with self._changed:
                if self._ending:
                    return
                now = time.monotonic()
                loaded = [r for r in self._by_name.values() if r.runner is not None and r.idle]
                due = next((r for r in loaded if r.expires_at <= now), None)
                if due is None:
                    soonest = min((r.expires_at for r in loaded), default=math.inf)
                    self._changed.wait(None if soonest == math.inf else min(soonest - now, threading.TIMEOUT_MAX))
                    continue
                due.taken = True
            self._unload(due)
            self._give_back(due)
