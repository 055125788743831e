"""A real pgbouncer before Postgres."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from llm_mcp.embedded.account import account_for
from tests.conftest import new_scratch
from tests.waiting import until

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")


class Bouncer:
    """A context manager: `dsn` leads to the same database by way of a pgbouncer, until the block ends.

    Parameters: `mode`, `transaction`, `session` or `statement`; `size`, its sessions at the server; `more`, other
    settings of it.
    """

    def __init__(self, dsn: str, *, mode: str = "transaction", size: int = 4, **more: object) -> None:
        assert PROGRAM is not None
        parts = conninfo_to_dict(dsn)
        self._folder = new_scratch("bouncer")
        self._port = _free_port()
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=self._port)
        config = {
            "listen_addr": "127.0.0.1",
            "listen_port": self._port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": mode,
            "default_pool_size": size,
            "max_client_conn": 200,
            **more,
        }
        ini = self._folder / "pgbouncer.ini"
        there = f"host={parts['host']} port={parts['port']} user={parts['user']} password={parts['password']}"
        ini.write_text(f"[databases]\n* = {there}\n[pgbouncer]\n" + "".join(f"{k} = {v}\n" for k, v in config.items()))
        with (self._folder / "said").open("wb") as file:
            self._process = subprocess.Popen(
                [PROGRAM, "-q", ini],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd="/",
                **account_for(Path("/nowhere")).popen_options(),
            )

    def __enter__(self) -> Bouncer:
        until(self._listens)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)

    def said(self) -> str:
        """Return what it wrote so far."""
        return (self._folder / "said").read_text()

    def _listens(self) -> bool:
        assert self._process.poll() is None, self.said()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


def _free_port() -> int:
    for port in random.sample(range(16000, 32000), 50):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("no free port")
