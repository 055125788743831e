"""Which models can be named now, and who answers a call: the machines and the cloud providers, asked now and then.

Listings are kept for a few seconds and renewed in the background, so that a call waits for none it has seen before.
Each source is asked by a thread of its own, which is cut when its time is over; one that does not answer keeps what it
had, marked as away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from .errors import LlmMcpError, ModelNotFound, NoProvider
from .http import Wire
from .providers.base import Model
from .routing import AUTO, LOCAL_DEVICE, Offer, Route, Verb, choose
from .runtime import Runtime
from .store import devices as machines

__all__ = ["AUTO", "LOCAL_DEVICE", "Device", "Fleet", "Offer", "Route", "Verb"]

log = logging.getLogger(__name__)

# How long a device has to list its models, and how long its list is good for, s.
_DEVICE_CAP_S = 2.0
_DEVICE_FRESH_S = 5.0
# The same for a cloud provider, whose models are many and change rarely.
_CLOUD_CAP_S = 5.0
_CLOUD_FRESH_S = 600.0
# A list of this many times that age is not believed any more, but waited for.
_STALE = 6
# A refusal may rest on a list this old, s: the devices are not asked for what is not there a thousand times a second.
_MOMENT_S = 1.0
_MOST_MACHINES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A machine that serves models to us, or one of a worker's; its address is nobody's business.

    `status` is online, offline or unknown; `provider` whose dialect its models speak, "" when it serves none; `models`
    are names, `loaded` those of them that are in memory; `last_seen`, when its worker was last heard of.
    """

    id: str
    name: str
    platform: str = ""
    arch: str = ""
    status: str
    provider: str = ""
    models: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    last_seen: datetime | None = None


class Fleet:
    """What can be reached from here. One a process, for it remembers: `Fleet.of`. Safe for threads."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._devices = [
            _Source(runtime, "ollama", device_id, cap_s=_DEVICE_CAP_S, fresh_s=_DEVICE_FRESH_S)
            for device_id in runtime.devices
        ]
        keys = {"openai": self._settings.openai_api_key, "openrouter": self._settings.openrouter_api_key}
        self._clouds = [
            _Source(runtime, name, None, cap_s=_CLOUD_CAP_S, fresh_s=_CLOUD_FRESH_S)
            for name, key in keys.items()
            if key is not None
        ]

    @classmethod
    def of(cls, runtime: Runtime) -> Fleet:
        """Return the fleet of a process."""
        return runtime.part("fleet", cls)

    def models(self) -> list[Offer]:
        """Return every model that can be named now: the devices' first, in their order, then the cloud's.

        A model that two devices have is in it twice.
        """
        sources = [*self._devices, *self._clouds]
        _look(sources)
        return [offer for source in sources for offer in source.offers()]

    def devices(self) -> list[Device]:
        """Return the machines that serve models, in their order, then those of workers, the one seen last first.

        They are a thousand at most. Raises Unavailable.
        """
        _look(self._devices)
        known = {row["id"]: Device(**row) for row in machines.known(self._runtime.db, n=_MOST_MACHINES)}
        serving = [source.device(known.pop(source.device_id or "", None)) for source in self._devices]
        return [*serving, *known.values()]

    def route(self, model: str | None, verb: Verb, *, local_only: bool = False) -> Route:
        """Return where a call for a model goes; None, "" or "auto" is the default model.

        `local_only`: it must not leave our machines. Raises ModelNotFound, and NoProvider (`no_api_key`, `no_device`,
        `not_local`) when nobody can take it now.
        """
        _look(self._devices)
        try:
            return self._choose(model, verb, local_only=local_only)
        except (ModelNotFound, NoProvider):
            # It may have come since: only an answer of now is good enough for a refusal.
            if not _look(self._devices, anew=True):
                raise
        return self._choose(model, verb, local_only=local_only)

    def _choose(self, model: str | None, verb: Verb, *, local_only: bool) -> Route:
        offers = [offer for source in self._devices for offer in source.offers()]
        answered = any(not source.away for source in self._devices)
        route = choose(model, verb, offers, self._settings, answered=answered)
        if local_only and route.device_id is None:
            raise NoProvider("no machine of ours has this model now, and it must not go to the cloud", code="not_local")
        return route


class _Source:
    """A device or a provider, and what it last listed.

    Parameters: `cap_s`, the time it has to answer, s; `fresh_s`, how long the answer is good for, s.
    """

    def __init__(self, runtime: Runtime, provider: str, device_id: str | None, *, cap_s: float, fresh_s: float) -> None:
        self.cap_s = cap_s
        self.away = True
        self._runtime = runtime
        self._provider = provider
        self.device_id = device_id
        self._fresh_s = fresh_s
        self._models: list[Model] = []
        self._mutex = threading.Lock()
        self._looked_at: float | None = None
        self._looking: threading.Event | None = None

    def offers(self) -> list[Offer]:
        """Return what it had when it last answered."""
        away = self.away
        return [
            Offer(
                name=model.name,
                provider=self._provider,
                device_id=self.device_id,
                loaded=model.loaded and not away,
                away=away,
                capabilities=model.capabilities,
                entry=model.entry,
            )
            for model in self._models
        ]

    def device(self, known: Device | None) -> Device:
        """Return it as a machine: what we see of it over what its worker said, if it has one."""
        offers = self.offers()
        name = self.device_id or ""
        return replace(
            known or Device(id=name, name=name, status="unknown"),
            status="offline" if self.away else "online",
            provider=self._provider,
            models=tuple(offer.name for offer in offers),
            loaded=tuple(offer.name for offer in offers if offer.loaded),
        )

    def look(self, *, anew: bool) -> threading.Event | None:
        """Have it asked if its list is old (`anew`: if it is older than a moment); return what is set when it answered.

        None: what we have will do.
        """
        now = time.monotonic()
        with self._mutex:
            age_s = None if self._looked_at is None else now - self._looked_at
            good_for_s = min(self._fresh_s, _DEVICE_FRESH_S) if self.away else self._fresh_s
            if self._looking is None and (age_s is None or age_s >= (_MOMENT_S if anew else good_for_s)):
                self._looking = threading.Event()
                threading.Thread(target=self._look, args=(self._looking,), name="llm-mcp-look", daemon=True).start()
            # Who was silent the last time is not waited for, but by somebody who would be refused otherwise.
            usable = age_s is not None and (self.away or age_s < self._fresh_s * _STALE) and not anew
            return None if usable else self._looking

    def _look(self, done: threading.Event) -> None:
        wire = Wire(read_timeout_s=self.cap_s, connect_timeout_s=self.cap_s)
        watchdog = threading.Timer(self.cap_s, wire.cut)
        watchdog.daemon = True
        watchdog.start()
        try:
            self._models = self._runtime.provider(self._provider, device_id=self.device_id).models(wire=wire)
            self.away = False
        except LlmMcpError as error:
            if not self.away:
                log.warning(
                    "a source of models does not answer",
                    extra={"action": "source_away", "provider": self._provider, "device_id": self.device_id or ""}
                    | {"error": error.code},
                )
            self.away = True
        except Exception:
            log.exception("a list of models made no sense", extra={"action": "source_failed"})
            self.away = True
        finally:
            watchdog.cancel()
            wire.close()
            with self._mutex:
                self._looked_at = time.monotonic()
                self._looking = None
            done.set()


def _look(sources: Iterable[_Source], *, anew: bool = False) -> bool:
    """Have the sources asked whose lists are old, all at once, and wait for those that have none we could use.

    Says whether it waited for any.
    """
    now = time.monotonic()
    waiting = [(source, done) for source in sources if (done := source.look(anew=anew)) is not None]
    for source, done in waiting:
        # Connecting cannot be cut: one that is still at it when its time is over is not waited for.
        done.wait(max(0.0, now + source.cap_s - time.monotonic()))
    return bool(waiting)
