"""For your own tests: run an actor without a database, run what is queued, have a Postgres.

import pytest

from llm_mcp import Run, actor
from llm_mcp.testing import drain, inline, postgres


@actor("acme.greet")
def greet(payload, run: Run):
    run.text("Hello ")
    run.text(payload["name"])
    return {"greeted": payload["name"]}


def test_what_it_does():  # the function alone, no database
    done = inline(greet, name="Ann")
    assert done.result == {"greeted": "Ann"}
    assert done.text == "Hello Ann"


@pytest.fixture(scope="session")
def runtime():
    with postgres() as runtime:
        yield runtime


def test_that_it_works(runtime):  # all of it: rows, leases, retries
    handle = greet.submit(name="Ann")
    assert [job.status for job in drain()] == ["done"]
    assert handle.wait(timeout=1) == {"greeted": "Ann"}
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import uuid_utils.compat
from dramatiq.middleware import SkipMessage

from . import config, schema
from . import run as running
from . import runtime as runtimes
from .broker import LeasedMessage, broker
from .claimer import Claimer
from .embedded.postgres import EmbeddedPostgres
from .errors import SetupError, WaitTimeout
from .events import DELTA, Event
from .job import Job, Lease, Submission
from .jobs import Jobs
from .keeper import Keeper, new_worker_id
from .kind_actor import KindActor, merged
from .middleware import settle
from .run import Run
from .runtime import Runtime
from .store import admission as rows
from .strictjson import dumps_lossy
from .wake import Wake

__all__ = ["Inline", "drain", "inline", "postgres"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inline:
    """What became of an attempt that `inline` made."""

    result: Any
    """The result as its reader gets it, a JSON value; None when the attempt failed."""
    events: list[Event] = field(repr=False)
    """The stream. Each call of the actor's is an event here; a worker joins pieces of text that come close together."""
    error: Exception | None
    """What was raised instead of a result."""
    metrics: dict[str, Any]
    """The figures of the attempt's row: `ms`, `ttft_ms`, and what was noted in `run.metrics`."""

    @property
    def text(self) -> str:
        """The texts of the stream, joined."""
        return "".join(event.data.get("text", "") for event in self.events if event.type == DELTA)


def inline(
    actor: KindActor,
    /,
    payload: Any = None,
    *,
    raises: bool = True,
    runtime: Runtime | None = None,
    inputs: Sequence[Any] = (),
    **fields: Any,
) -> Inline:
    """Run an actor here and now, in all that is put around it, and return what became of it. Needs no database.

    The payload is given and checked as in `submit`, and goes through JSON as in a row; the stream is kept in memory,
    within its bounds. `raises`: whether what the actor raises is raised here, else it is the `error`. `runtime`: for
    actors that call models, one with scripted providers; None: the process's own. `inputs`: what `run.inputs()` gives,
    the results of the jobs that a real one would have needed. Raises InvalidInput for a payload
    that no door would take, SetupError for what is no actor.
    """
    if not isinstance(actor, KindActor):
        raise SetupError(f"{actor!r} is no actor: decorate it with llm_mcp.actor")
    runtime = runtime or runtimes.current()
    new = Jobs(runtime).checked(Submission(kind=actor.actor_name, payload=merged(payload, fields), source="python"))
    lease = Lease(new.job_id, 1, actor.actor_name, new.payload, 1, new.submission.max_attempts, 1, None)
    run = _Kept(lease, runtime, fence_at=float("inf"), on_dirty=Run.flush, inputs=inputs)
    error = None
    run.begin()
    running.enter(run)
    try:
        actor.perform(run)
    except Exception as raised:
        if raises:
            raise
        error = raised
    finally:
        running.enter(None)
    result = None if error is not None else orjson.loads(dumps_lossy(run.result))
    return Inline(result=result, events=run.kept, error=error, metrics=run.timings())


def drain(
    runtime: Runtime | None = None,
    *,
    kinds: Iterable[str] | None = None,
    timeout_s: float = 60.0,
    until_empty: bool = False,
) -> list[Job]:
    """Run what is queued in the calling thread, one job after another, until nothing may be claimed; return the jobs
    that finished, in that order.

    It is a worker's work: leases, heartbeats, fencing, limits, middleware; what an actor raises fails its attempt and
    is not raised here. `kinds`: only these; None: every kind with an actor in this process. Jobs that were put off (a
    delay, the pause before a retry) are left alone unless `until_empty`: then they are waited for. After `timeout_s`
    seconds the running attempt is cut and given back. Raises WaitTimeout then, SetupError for a kind without an actor
    here, Unavailable.
    """
    runtime = runtime or runtimes.current()
    wanted = sorted(broker.actors if kinds is None else set(kinds))
    if strangers := [kind for kind in wanted if kind not in broker.actors]:
        raise SetupError(f"kind {strangers[0]!r} has no actor in this process: import its module")
    wake = Wake()
    keeper = Keeper(
        runtime,
        worker_id=new_worker_id("drain", uuid_utils.compat.uuid7()),
        name="drain",
        threads=1,
        kinds=lambda: wanted,
        on_free=wake.freed,
    )
    claimer = Claimer(keeper, kinds=lambda: wanted, wake=wake)
    keeper.start()
    late = threading.Timer(timeout_s, keeper.release_all)
    late.start()
    ends_at = time.monotonic() + timeout_s
    worked: dict[UUID, None] = {}  # a set in order
    try:
        while True:
            for run in claimer.turn():
                _work(run, claimer, keeper)
                worked.pop(run.lease.job_id, None)
                worked[run.lease.job_id] = None
            if keeper.held == 0:
                waited_s = rows.waiting(runtime.db, wanted)
                if waited_s is None or (waited_s < 0 and not until_empty):
                    break
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                raise WaitTimeout(f"jobs still wait after {timeout_s:g} s")
            wake.wait(max(0.0, min(claimer.due_s(), left_s)))
    finally:
        late.cancel()
        late.join()
        claimer.close()
        keeper.release_all()
        keeper.stop()
    jobs = map(Jobs(runtime).get, worked)
    return [job for job in jobs if job.status.final]


@contextmanager
def postgres(**settings: Any) -> Iterator[Runtime]:
    """An embedded Postgres with our schema, and a runtime over it that is this process's own meanwhile.

    `settings` are fields of Settings. It takes a few seconds to begin: share it among tests, and enter it from the main
    thread. All of it is gone in the end. Raises SetupError when there are no Postgres binaries.
    """
    folder = Path(tempfile.mkdtemp(prefix="llm-mcp-testing-"))
    try:
        folder.chmod(0o711)  # the server's account is another one where we are root
        with EmbeddedPostgres(folder / "data") as server:
            made = Runtime(config.load(**{"db_dsn": server.dsn, "data_dir": folder, **settings}))
            try:
                schema.migrate(made)
                runtimes.use(made)
                yield made
            finally:
                runtimes.use(None)
                made.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Kept(Run):
    """A run whose stream stays in memory, and whose needed jobs are results that were given."""

    def __init__(self, *args: Any, inputs: Sequence[Any], **options: Any) -> None:
        super().__init__(*args, **options)
        self.kept: list[Event] = []
        self._inputs = [orjson.loads(dumps_lossy(one)) for one in inputs]

    def inputs(self) -> list[Any]:
        return self._inputs

    def _write(self, batch: list[tuple[int, str, str]]) -> None:
        self.kept += [Event(self.lease.attempt, seq, kind, orjson.loads(data)) for seq, kind, data in batch]


def _work(run: Run, claimer: Claimer, keeper: Keeper) -> None:
    """Make one attempt as a thread of Dramatiq does. What ends the thread itself, such as Ctrl-C, gives it back."""
    message = LeasedMessage(run)
    try:
        broker.emit_before("process_message", message)
        broker.get_actor(run.lease.kind)()
        broker.emit_after("process_message", message, result=None)
    except SkipMessage:
        broker.emit_after("skip_message", message)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is the outcome
        broker.emit_after("process_message", message, exception=error)
    finally:
        running.enter(None)
        settle(run, claimer, keeper)
