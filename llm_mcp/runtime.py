"""The composition root: what this process talks to, built from the settings when first needed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar
from uuid import UUID

from . import config, local_models
from .admission import Admission
from .config import Settings
from .embedded import postgres as embedded_postgres
from .errors import ProviderError, SetupError
from .providers.base import Provider
from .providers.ollama import Ollama
from .providers.openai import OpenAI
from .providers.openrouter import OpenRouter
from .routing import LOCAL_DEVICE
from .store import health
from .store.listen import JOB_UPDATE, Listener, Notifier
from .store.pool import Database

_LOOK_AGAIN_S = 5.0
T = TypeVar("T")


class _once(Generic[T]):  # noqa: N801 - a decorator
    """A part that is made when first asked for, once, whichever threads ask."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __get__(self, runtime: Runtime, _: type[Runtime] | None = None) -> T:
        name = self._make.__name__
        with runtime._making:
            if name not in runtime._parts:
                runtime._parts[name] = self._make(runtime)
            part: T = runtime._parts[name]
            return part


class Runtime:
    """Everything one process shares: pool, notices, providers. Nothing opens before its first use.

    Parameters: `providers`, to be used instead of our own under their names, such as a scripted fake in a test. Not for
    use across a fork: `current()` gives each process its own.
    """

    def __init__(self, settings: Settings, *, providers: Mapping[str, Provider] | None = None) -> None:
        self.settings = settings
        self._providers = dict(providers or {})
        self._mutex = threading.Lock()
        self._making = threading.RLock()  # one part is made of another
        self._parts: dict[str, Any] = {}
        self._ollama: tuple[float, str] | None = None

    @_once
    def dsn(self) -> str:
        """DSN of the database: the one set, else that of the embedded server running for this data directory.

        Raises SetupError when there is neither.
        """
        if self.settings.db_dsn is not None:
            return self.settings.db_dsn.get_secret_value()
        running = embedded_postgres.running_dsn(self.settings.data_dir)
        if running is None:
            raise SetupError("no database: start `llm-mcp up`, or set DB_DSN to a Postgres of yours")
        return running

    @_once
    def direct_dsn(self) -> str:
        """DSN for LISTEN and session locks, past any pooler."""
        direct = self.settings.db_direct_dsn
        return self.dsn if direct is None else direct.get_secret_value()

    @_once
    def db(self) -> Database:
        """The connection pool."""
        settings = self.settings
        return Database(self.dsn, schema=settings.db_schema, size=settings.db_pool_size, pooled=settings.db_pooler)

    @_once
    def admission(self) -> Admission:
        """Says whether more jobs may join the queue."""
        return Admission(self.db, most=self.settings.max_queued)

    @_once
    def notifier(self) -> Notifier:
        """Sends wake-ups."""
        return Notifier(self.dsn, schema=self.settings.db_schema)

    @_once
    def listener(self) -> Listener:
        """Hears wake-ups."""
        return Listener(self.direct_dsn, schema=self.settings.db_schema)

    def part(self, name: str, make: Callable[[Runtime], T]) -> T:
        """Return this process's one service of that name, made by `make` when it is first asked for."""
        with self._making:
            if name not in self._parts:
                self._parts[name] = make(self)
            part: T = self._parts[name]
            return part

    def provider(self, name: str, *, device_id: str | None = None) -> Provider:
        """Return the provider of that name: `ollama`, `openai` or `openrouter`.

        `device_id`: the machine whose Ollama is meant, one of `devices`; None or "": this process's own. Raises
        ProviderError: retryable when no Ollama is to be found, not so for a device nobody set up here.
        """
        if name in self._providers:
            return self._providers[name]
        settings = self.settings
        match name:
            case "ollama":
                return Ollama(
                    self.ollama_url(device_id),
                    default_model=settings.ollama_model,
                    default_embed_model=settings.ollama_embed_model,
                )
            case "openai":
                return OpenAI(
                    settings.openai_base_url,
                    settings.openai_api_key,
                    default_model=settings.openai_model,
                    default_embed_model=settings.openai_embed_model,
                )
            case "openrouter":
                return OpenRouter(
                    settings.openrouter_base_url,
                    settings.openrouter_api_key,
                    default_model=settings.openrouter_model,
                )
        raise SetupError(f"no provider is called {name!r}")

    @property
    def devices(self) -> list[str]:
        """The ids of the machines that serve models to us: our own Ollama first."""
        return [LOCAL_DEVICE, *self.settings.extra_devices]

    def ollama_url(self, device_id: str | None = None) -> str:
        """Return the base URL of a device; of our own it is the Ollama set, the local one, else the embedded device.

        Raises ProviderError: retryable when we have none, not so for a device that nobody set up here. The answer is
        kept for a few seconds.
        """
        if device_id and device_id != LOCAL_DEVICE:
            url = self.settings.extra_devices.get(device_id)
            if url is None:
                words = "no device of that id is set up here (OLLAMA_EXTRA_ENDPOINTS)"
                raise ProviderError(words, retryable=False, code="not_found")
            return url
        with self._mutex:
            known = self._ollama
        if known is not None and time.monotonic() - known[0] < _LOOK_AGAIN_S:
            return known[1]
        found = local_models.find(self.settings)
        if found is None:
            raise ProviderError(
                "no Ollama with a model at 127.0.0.1:11434 and no embedded model running (see: llm-mcp doctor)",
                retryable=True,
                code="unreachable",
            )
        _, url = found
        with self._mutex:
            self._ollama = (time.monotonic(), url)
        return url

    def require_sessions(self) -> None:
        """Refuse to work where no session is ours. Raises SetupError saying what to set, Unavailable."""
        health.require_sessions(
            self.direct_dsn, "DB_DSN" if self.settings.db_direct_dsn is None else "LLM_MCP_DB_DIRECT_DSN"
        )

    def announce(self, *job_ids: UUID) -> None:
        """Tell watchers that these jobs, or their streams, changed."""
        if job_ids:
            self.notifier.notify_each(JOB_UPDATE, map(str, job_ids))

    def close(self) -> None:
        """Close what was opened."""
        for name in ("hub", "notifier", "listener", "db"):
            with self._making:
                part = self._parts.get(name)
            if part is not None:
                part.close()


_current: tuple[int, Runtime] | None = None
_current_mutex = threading.Lock()


def current() -> Runtime:
    """Return this process's runtime, made from the environment unless `use` set one."""
    global _current  # noqa: PLW0603 - the one process-wide object, behind its lock
    with _current_mutex:
        if _current is None or _current[0] != os.getpid():
            _current = (os.getpid(), Runtime(config.settings()))
        return _current[1]


def use(runtime: Runtime | None) -> None:
    """Make `runtime` this process's own (None: from the environment again)."""
    global _current  # noqa: PLW0603 - as above
    with _current_mutex:
        _current = None if runtime is None else (os.getpid(), runtime)
