"""The embedded Postgres: a real server for those who run none, owned by one process and never outliving it.

Loopback TCP with a password of its own, no Unix socket (their paths are short, ours may not be), fsync on. Others find
it by the state file of its data directory. On Linux the kernel stops it when its owner dies, even by kill -9.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

from llm_mcp.child import follow_owner
from llm_mcp.errors import SetupError

from .cluster import Cluster, make_folder

_LOCK = "owner.lock"
_STATE = "postgres.json"
_PORT = "postgres.port"
_FIRST_WORDS = "postgres.start.log"
# Recovery after a crash replays the log first; a server that is at it is not dead.
_READY_S = 300.0
_STOP_S = 30.0
_PORTS = range(16000, 32000)  # below the ephemeral ports, which anybody's outgoing connection may hold
_TRIES = 5
_PROBE_S = 0.5
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "500",
    "shared_buffers": "64MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # A peer that vanished must not keep a row locked for the kernel's two hours.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "8s",
    "client_connection_check_interval": "2s",
    "idle_in_transaction_session_timeout": "60s",
    # A week of log files, each overwritten a week later.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
}


class EmbeddedPostgres:
    """The server of one data directory, for the process that owns it. Start it from the main thread.

    Parameters: `interrupted`, asked while a start waits: once it says yes, the start is given up. A context manager:
    `with EmbeddedPostgres(data_dir) as server: server.dsn`.
    """

    def __init__(self, data_dir: Path, *, interrupted: Callable[[], bool] = lambda: False) -> None:
        self._data_dir = data_dir.resolve()
        self._interrupted = interrupted
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None
        self._cluster: Cluster | None = None

    @property
    def dsn(self) -> str:
        """DSN of the running server, its password included."""
        if self._cluster is None or self._port is None:
            raise SetupError("the embedded Postgres does not run")
        return f"postgresql://postgres:{self._cluster.password_file.read_text()}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Make the cluster if need be, start the server and return once it serves; on the same port as before.

        To be called again when the server ended by itself, or when this failed: the data directory stays ours from the
        first success on. Raises SetupError when it cannot be started or another process owns the data directory.
        """
        ours = self._lock is not None
        if self._lock is None:
            make_folder(self._data_dir)
            self._lock = _own(self._data_dir)
        try:
            cluster = self._cluster = self._cluster or Cluster(self._data_dir)
            cluster.ensure()
            cluster.settle()
            self._launch(cluster)
            _write_state(self._data_dir / _STATE, {"dsn": self.dsn, "port": self._port})
        except BaseException:
            self._halt()
            if not ours:
                self._release()
            raise

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster, None while it does not run."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def stop(self) -> None:
        """Stop the server (open sessions are ended, nothing committed is lost) and give up the data directory."""
        if self._lock is not None:  # else the data directory, and what lies in it, is somebody else's
            self._halt()
            self._release()

    def _halt(self) -> None:
        (self._data_dir / _STATE).unlink(missing_ok=True)
        process, self._process = self._process, None
        for number, patience_s in ((signal.SIGINT, _STOP_S), (signal.SIGQUIT, _STOP_S), (signal.SIGKILL, 5.0)):
            if process is None or process.poll() is not None:
                return
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=patience_s)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, cluster: Cluster) -> None:
        first_words = self._data_dir / _FIRST_WORDS
        for left in reversed(range(_TRIES)):
            port = self._port or self._usual_port() or _free_port()
            settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
            with first_words.open("wb") as said:
                self._process = subprocess.Popen(
                    [cluster.bin / "postgres", "-D", cluster.path, "-p", str(port), *settings],
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is for the owner
                    preexec_fn=follow_owner(signal.SIGINT),  # noqa: PLW1509 - prctl must run in the child; it takes no lock
                    **cluster.account.popen_options(),
                )
            if self._wait_ready(cluster, self._process):
                if port != self._port:
                    (self._data_dir / _PORT).write_text(str(port))
                    self._port = port
                return
            words = first_words.read_text(errors="replace").strip()
            if "could not bind" in words and left and self._port is None:
                continue  # somebody took it since we looked
            raise SetupError(f"Postgres did not start: {_told(words)} (see {first_words})")

    def _usual_port(self) -> int | None:
        """Return the port of earlier times when it is free: other processes may know us by it."""
        try:
            port = int((self._data_dir / _PORT).read_text())
        except (OSError, ValueError):
            return None
        return port if port in _PORTS and _is_free(port) else None

    def _wait_ready(self, cluster: Cluster, process: subprocess.Popen[bytes]) -> bool:
        end = time.monotonic() + _READY_S
        while process.poll() is None:
            if self._interrupted():
                raise SetupError("told to stop before Postgres was ready")
            if cluster.status() == (process.pid, "ready"):
                return True
            if time.monotonic() > end:
                raise SetupError(f"Postgres was not ready within {_READY_S:g} s (see {cluster.path / 'log'})")
            time.sleep(0.01)  # the postmaster says it in a file, and nowhere else
        return False


def running_dsn(data_dir: Path) -> str | None:
    """Return the DSN of the server that runs for this data directory, None when there is none."""
    try:
        known = json.loads((data_dir / _STATE).read_text())
        dsn, port = str(known["dsn"]), int(known["port"])
        # A process may be long dead and yet be listed; one that accepts is not.
        socket.create_connection(("127.0.0.1", port), timeout=_PROBE_S).close()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dsn


def _own(data_dir: Path) -> IO[str]:
    """Take the data directory for this process; the lock ends with it."""
    path = data_dir / _LOCK
    try:
        file = os.fdopen(os.open(path, os.O_CREAT | os.O_RDWR, 0o600), "r+")
    except OSError as error:
        raise SetupError(f"data dir {data_dir}: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read(20).strip() or "?"
        file.close()
        raise SetupError(
            f"{data_dir} is in use by another llm-mcp (pid {owner}): stop it, or choose another --data-dir"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _told(words: str) -> str:
    """Return the last few things a server said, on one line and without their times."""
    lines = [re.sub(r"^\S+ \S+ \S+ \[\d+\] ", "", line).strip() for line in words.splitlines()]
    return "; ".join(lines[-3:]) or "no word why"


def _write_state(path: Path, state: dict[str, object]) -> None:
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        json.dump(state, file)
    draft.rename(path)


def _free_port() -> int:
    for port in random.sample(_PORTS, 50):
        if _is_free(port):
            return port
    raise SetupError("no free port on 127.0.0.1 for Postgres")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Postgres itself does: connections of an earlier server that are still closing are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
