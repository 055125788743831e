"""Where a fault happens: workers over a witnessed database, wires that can be disturbed, clients, and a judge."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psycopg
from psycopg.rows import dict_row

from llm_mcp import Jobs, Runtime, config
from llm_mcp.child import Child
from tests.acceptance.running import living
from tests.chaos.actors import NOTES
from tests.chaos.checker import judge
from tests.chaos.evidence import Evidence, gather
from tests.chaos.load import Asked
from tests.chaos.stage import Stage
from tests.chaos.wire import Wire, Wires
from tests.faults.actors import UPSTREAM
from tests.faults.clients import ByHttp, ByLibrary, Client, submit, wanted
from tests.faults.spares import Spares
from tests.faults.upstream import Upstream
from tests.waiting import until

LEASE_S = 3.0
DRAIN_S = 1.0
THREADS = 4
ROOT = Path(__file__).parent.parent.parent

SPARES = Spares()

_READY_S = 60.0
_SETTLE_S = 60.0
_UNFINISHED = "SELECT count(*) AS n FROM llm.jobs WHERE status IN ('queued', 'running')"
_EMPTY = "TRUNCATE llm.jobs, llm.job_attempts, llm.job_events, llm.workers, llm.limits, chaos.moves"


class Member:
    """One process of ours, started by the main thread. It says `ready …` when it is.

    Parameters: `name`; `words` after `llm-mcp`; `environment`, all of it; `log`, where it writes; `through`, a command
    it is started by.
    """

    def __init__(
        self, name: str, words: Sequence[str], environment: Mapping[str, str], log: Path, through: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.log = log
        self._words = list(words)
        self._environment = dict(environment)
        self._file: IO[bytes] = log.open("ab")
        # -P: the working directory is not on the path.
        argv = [*through, sys.executable, "-P", "-m", "llm_mcp", *words]
        self._child = self._anew = Child(name, argv, environment=environment, log=self._file)
        self._by_spare = not through and "LD_PRELOAD" not in environment
        self._frozen = False

    def start(self) -> None:
        """Start it, now or after it ended."""
        self._frozen = False
        spare = SPARES.take(self._words, self._environment, self._file) if self._by_spare else None
        self._child = spare or self._anew
        if spare is None:
            self._child.start()

    @property
    def pid(self) -> int:
        """Its process id; it must be running."""
        assert self._child.pid is not None, f"{self.name} is not running: {self.said()[-2000:]}"
        return self._child.pid

    @property
    def line(self) -> str:
        """What it said when it was ready."""
        return self._child.line

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._child.pid is not None

    def wait_ready(self) -> None:
        """Wait until it serves."""
        assert until(lambda: self._child.says_ready() or not self.alive, timeout_s=_READY_S)
        assert self.alive, f"{self.name} did not start: {self.said()[-2000:]}"

    def kill(self) -> float:
        """End it as a power cut would; return the instant of it, wall clock, s."""
        self._child.kill()
        return time.time()

    def freeze(self) -> None:
        """Have it stand still."""
        self._child.signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        if self._frozen:
            self._child.signal(signal.SIGCONT)
        self._frozen = False

    def ask_to_stop(self) -> None:
        """Send it SIGTERM."""
        self._child.signal(signal.SIGTERM)

    def ended(self, timeout_s: float) -> int:
        """Wait for its end and return its exit code."""
        assert self._child.wait(timeout_s), f"{self.name} does not end"
        code = self._child.ended()
        assert code is not None
        return code

    def said(self) -> str:
        """Return its log."""
        return self.log.read_text()

    def rss_mib(self) -> float:
        """Return the resident memory of it and its children, MiB."""
        pids = [self.pid, *living(lambda _, parent: parent == self.pid)]
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def close(self) -> None:
        """End it for good."""
        self._child.kill()
        self._file.close()


class Ground:
    """A context manager over a stage that many tests use: its tables are empty at the beginning."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.folder = folder
        self.members: list[Member] = []
        self.asked: list[Asked] = []
        self.upstream = Upstream(folder / "upstream")
        self._clients: list[Client] = []
        self._laid: list[Wire] = []
        self._runtimes: list[Runtime] = []
        self._asking: Jobs | None = None

    def __enter__(self) -> Ground:
        with psycopg.connect(self.stage.dsn, autocommit=True) as conn:
            conn.execute(_EMPTY)
        for notes in self.stage.notes.iterdir():
            notes.unlink()
        with contextlib.ExitStack() as stack:
            self._wires = stack.enter_context(Wires())  # ends last: whoever stands on a wire is gone by then
            stack.enter_context(self.upstream)
            stack.callback(self._end)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _end(self) -> None:
        self.heal()
        for client in self._clients:
            client.join(10)
        for member in self.members:
            member.close()
        for runtime in self._runtimes:
            runtime.close()

    # — who takes part —

    def wire(self, dsn: str | None = None) -> Wire:
        """Lay a wire to the database that can be disturbed."""
        wire = self._wires.to(dsn or self.stage.dsn, random.Random(len(self._laid)))
        self._laid.append(wire)
        return wire

    def jobs(self, dsn: str | None = None) -> Jobs:
        """Return the jobs service of this process; it is closed in the end."""
        runtime = Runtime(config.load(db_dsn=dsn or self.stage.dsn, db_pool_size=4))
        self._runtimes.append(runtime)
        return Jobs(runtime)

    def member(
        self,
        name: str,
        *words: str,
        through: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Member:
        """Start `llm-mcp` with these words; `through`, a command it is started by."""
        asked = {
            "db_dsn": self.stage.dsn,
            "data_dir": self.folder / "none",
            "modules": "tests.chaos.actors,tests.faults.actors",
            "lease_s": LEASE_S,
            "drain_s": DRAIN_S,
            "reap_s": 0.2,
            "poll_s": 0.5,
            "log_format": "json",
            **settings,
        }
        made = Member(
            name,
            words,
            {
                **config.child_environment(config.load(**asked)),
                "PYTHONPATH": str(ROOT),
                NOTES: str(self.stage.notes),
                UPSTREAM: str(self.upstream.path),
                **(environment or {}),
            },
            self.folder / f"{name}.log",
            through,
        )
        self.members.append(made)
        made.start()
        return made

    def worker(self, name: str, **more: Any) -> Member:
        """Start a worker; `more` are what `member` takes. Wait for it with `wait_ready`."""
        return self.member(name, "worker", **{"worker_name": name, "worker_threads": THREADS, **more})

    def workers(self, *names: str, **more: Any) -> list[Member]:
        """Start workers of these names and wait until they claim."""
        made = [self.worker(name, **more) for name in names]
        for one in made:
            one.wait_ready()
        SPARES.prepare()
        return made

    def submit(self, new: Sequence[Asked]) -> list[Asked]:
        """Submit these by the straight way."""
        if self._asking is None:
            self._asking = self.jobs()
        submit(self._asking, new)
        self.asked += new
        return list(new)

    def ask_for(self, count: int, kind: str = "chaos.work", *, name: str = "job", **more: Any) -> list[Asked]:
        """Submit so many jobs; `more` are what `wanted` takes."""
        return self.submit([wanted(f"{name}-{i}", kind, **more) for i in range(count)])

    def client(
        self, name: str, draw: Callable[[str], Asked], *, dsn: str | None = None, url: str | None = None, **more: Any
    ) -> Client:
        """Start a client, at this DSN or at the HTTP door of this URL; `more` are what it takes."""
        made = Client(name, ByLibrary(dsn or self.stage.dsn) if url is None else ByHttp(url), draw, **more)
        self._clients.append(made)
        made.start()
        return made

    # — what can be seen —

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Ask the database, past every wire."""
        with psycopg.connect(self.stage.dsn, autocommit=True, row_factory=dict_row) as conn:
            return conn.execute(query.encode(), values or None).fetchall()

    def count(self, condition: str) -> int:
        """Return how many jobs are so."""
        return int(self.rows(f"SELECT count(*) AS n FROM llm.jobs WHERE {condition}")[0]["n"])

    def holder(self, member: Member) -> str:
        """Return the id of this worker."""
        return member.line.removeprefix("worker ")

    def stop_postgres(self) -> None:
        """Stop Postgres as a power cut would; `stage.restart` starts it."""
        os.kill(self.postmaster(), signal.SIGQUIT)

    def postmaster(self) -> int:
        """Return the process id of the server, which must run."""
        folder = Path(self.rows("SHOW data_directory")[0]["data_directory"])
        return int((folder / "postmaster.pid").read_text().split()[0])

    def revive(self) -> None:
        """Start again what ended."""
        for member in self.members:
            if not member.alive:
                member.start()

    def spend(self, seconds: float, do: Callable[[], object] | None = None, *, every_s: float = 1.0) -> None:
        """Let time pass, do something now and then, and start again what ended."""
        SPARES.prepare()
        end, next_at = time.monotonic() + seconds, time.monotonic() + every_s
        while (now := time.monotonic()) < end:
            if do is not None and now >= next_at:
                do()
                next_at += every_s
            self.revive()
            time.sleep(0.02)

    # — the end —

    def heal(self) -> None:
        """End every fault, and want nothing new."""
        for wire in self._laid:
            wire.restore()
        for member in self.members:
            member.thaw()
        for client in self._clients:
            client.stop()

    def verdict(self, *, timeout_s: float = _SETTLE_S, timeless: bool = False) -> Evidence:
        """Heal, wait until every job is finished, and hold what is left against every promise.

        `timeless`: the server's clock was set, so that its times cannot be compared.
        """
        self.heal()

        def settled() -> bool:
            self.revive()
            return not any(client.is_alive() for client in self._clients) and self.rows(_UNFINISHED)[0]["n"] == 0

        with contextlib.suppress(AssertionError):  # the judge says which is not
            until(settled, timeout_s=timeout_s, every_s=0.1)
        faults = [f"{client.name} was told {client.fault}" for client in self._clients if client.fault]
        faults += [f"{client.name} has no answer" for client in self._clients if client.is_alive()]
        evidence = gather(self.stage, [*self.asked, *(one for client in self._clients for one in client.asked)], faults)
        found = judge(evidence)
        if timeless:
            found.found["stale"] = [text for text in found.found["stale"] if not text.endswith("began before its time")]
        assert found.good, "\n".join([found.line, *(text for texts in found.found.values() for text in texts)])
        assert found.jobs > 0
        return evidence


def lost_leases(evidence: Evidence) -> int:
    """Return how many leases ended before their attempt did."""
    return sum(row["reason"] == "lease_expired" for rows in evidence.attempts.values() for row in rows)
