"""The launcher of the embedded Postgres: owners, accounts, crashes, and what they leave behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from llm_mcp.embedded import cluster
from llm_mcp.embedded.postgres import EmbeddedPostgres, running_dsn
from llm_mcp.errors import SetupError
from tests.conftest import new_scratch
from tests.waiting import until

OWNER = """
    import sys
    from pathlib import Path
    from llm_mcp.embedded.postgres import EmbeddedPostgres
    with EmbeddedPostgres(Path(sys.argv[1])) as server:
        print(server.pid, flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    scratch = new_scratch("owner")
    yield scratch / "data"
    shutil.rmtree(scratch, ignore_errors=True)


def start_owner(folder: Path) -> tuple[subprocess.Popen[str], int]:
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


def end_owner(owner: subprocess.Popen[str]) -> None:
    """Let it end by itself; a killed one is only taken note of."""
    owner.communicate(timeout=30)


def alive(pid: int) -> bool:
    """Whether a process lives; a zombie that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as conn:
        row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_it_is_durable_private_and_scram(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        for setting, value in (
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("full_page_writes", "on"),
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
        ):
            assert ask(server.dsn, f"SHOW {setting}") == value
        secret = (folder / "postgres.password").read_text()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.dsn.replace(secret, "wrong"))
        for name in ("postgres.password", "postgres.json"):
            assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        assert stat.S_IMODE(next(folder.glob("pg[0-9]*")).stat().st_mode) == 0o700


def test_data_survives_a_restart(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server, psycopg.connect(server.dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS n")
    assert running_dsn(folder) is None
    with EmbeddedPostgres(folder) as server:
        assert running_dsn(folder) == server.dsn
        assert ask(server.dsn, "SELECT n FROM kept") == 42


def test_one_owner_at_a_time(folder: Path) -> None:
    owner, pid = start_owner(folder)
    try:
        second = EmbeddedPostgres(folder)
        with pytest.raises(SetupError, match=f"in use by another llm-mcp \\(pid {owner.pid}\\)"):
            second.start()
        second.stop()  # which is not to hide the first one from its clients
        dsn = running_dsn(folder)
        assert dsn is not None
        assert ask(dsn, "SELECT 1") == 1
    finally:
        end_owner(owner)
    until(lambda: not alive(pid))
    with EmbeddedPostgres(folder):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its owner's death")
def test_it_dies_with_an_owner_that_is_killed(folder: Path) -> None:
    owner, pid = start_owner(folder)
    dsn = running_dsn(folder)
    assert dsn is not None
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS n")
    owner.kill()
    end_owner(owner)
    until(lambda: not alive(pid), timeout_s=10)
    assert running_dsn(folder) is None
    with EmbeddedPostgres(folder) as server:
        assert ask(server.dsn, "SELECT n FROM kept") == 42


def test_a_new_owner_waits_for_the_old_server_to_end(folder: Path) -> None:
    """The next owner may come while the old server is still shutting down."""
    owner, pid = start_owner(folder)
    os.kill(pid, signal.SIGSTOP)
    owner.kill()
    end_owner(owner)
    os.kill(pid, signal.SIGCONT)
    with EmbeddedPostgres(folder) as server:
        assert server.pid != pid
        assert ask(server.dsn, "SELECT 1") == 1


@pytest.mark.parametrize("stale", ["1", "0", "nonsense", ""])
def test_a_stale_pid_file_is_no_obstacle(folder: Path, stale: str) -> None:
    with EmbeddedPostgres(folder):
        pass
    pid_file = next(folder.glob("pg[0-9]*")) / "postmaster.pid"
    pid_file.write_text(f"{stale}\n/somewhere/else\n")
    with EmbeddedPostgres(folder) as server:
        assert ask(server.dsn, "SELECT 1") == 1


def test_a_killed_server_starts_again_on_its_port(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        dsn, pid = server.dsn, server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: server.pid is None)
        server.start()
        assert server.dsn == dsn
        assert ask(dsn, "SELECT 1") == 1


def test_an_interrupted_initdb_is_begun_anew(folder: Path) -> None:
    with EmbeddedPostgres(folder):
        pass
    made = next(folder.glob("pg[0-9]*"))
    shutil.rmtree(made)
    draft = made.with_name(f".{made.name}.draft")
    draft.mkdir()
    (draft / "PG_VERSION").write_text("half")
    with EmbeddedPostgres(folder) as server:
        assert ask(server.dsn, "SELECT 1") == 1


def test_a_cluster_of_another_major_version_is_refused_not_ignored(folder: Path) -> None:
    folder.mkdir(mode=0o711)
    old = folder / "pg12"
    old.mkdir()
    (old / "PG_VERSION").write_text("12\n")
    with pytest.raises(SetupError, match=r"another Postgres version \(pg12\)"):
        EmbeddedPostgres(folder).start()
    assert [entry.name for entry in folder.glob("pg*")] == ["pg12"]


def test_a_file_in_the_way_is_said(folder: Path) -> None:
    folder.write_text("")
    with pytest.raises(SetupError, match="not a folder"):
        EmbeddedPostgres(folder).start()


def test_a_refused_start_says_why_and_leaves_no_owner(folder: Path) -> None:
    with EmbeddedPostgres(folder):
        pass
    settings = next(folder.glob("pg[0-9]*")) / "postgresql.conf"
    kept = settings.read_text()
    settings.write_text(kept + "\nno_such_setting = 1\n")
    with pytest.raises(SetupError, match=r"did not start: .*no_such_setting"):
        EmbeddedPostgres(folder).start()
    settings.write_text(kept)
    with EmbeddedPostgres(folder):
        pass


@pytest.mark.parametrize("state", ["", "{", "[]", "{}", json.dumps({"dsn": "x", "port": 1})])
def test_a_broken_or_old_state_file_means_no_server(tmp_path: Path, state: str) -> None:
    (tmp_path / "postgres.json").write_text(state)
    assert running_dsn(tmp_path) is None


needs_root = [
    pytest.mark.needs_root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: Postgres changes its account only there"),
]


class TestAsRoot:
    """As root the server runs as somebody else, who must get through; no mode of a parent folder is touched."""

    pytestmark = needs_root

    def test_the_server_runs_unprivileged(self, folder: Path) -> None:
        with EmbeddedPostgres(folder) as server:
            assert Path(f"/proc/{server.pid}").stat().st_uid != 0
            assert next(folder.glob("pg[0-9]*")).stat().st_uid == Path(f"/proc/{server.pid}").stat().st_uid

    def test_a_folder_it_cannot_reach_is_refused_and_keeps_its_mode(self, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(SetupError, match="who cannot enter it"):
            EmbeddedPostgres(closed / "data").start()
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700

    def test_binaries_it_cannot_reach_are_copied_once(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        packaged = cluster.packaged_binaries()
        assert packaged is not None
        home = tmp_path / "home"
        home.mkdir(mode=0o700)
        for name in (packaged.parent.name, f"{packaged.parent.name}.libs"):
            shutil.copytree(packaged.parent.with_name(name), home / name, symlinks=True)
        monkeypatch.setattr(cluster, "packaged_binaries", lambda: home / packaged.parent.name / packaged.name)
        copies = []
        for _ in range(2):
            with EmbeddedPostgres(folder) as server:
                assert ask(server.dsn, "SELECT 1") == 1
            copies.append(next(folder.glob("postgres-*.*")).stat().st_mtime_ns)
        assert copies[0] == copies[1]
        assert stat.S_IMODE(home.stat().st_mode) == 0o700

    def test_new_parents_let_it_through_whatever_the_umask(self, folder: Path) -> None:
        before = os.umask(0o077)
        try:
            with EmbeddedPostgres(folder / "deep" / "er") as server:
                assert ask(server.dsn, "SELECT 1") == 1
        finally:
            os.umask(before)
