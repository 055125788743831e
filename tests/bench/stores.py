"""Where the queues of a run lie: one embedded Postgres with its default durability, and a Redis that keeps nothing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from llm_mcp.child import follow_owner
from llm_mcp.embedded.postgres import EmbeddedPostgres
from tests.conftest import new_scratch
from tests.waiting import until

from .environments import Skipped
from .roster import Peer

_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "wal_level")
_PORTS = range(20000, 32000)
_NO_REDIS = "needs redis-server on the PATH (apt-get install redis-server)"


class Stores:
    """The servers of one run. A context manager."""

    def __init__(self) -> None:
        self.scratch = new_scratch("bench")
        self._postgres = EmbeddedPostgres(self.scratch / "data")
        self._redis: subprocess.Popen[bytes] | None = None
        self._redis_port = 0

    def __enter__(self) -> Stores:
        try:
            self._postgres.start()
        except BaseException:
            shutil.rmtree(self.scratch, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._redis is not None:
            self._redis.kill()
            self._redis.wait()
        self._postgres.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def dsn(self, database: str) -> str:
        """Return the DSN of a database, as a URL."""
        return self._postgres.dsn.removesuffix("postgres") + database

    def template(self, peer: Peer) -> str:
        """Return the name of the database with the peer's empty tables; who shares a driver shares it."""
        return f"empty_{peer.driver.removesuffix('.py').replace('.', '_')}"

    def create(self, database: str, *, template: str = "template0") -> str:
        """Make a database, anew when there is one of this name, and return its DSN."""
        with self._admin() as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(database), sql.Identifier(template)
                )
            )
        return self.dsn(database)

    def fresh(self, peer: Peer) -> str:
        """Return the DSN of an empty queue for the peer. Raises Skipped."""
        if peer.store == "redis":
            return self._empty_redis()
        if peer.store == "memory":
            return ""
        return self.create(f"bench_{peer.name.replace('-', '_')}", template=self.template(peer))

    @contextmanager
    def filling(self, dsn: str) -> Iterator[None]:
        """While a queue is filled, not measured, its commits do not wait for the disk; then all of it is settled."""
        if not dsn.startswith("postgresql:"):
            yield
            return
        database = sql.Identifier(dsn.rpartition("/")[2])
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(database))
            yield
            connection.execute(sql.SQL("ALTER DATABASE {} RESET synchronous_commit").format(database))
            connection.execute("VACUUM ANALYZE")

    def checkpoint(self) -> None:
        """Have everything on disk before the clock runs."""
        with self._admin() as admin:
            admin.execute("CHECKPOINT")

    def facts(self) -> dict[str, str]:
        """Return the servers' versions, and the settings that decide what a commit costs, as Postgres tells them."""
        with self._admin() as admin:
            names = ("server_version", *_SETTINGS)
            facts = {name: str((admin.execute(f"SHOW {name}").fetchone() or ("?",))[0]) for name in names}
        if redis := shutil.which("redis-server"):
            told = subprocess.run([redis, "--version"], capture_output=True, text=True, check=True).stdout
            facts["redis"] = told.partition("v=")[2].partition(" ")[0]
        return facts

    def _admin(self) -> psycopg.Connection:
        return psycopg.connect(self._postgres.dsn, autocommit=True)

    def _empty_redis(self) -> str:
        if self._redis is None:
            server = shutil.which("redis-server")
            if server is None:
                raise Skipped(_NO_REDIS)
            self._redis_port = _free_port()
            nothing_kept = ["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", str(self.scratch)]
            self._redis = subprocess.Popen(
                [server, "--bind", "127.0.0.1", "--port", str(self._redis_port), *nothing_kept],
                stdout=subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", "")},
                start_new_session=True,
                preexec_fn=follow_owner(signal.SIGKILL),  # noqa: PLW1509 - prctl must run in the child; it takes no lock
            )
        until(self._flush_redis)
        return f"redis://127.0.0.1:{self._redis_port}/0"

    def _flush_redis(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._redis_port), timeout=5) as redis:
                redis.sendall(b"FLUSHALL\r\n")
                return redis.recv(64).startswith(b"+OK")
        except OSError:
            return False


def wait_idle(patience_s: float = 5.0) -> bool:
    """Wait until the machine is 85 % idle, so that nobody else is measured; say whether it became so."""
    end = time.monotonic() + patience_s
    while True:
        before = _cpu()
        time.sleep(0.2)
        after = _cpu()
        if after[0] - before[0] >= 0.85 * (after[1] - before[1]):
            return True
        if time.monotonic() > end:
            return False


def _cpu() -> tuple[int, int]:
    """Return (idle, all) ticks of the machine since it started; (1, 1) and growing where it does not tell."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    except OSError:
        now = time.monotonic_ns()
        return now, now
    return fields[3] + fields[4], sum(fields[:8])


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as door:
            try:
                door.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
