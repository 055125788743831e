"""What devices say of their models: which are in memory now, and what one of them is made of.

Every question has a time and a size it may take, and its answer is kept for a moment: callers ask again and again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import orjson

from .errors import Cut, LlmMcpError, ProviderError
from .http import Wire
from .providers.exchange import asking, parsed
from .runtime import Runtime

_PROVIDER = "ollama"
# How long a device has to answer, how long its answer is good for, s; how large it may be, bytes; how many are kept.
_RUNNING_CAP_S = 2.0
_RUNNING_FRESH_S = 1.0
_SHOW_CAP_S = 5.0
_SHOW_FRESH_S = 5.0
_MOST_BYTES = 32 * 2**20
_KEPT_BYTES = 2**20
_KEPT = 64


class Inspection:
    """Asks devices about their models. One a process, for it remembers: `Inspection.of`. Safe for threads."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._mutex = threading.Lock()
        self._asking = threading.Lock()
        self._running: tuple[float, list[dict[str, Any]]] | None = None
        self._shown: OrderedDict[bytes, tuple[float, dict[str, Any]]] = OrderedDict()

    @classmethod
    def of(cls, runtime: Runtime) -> Inspection:
        """Return the inspection of a process."""
        return runtime.part("inspection", cls)

    def running(self) -> list[dict[str, Any]]:
        """Return the models in memory, device by device, as their `/api/ps` says; of one that is silent none."""
        with self._asking:
            known = self._running
            if known is None or time.monotonic() - known[0] >= _RUNNING_FRESH_S:
                known = self._running = (time.monotonic(), self._ask_all())
            return known[1]

    def show(self, device_id: str | None, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a device's answer to `/api/show`. Raises ProviderError when it refuses or does not answer in time."""
        key = orjson.dumps([device_id, body], option=orjson.OPT_SORT_KEYS)
        with self._mutex:
            known = self._shown.get(key)
        if known is not None and time.monotonic() - known[0] < _SHOW_FRESH_S:
            return known[1]
        answer, size = _ask(self._runtime, device_id, "/api/show", body, cap_s=_SHOW_CAP_S)
        if size <= _KEPT_BYTES:
            with self._mutex:
                self._shown[key] = (time.monotonic(), answer)
                self._shown.move_to_end(key)
                while len(self._shown) > _KEPT:
                    self._shown.popitem(last=False)
        return answer

    def _ask_all(self) -> list[dict[str, Any]]:
        devices = self._runtime.devices
        found: list[list[dict[str, Any]]] = [[] for _ in devices]

        def ask(place: int, device_id: str) -> None:
            try:
                answer, _ = _ask(self._runtime, device_id, "/api/ps", None, cap_s=_RUNNING_CAP_S)
            except LlmMcpError:
                return
            models = answer.get("models")
            found[place] = [
                entry
                for entry in (models if isinstance(models, list) else [])
                if isinstance(entry, dict) and isinstance(entry.get("name"), str)
            ]

        threads = [threading.Thread(target=ask, args=each, daemon=True) for each in enumerate(devices)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + _RUNNING_CAP_S
        for thread in threads:
            # Connecting cannot be cut: one that is still at it when its time is over is not waited for.
            thread.join(max(0.0, until - time.monotonic()))
        return [entry for entries in list(found) for entry in entries]


def _ask(
    runtime: Runtime, device_id: str | None, path: str, body: Mapping[str, Any] | None, *, cap_s: float
) -> tuple[dict[str, Any], int]:
    """Return a device's answer to one question, and its size, bytes."""
    url = runtime.ollama_url(device_id).rstrip("/")
    wire = Wire(read_timeout_s=cap_s, connect_timeout_s=cap_s, max_bytes=_MOST_BYTES)
    watchdog = threading.Timer(cap_s, wire.cut)
    watchdog.daemon = True
    watchdog.start()
    try:
        with asking(wire, _PROVIDER, (url if "://" in url else f"http://{url}") + path, body) as answer:
            raw = answer.read()
        return parsed(_PROVIDER, raw), len(raw)
    except Cut:
        raise ProviderError("the device does not answer in time", retryable=True, code="timeout") from None
    finally:
        watchdog.cancel()
        wire.close()
