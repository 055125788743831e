"""What a chaos run happens to: an embedded Postgres of its own, a witness in it, and real worker processes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psycopg
from psycopg.rows import dict_row

from llm_mcp import config
from llm_mcp.child import Child
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.store.migrate import migrate
from tests.chaos.actors import NOTES
from tests.chaos.wire import Wire
from tests.conftest import new_scratch
from tests.waiting import until

LEASE_S = 3.0
DRAIN_S = 2.0
_THREADS = 4
_ROOT = Path(__file__).parent.parent.parent
# A drain ends within its grace, the last words to the database, and what else an orderly end takes.
_DRAINED_S = DRAIN_S + 25.0
_READY_S = 60.0

# It writes down every move of a job in the transaction that makes it, whatever the product thinks it did.
_WITNESS = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.moves (
    n       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id  uuid NOT NULL,
    was     text,
    became  text NOT NULL,
    attempt integer NOT NULL,
    held    bigint,             -- the lease before the move
    holds   bigint,             -- and after it
    result  text
);
CREATE FUNCTION chaos.see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.moves (job_id, was, became, attempt, held, holds, result)
    VALUES (NEW.id, CASE TG_OP WHEN 'UPDATE' THEN OLD.status END, NEW.status, NEW.attempts,
            CASE TG_OP WHEN 'UPDATE' THEN OLD.lease_token END, NEW.lease_token, NEW.result);
    RETURN NULL;
END
$$;
CREATE TRIGGER chaos_witness AFTER INSERT OR UPDATE OF status, result, attempts, lease_token ON llm.jobs
    FOR EACH ROW EXECUTE FUNCTION chaos.see();
"""


class Worker:
    """One worker process, started anew whenever it ended. Its way to Postgres is a wire of its own."""

    def __init__(self, name: str, environment: dict[str, str], log: IO[bytes]) -> None:
        argv = [sys.executable, "-P", "-m", "llm_mcp", "worker"]  # -P: the working directory is not first on the path
        self.name = name
        self.died: list[int] = []
        """Exit codes of those of its processes that ended though nobody told them to."""
        self.frozen: set[int] = set()
        """Those of its processes that stood still for a while."""
        self._child = Child(name, argv, environment=environment, log=log)
        self._frozen_until: float | None = None
        self._draining_since: float | None = None
        self.never_drained = False
        """Whether it was asked to stop and had to be killed."""

    def start(self) -> None:
        """Start it; from the main thread."""
        self._child.start()

    @property
    def ready(self) -> bool:
        """Whether it claims jobs."""
        return self._child.pid is not None and self._child.says_ready()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._child.kill()

    def freeze(self, seconds: float) -> None:
        """Have it stand still."""
        if self._child.pid is not None:
            self.frozen.add(self._child.pid)
        self._child.signal(signal.SIGSTOP)
        self._frozen_until = max(self._frozen_until or 0.0, time.monotonic() + seconds)

    def drain(self) -> None:
        """Ask it to stop."""
        self._child.signal(signal.SIGTERM)
        self._draining_since = self._draining_since or time.monotonic()

    def tend(self, *, thaw: bool = False) -> None:
        """Let it go on when its time is up (or at once), kill it when it does not drain, start it when it ended."""
        now = time.monotonic()
        if self._frozen_until is not None and (thaw or now >= self._frozen_until):
            self._child.signal(signal.SIGCONT)
            if self._draining_since is not None:
                self._draining_since = now
            self._frozen_until = None
        if self._draining_since is not None and self._frozen_until is None and now - self._draining_since > _DRAINED_S:
            self.never_drained = True
            self._child.kill()
        if (code := self._child.ended()) is not None:
            if code not in (0, -signal.SIGKILL):
                self.died.append(code)
            self._frozen_until = self._draining_since = None
            self._child.start()

    def close(self) -> None:
        """End it for good."""
        self._child.kill()


class Stage:
    """A context manager, to be used in the main thread.

    `keep`: whether the folder with the logs stays. `code`: a folder whose `llm_mcp` the workers run instead of ours.
    """

    def __init__(self, *, keep: bool = False, code: Path | None = None) -> None:
        self.folder = new_scratch("chaos")
        self.notes = self.folder / "notes"
        self.notes.mkdir()
        self.workers: list[Worker] = []
        self._server = EmbeddedPostgres(self.folder / "data")
        self._code = code
        self._keep = keep
        self._logs: list[IO[bytes]] = []

    def __enter__(self) -> Stage:
        try:
            self._server.start()
            migrate(self.dsn)
            with psycopg.connect(self.dsn, autocommit=True) as conn:
                conn.execute(_WITNESS)
                self._let_in(conn)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all of it and remove the folder."""
        for worker in self.workers:
            worker.close()
        self._server.stop()
        for log in self._logs:
            log.close()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _let_in(self, conn: psycopg.Connection[Any]) -> None:
        """Have the server take connections from all of loopback: each wire may have an address of its own."""
        row = conn.execute("SELECT current_setting('hba_file')").fetchone()
        assert row is not None
        with Path(row[0]).open("a") as file:
            file.write("host all all 127.0.0.0/8 scram-sha-256\n")
        conn.execute("SELECT pg_reload_conf()")

    @property
    def dsn(self) -> str:
        """The straight way to the database."""
        return self._server.dsn

    def add_worker(self, wire: Wire) -> None:
        """Start one more worker on this wire."""
        name = f"worker{len(self.workers)}"
        settings = config.load(
            db_dsn=wire.dsn,
            data_dir=self.folder / "none",
            modules="tests.chaos.actors",
            worker_name=name,
            worker_threads=_THREADS,
            lease_s=LEASE_S,
            drain_s=DRAIN_S,
            reap_s=0.2,
            poll_s=0.2,
            log_format="json",
        )
        path = [str(folder) for folder in (self._code, _ROOT) if folder is not None]
        environment = {
            **config.child_environment(settings),
            "PYTHONPATH": os.pathsep.join(path),
            NOTES: str(self.notes),
        }
        log = (self.folder / f"{name}.log").open("ab")
        self._logs.append(log)
        self.workers.append(Worker(name, environment, log))
        self.workers[-1].start()

    def wait_ready(self) -> None:
        """Wait until every worker claims jobs; those that end meanwhile are started anew."""

        def look() -> bool:
            self.tend()
            return all(worker.ready for worker in self.workers)

        until(look, timeout_s=_READY_S, every_s=0.05)

    def tend(self, *, thaw: bool = False) -> None:
        """See to every worker."""
        for worker in self.workers:
            worker.tend(thaw=thaw)

    def restart(self) -> None:
        """Stop Postgres as a power cut would, and start it."""
        pid = self._server.pid
        if pid is not None:
            os.kill(pid, signal.SIGQUIT)
            until(lambda: self._server.pid is None)
        self._server.start()

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Ask the database, past every wire."""
        with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row) as conn:
            return conn.execute(query.encode()).fetchall()
