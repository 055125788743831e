"""What many open streams cost, and how late their events are. Prints figures and asserts none.

One web process over an embedded Postgres, a process that reads, and this one, which plays the worker.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uuid_utils.compat

from llm_mcp import config
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs
from llm_mcp.keeper import Keeper
from llm_mcp.run import Run
from llm_mcp.runtime import Runtime
from llm_mcp.store import events as event_rows
from llm_mcp.store import leases as rows
from llm_mcp.store.migrate import migrate
from tests.conftest import new_scratch
from tests.integration.web.door import ROOT, Door

_KIND = "bench.streamed"
_TICKS = os.sysconf("SC_CLK_TCK")
_SPARE_STREAMS = 50
_FIRST = 16
_LEASE_S = 3600.0
_STEP_S = 0.01


class Readers:
    """The process that reads. A context manager; its methods are those of `tests.bench.readers.Readers`."""

    def __init__(self, door: Door) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.readers", door.host, str(door.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def begin(self, name: str, argument: Any = None) -> None:
        """Tell it to do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, argument]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Return what came of it."""
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))

    def call(self, name: str, argument: Any = None) -> dict[str, Any]:
        """Both."""
        self.begin(name, argument)
        return self.answer()


class Bench:
    """One web process, one that reads, and runs whose words we say ourselves."""

    def __init__(self, server: EmbeddedPostgres, runtime: Runtime, door: Door, readers: Readers) -> None:
        self._server = server
        self._runtime = runtime
        self._door = door
        self._readers = readers

    def idle(self, count: int, seconds: float) -> None:
        """Print what so many streams cost that say nothing, and how long others wait meanwhile."""
        # What the process has once, its connections to the database above all, is there before it is looked at; what
        # these few leave is not counted as a stream's, nor are as many streams counted.
        with self._runs(_FIRST) as runs:
            self._readers.call("open", [str(run.lease.job_id) for run in runs])
        before = self._pss_kib()
        with self._runs(count) as runs:
            opened = self._readers.call("open", [str(run.lease.job_id) for run in runs])
            _say(f"open {count} streams, 64 at a time: first event, ms", opened)
            _say("memory of the web process, KiB a stream", round((self._pss_kib() - before) / (count - _FIRST), 1))
            self._readers.begin("ask", seconds)
            with self._cpu("with these requests"):
                asked = self._readers.answer()
            for name, figures in asked.items():
                _say(f"{name} meanwhile, ms", figures)
            with self._cpu("without any"):
                time.sleep(seconds)
            self._events(runs, 2.0, seconds)

    def tokens(self, count: int, rate: float, seconds: float) -> None:
        """Print whether so many streams of so many tokens a second lose any."""
        with self._runs(count) as runs:
            self._readers.call("open", [str(run.lease.job_id) for run in runs])
            self._tokens(runs, rate, seconds)

    def _events(self, runs: list[Run], rate: float, seconds: float) -> None:
        """Write events of every run, evenly spread, in batches; print how long each took from there to its reader."""
        written = [0] * len(runs)

        def write(chosen: range) -> None:
            batches = []
            for n in (number % len(runs) for number in chosen):
                text = f'{{"text":"{written[n]}@{time.monotonic_ns()} "}}'
                written[n] += 1
                batches.append((*runs[n].key, [(written[n], "delta", text)]))
            event_rows.append_many(self._runtime.db, batches)
            self._runtime.announce(*(job_id for job_id, _, _ in batches))

        self._paced(f"{len(runs)} streams, {rate:g} events/s each: ms from the write", rate * len(runs), seconds, write)

    def _tokens(self, runs: list[Run], rate: float, seconds: float) -> None:
        """Say tokens on every run, evenly spread, as an actor does; print whether all arrive, and when."""

        def say(chosen: range) -> None:
            for number in chosen:
                runs[number % len(runs)].text(f"{number // len(runs)}@{time.monotonic_ns()} ")

        self._paced(f"{len(runs)} streams, {rate:g} tokens/s each: ms from the actor", rate * len(runs), seconds, say)

    def _paced(self, what: str, rate: float, seconds: float, work: Callable[[range], None]) -> None:
        """Have `rate` numbered pieces of work done a second, in batches of what is due, and print what was read."""
        self._readers.call("take")
        done, began = 0, time.monotonic()
        with self._cpu("meanwhile"):
            while (now := time.monotonic()) < began + seconds:
                due = int((now - began) * rate)
                if due > done:
                    work(range(done, due))
                done = due
                time.sleep(_STEP_S)
            time.sleep(1.0)
        _say(what, {"done": done, **self._readers.call("take")})

    @contextmanager
    def _runs(self, count: int) -> Iterator[list[Run]]:
        jobs = Jobs(self._runtime)
        jobs.submit_many([Submission(kind=_KIND) for _ in range(count)])
        keeper = Keeper(
            self._runtime, worker_id="bench", name="bench", threads=count, kinds=lambda: [_KIND], on_free=lambda: None
        )
        keeper.start()
        try:
            leases = rows.claim(
                self._runtime.db,
                "bench",
                uuid_utils.compat.uuid7(),
                kinds=[_KIND],
                n=count,
                lease_s=3600.0,
                ageing_s=600.0,
            )
            runs = keeper.hold(leases, claimed_at=time.monotonic())
            for run in runs:
                run.first_token_at = time.monotonic()  # what is measured is the stream under way
            yield runs
            for run in runs:
                rows.complete(self._runtime.db, *run.key, result="null")
            keeper.drop(runs)
        finally:
            keeper.stop()

    @contextmanager
    def _cpu(self, what: str) -> Iterator[None]:
        began, web, base = time.monotonic(), self._ticks(self._web()), self._ticks(self._postgres())
        yield
        took = time.monotonic() - began
        used = [
            (self._ticks(pids()) - before) / _TICKS / took * 100
            for pids, before in ((self._web, web), (self._postgres, base))
        ]
        _say(f"CPU {what}, % of a core", {"web": round(used[0], 1), "Postgres": round(used[1], 1)})

    def _web(self) -> list[int]:
        return self._door.pids()

    def _postgres(self) -> list[int]:
        master = self._server.pid
        assert master is not None
        children = Path(f"/proc/{master}/task/{master}/children").read_text()
        return [master, *map(int, children.split())]

    def _ticks(self, pids: list[int]) -> int:
        found = 0
        for pid in pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found += int(fields[11]) + int(fields[12])
        return found

    def _pss_kib(self) -> int:
        texts = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self._web())
        return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("Pss:"))


def _say(what: str, figures: object) -> None:
    shown = (
        figures if not isinstance(figures, dict) else "  ".join(f"{name} {value}" for name, value in figures.items())
    )
    print(f"  {what:<64}{shown}", flush=True)


def run(streams: int, seconds: float) -> None:
    """Measure everything and print it."""
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores; one web process")
    scratch = new_scratch("streams")
    try:
        for measure in (
            lambda bench: bench.idle(streams, seconds),
            lambda bench: bench.tokens(min(200, streams), 50.0, seconds),
        ):
            _with_bench(scratch, streams + _SPARE_STREAMS, measure)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _with_bench(scratch: Path, most: int, measure: Callable[[Bench], None]) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(scratch / "data"))
        migrate(server.dsn)
        runtime = Runtime(config.load(db_dsn=server.dsn, data_dir=scratch / "none", max_streams=most, lease_s=_LEASE_S))
        stack.callback(runtime.close)
        door = Door(runtime.settings, log=scratch / "web.log")
        stack.callback(door.close)
        readers = stack.enter_context(Readers(door))
        measure(Bench(server, runtime, door, readers))
