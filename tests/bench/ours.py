"""llm-mcp as the bench drives it: its actors, its submits, and what the `worker` command runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llm_mcp import Jobs, Runtime, Submission, actor, config, logs, worker
from llm_mcp import runtime as runtimes
from llm_mcp.kinds import load_modules
from llm_mcp.store.migrate import migrate
from tests.bench.peers.protocol import Driver, Payload, Send, main

KIND = "bench.nothing"


class Ours(Driver):
    """The product itself, by its public names."""

    def _settings(self) -> config.Settings:
        return config.load(db_dsn=self.dsn, log_level="WARNING")

    def setup(self) -> None:
        """Make the tables."""
        migrate(self.dsn)

    @contextmanager
    def sender(self) -> Iterator[Send]:
        """Give what submits a job, or a batch in one statement."""
        runtime = Runtime(self._settings())
        runtimes.use(runtime)
        jobs = Jobs(runtime)

        @actor(KIND)
        def nothing(payload: Any) -> None:
            """Is not run here."""

        def send(payloads: list[Payload]) -> None:
            if len(payloads) == 1:
                nothing.submit(payloads[0])
            else:
                jobs.submit_many(Submission(kind=KIND, payload=payload) for payload in payloads)

        yield send
        runtimes.use(None)
        runtime.close()

    def work(self, hit: Callable[[Payload], None], go: Callable[[], None]) -> None:
        """Run what `llm-mcp worker` runs."""

        @actor(KIND)
        def nothing(payload: Any) -> None:
            """Be counted."""
            hit(payload)

        settings = self._settings()
        logs.configure(settings)
        load_modules([worker.ACTORS])
        go()
        worker.main(settings, threads=self.threads)


if __name__ == "__main__":
    main(Ours)
