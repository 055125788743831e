"""Two servers, one of which follows the other and can take its place; clients are told of both."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from llm_mcp.child import follow_owner
from llm_mcp.embedded import postgres
from llm_mcp.embedded.cluster import Cluster
from tests.acceptance.running import living, wait_gone
from tests.chaos.stage import Stage
from tests.waiting import until

_REACHED = "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= %s::text::pg_lsn"
_SYNC = "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')"


class Copy:
    """A server whose files were copied from another one that runs, and that follows it until it is promoted.

    Parameters: `source`, a DSN of the other one, by which it also follows; `path`, where its files are to be; `like`,
    the cluster whose programs and account it has; `port`, its own.
    """

    def __init__(self, source: str, path: Path, like: Cluster, port: int) -> None:
        self._path = path
        self._like = like
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.dsn = like_dsn(source, port)
        path.mkdir(0o700)
        like.account.own(path)
        subprocess.run(
            [
                *(like.bin / "pg_basebackup", "--pgdata", path, "--dbname", source, "--write-recovery-conf"),
                *("--wal-method", "stream", "--checkpoint", "fast", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **like.account.popen_options(),
        )

    def start(self) -> None:
        """Start it and wait until it can be asked."""
        settings = [part for name, value in postgres._SETTINGS.items() for part in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [self._like.bin / "postgres", "-D", self._path, "-p", str(self._port), *settings],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=follow_owner(signal.SIGQUIT),  # noqa: PLW1509 - prctl must run in the child; it takes no lock
            **self._like.account.popen_options(),
        )

        def serves() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"the copy did not start, see {self._path / 'log'}"
            try:
                psycopg.connect(self.dsn).close()
            except psycopg.OperationalError:
                return False
            return True

        until(serves, every_s=0.05)

    @property
    def pid(self) -> int:
        """Process id of its postmaster; it must run."""
        assert self._process is not None
        assert self._process.poll() is None
        return self._process.pid

    def stop(self) -> None:
        """End it for good."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)


class Replicas(Stage):
    """A stage with two servers. `dsn` names both: it leads to the one that takes writes."""

    def __init__(self) -> None:
        super().__init__()
        self._ports: tuple[int, int] | None = None
        self._copies: list[Copy] = []
        self._first = 0
        """Which of the two ports is the primary's."""
        self.promoted_at = float("-inf")
        """When the last standby took over, monotonic, s."""

    @property
    def dsn(self) -> str:
        """The way to whichever server takes writes."""
        alone = self._server.dsn
        if self._ports is None:
            port = int(str(conninfo_to_dict(alone)["port"]))
            self._ports = (port, postgres._free_port())
        hosts, ports = ",".join(["127.0.0.1"] * 2), ",".join(map(str, self._ports))
        return make_conninfo(alone, host=hosts, port=ports, target_session_attrs="read-write")

    @property
    def primary(self) -> str:
        """The straight way to the primary."""
        assert self.dsn
        assert self._ports is not None
        return like_dsn(self._server.dsn, self._ports[self._first])

    def close(self) -> None:
        """Stop all of it and remove the folder."""
        for copy in self._copies:
            copy.stop()
        super().close()

    def follow(self, source: str | None = None, *, synchronous: bool) -> None:
        """Make a standby of the primary that follows it by this DSN, and wait until it does.

        `synchronous`: from then on the primary acknowledges a commit when the standby has it too.
        """
        assert self._server._cluster is not None
        assert self._ports is not None
        path = self.folder / f"copy{len(self._copies)}"
        copy = Copy(source or self.primary, path, self._server._cluster, self._ports[1 - self._first])
        self._copies.append(copy)
        copy.start()
        with psycopg.connect(self.primary, autocommit=True) as conn:
            if synchronous:
                conn.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                conn.execute("SELECT pg_reload_conf()")
                until(lambda: _count(conn, _SYNC) > 0)
            _has_all(conn)

    def catch_up(self) -> None:
        """Wait until the standby has all that is written by now."""
        with psycopg.connect(self.primary, autocommit=True) as conn:
            _has_all(conn)

    def power_cut(self) -> None:
        """End the primary, all of its processes at once."""
        first = self._server.pid if len(self._copies) == 1 else self._copies[-2].pid
        assert first is not None
        kill_server(first)

    def promote(self) -> None:
        """Have the standby take over."""
        self._first = 1 - self._first
        with psycopg.connect(self.primary, autocommit=True) as conn:
            conn.execute("SELECT pg_promote()")
        self.promoted_at = time.monotonic()

    def hand_over(self) -> None:
        """Have the standby take over from a primary that takes no more writes, but whose sessions stay open."""
        with psycopg.connect(self.primary, autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            conn.execute("SELECT pg_reload_conf()")
            until(lambda: _count(conn, "SELECT (current_setting('default_transaction_read_only') = 'on')::integer"))
        self.catch_up()
        self.promote()


def like_dsn(dsn: str, port: int) -> str:
    """Return the DSN of the server at this port of ours that has the accounts of that one."""
    parts = conninfo_to_dict(dsn)
    return make_conninfo("", **{**parts, "host": "127.0.0.1", "port": port})


def every_process(postmaster: int) -> list[int]:
    """Return the ids of a server's processes, the postmaster's first."""
    return [postmaster, *living(lambda _, parent: parent == postmaster)]


def kill_server(postmaster: int) -> None:
    """Kill every process of a server; none sees another one end and says goodbye."""
    memory = Path(f"/proc/{postmaster}/cwd/postmaster.pid").read_text().splitlines()[6].split()
    os.kill(postmaster, signal.SIGSTOP)
    pids = every_process(postmaster)
    for pid in reversed(pids):
        os.kill(pid, signal.SIGKILL)
    wait_gone(lambda *_: False, pids=pids)
    if len(memory) == 2:  # it would stay until the machine is started again
        subprocess.run(["ipcrm", "-m", memory[1]], check=False, capture_output=True)


def _has_all(conn: psycopg.Connection[Any]) -> bool:
    """Wait until the standby has all there is now on disk."""
    row = conn.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None
    return until(lambda: _count(conn, _REACHED, row[0]) > 0)


def _count(conn: psycopg.Connection[Any], query: str, *values: object) -> int:
    row = conn.execute(query.encode(), values or None).fetchone()
    assert row is not None
    return int(row[0])
