"""A claimer and its keeper without Dramatiq: a test takes each turn itself, all ways to the database by a proxy."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from llm_mcp import config
from llm_mcp.claimer import Claimer
from llm_mcp.keeper import Keeper
from llm_mcp.run import Run
from llm_mcp.runtime import Runtime
from llm_mcp.store.listen import JOB_QUEUED
from llm_mcp.wake import Wake
from tests.waiting import until


class Desk:
    """One worker process's end of the queue.

    Parameters: `threads`, how many jobs at once; `kinds`, which; `settings`, of its runtime.
    """

    def __init__(
        self, dsn: str, folder: Path, *, threads: int = 4, kinds: tuple[str, ...] = ("echo",), **settings: Any
    ) -> None:
        asked = {"db_dsn": dsn, "data_dir": folder, "poll_s": 0.1, "liveness": False, "db_pool_size": 1, **settings}
        self.runtime = Runtime(config.load(**asked))
        self.wake = Wake()
        self.keeper = Keeper(
            self.runtime, worker_id="w", name="w", threads=threads, kinds=lambda: kinds, on_free=self.wake.freed
        )
        self.keeper.start()
        # It would hear of jobs; what it is told, and when, is said by the test.
        self.runtime.listener.add(JOB_QUEUED, "", threading.Event())
        until(lambda: self.runtime.listener.hears(JOB_QUEUED))
        self.claimer = Claimer(self.keeper, kinds=lambda: kinds, wake=self.wake)
        self.looks = 0
        """How many turns looked for jobs."""
        exchange = self.claimer._exchange

        def counted(*args: Any, **more: Any) -> list[Run]:
            self.looks += 1
            return exchange(*args, **more)

        self.claimer._exchange = counted  # type: ignore[method-assign] # to count is all

    def turn(self) -> list[Run]:
        """Do once what a consumer does: take a turn if it is due, else wait for a moment."""
        runs = self.claimer.turn()
        if not runs:
            self.wake.wait(min(0.01, max(0.0, self.claimer.due_s())))
        return runs

    def take(self, n: int = 1) -> list[Run]:
        """Take turns until `n` runs came, and begin them."""
        runs = self.held(n)
        assert all(run.begin() for run in runs)
        return runs

    def held(self, n: int = 1) -> list[Run]:
        """Take turns until `n` runs came."""
        runs: list[Run] = []

        def enough() -> bool:
            runs.extend(self.turn())
            return len(runs) >= n

        until(enough, timeout_s=60, every_s=0)  # a pool that was cut off comes back in growing steps
        return runs

    def finish(self, *runs: Run, result: str = "{}") -> None:
        """Have a result handed in for each of these runs with one of the next turns."""
        for run in runs:
            run.close()
            self.claimer.finish(run, result=result, metrics="{}")

    def settled(self) -> None:
        """Take turns until no run is held."""
        until(lambda: self.turn() == [] and self.keeper.held == 0, every_s=0)

    def warm(self) -> None:
        """Take some turns on an empty queue: connections are open and statements prepared."""
        for _ in range(5):
            self.wake.freed()
            assert self.claimer.turn() == []

    def close(self) -> None:
        """Leave."""
        self.claimer.close()
        self.keeper.stop()
        self.runtime.close()
