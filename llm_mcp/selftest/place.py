"""Where a self-test happens: the user's Postgres, or one for the moment, and in it a schema that goes in the end."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from llm_mcp import runtime as runtimes
from llm_mcp import schema
from llm_mcp.config import Settings
from llm_mcp.embedded import postgres as embedded
from llm_mcp.embedded.cluster import make_folder
from llm_mcp.errors import SetupError
from llm_mcp.runtime import Runtime
from llm_mcp.store.scratch import ScratchSchema

from . import actors
from .processes import undisturbed

Say = Callable[[str], None]
"""Tells the user what goes on, a line each."""

_DRAIN_S = 2.0
_REMOVE_S, _AGAIN_S = 5.0, 0.05


@dataclass(frozen=True, slots=True)
class Place:
    """A runtime over a migrated schema of its own."""

    runtime: Runtime
    server: str
    """Which Postgres: `yours`, `embedded`, or `temporary`."""


@contextmanager
def place(settings: Settings, say: Say, *, most: int) -> Iterator[Place]:
    """Give a place to measure in, and clean it up whatever happens. For the main thread.

    All is as the settings say, but for the schema, the modules and the worker's name, so that none of the user's own
    work is in it, and for how many jobs may wait: `most` at least. Raises SetupError, Unavailable.
    """
    with ExitStack() as stack:
        dsn, server = _server(stack, settings, say)
        scratch = ScratchSchema(_direct(settings, dsn, server))
        runtime = Runtime(
            settings.model_copy(
                update={
                    "db_dsn": SecretStr(dsn),
                    "db_direct_dsn": None if server == "temporary" else settings.db_direct_dsn,
                    "db_schema": scratch.name,
                    "modules": actors.__name__,
                    "worker_name": "bench",
                    "worker_processes": 1,
                    "log_level": "DEBUG" if settings.log_level == "DEBUG" else "WARNING",
                    "drain_s": _DRAIN_S,
                    "max_queued": settings.max_queued and max(settings.max_queued, most),
                }
            )
        )
        runtime.require_sessions()
        stack.callback(undisturbed, lambda: _clean(runtime, scratch, say))
        for name in scratch.take():
            say(f"dropped {name}, left behind by a run that was killed")
        schema.migrate(runtime)
        runtimes.use(runtime)
        yield Place(runtime, server)


def _clean(runtime: Runtime, scratch: ScratchSchema, say: Say) -> None:
    runtimes.use(None)
    runtime.close()
    try:
        scratch.drop()
    except SetupError as error:  # what was measured is true all the same
        say(str(error))


def _direct(settings: Settings, dsn: str, server: str) -> str:
    direct = settings.db_direct_dsn
    return dsn if direct is None or server == "temporary" else direct.get_secret_value()


def _server(stack: ExitStack, settings: Settings, say: Say) -> tuple[str, str]:
    """Return a DSN and whose server it is."""
    if settings.db_dsn is not None:
        return settings.db_dsn.get_secret_value(), "yours"
    running = embedded.running_dsn(settings.data_dir)
    if running is not None:
        return running, "embedded"
    say("no DB_DSN is set and no embedded Postgres runs: starting a temporary one")
    folder = stack.enter_context(_beside(settings.data_dir))
    server = embedded.EmbeddedPostgres(folder)
    stack.callback(undisturbed, server.stop)
    server.start()
    return server.dsn, "temporary"


@contextmanager
def _beside(data_dir: Path) -> Iterator[Path]:
    """A folder for the moment on the disk where an embedded Postgres would have its data."""
    made = None if data_dir.exists() else data_dir
    make_folder(data_dir)
    try:
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=data_dir))
    except OSError as error:
        raise SetupError(f"data dir {data_dir}: {error.strerror}") from None
    try:
        folder.chmod(0o711)  # the server's account is another one where we are root
        yield folder
    finally:
        undisturbed(lambda: _remove(folder))
        if made is not None:
            with contextlib.suppress(OSError):  # somebody else uses it by now
                made.rmdir()


def _remove(folder: Path) -> None:
    end = time.monotonic() + _REMOVE_S
    while folder.exists() and time.monotonic() < end:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            time.sleep(_AGAIN_S)  # what an interrupted initdb had started still writes
