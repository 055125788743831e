"""The measuring: submits with nobody at work, a full queue drained by workers that are ready, then single jobs."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from llm_mcp import config
from llm_mcp.child import Child
from llm_mcp.config import Settings, installed_version
from llm_mcp.errors import InvalidInput, SetupError
from llm_mcp.job import Status, Submission
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store import health
from llm_mcp.store.listen import JOB_QUEUED
from llm_mcp.store.pool import connect
from llm_mcp.store.scratch import Drained, drained

from .actors import KIND, payload
from .advice import advice
from .figures import Figures, per_s
from .place import Place, Say, place
from .processes import check_alive, interruptible, stub_drain_per_s, workers

MOST_JOBS, MOST_THREADS, MOST_PROCESSES = 10_000_000, 512, 64
BATCH = 500
_ONE_BY_ONE, _IN_BATCHES = 2000, 5000
_STUB_JOBS = (1000, 20_000)
_PICKUPS = (100, 300)
_LONGEST_S = 10.0  # of the submits: a slow disk must not make it a matter of minutes
_WARM_UP = 20
_BESIDES = 1000  # jobs, at most, besides three times those asked for
_COMMITS = 30
_QUESTIONS = 50
_PAUSE_S = (0.005, 0.04)
_PICKED_UP_S = 30.0
_STALLED_S = 30.0
_LOOK_S = 0.05


def measure(settings: Settings, *, jobs: int, threads: int, processes: int, say: Say = lambda _: None) -> Figures:
    """Measure the queue under these settings in a schema of its own, and return what was found. For the main thread.

    Parameters: `jobs`, how many are drained; `threads` of each of so many worker `processes`; `say`, which is told what
    goes on. Nothing is left behind, also not by SIGINT, SIGTERM and SIGHUP, which raise SystemExit here. Raises
    InvalidInput, SetupError, Unavailable.
    """
    for name, value, most in (
        ("--jobs", jobs, MOST_JOBS),
        ("--threads", threads, MOST_THREADS),
        ("--processes", processes, MOST_PROCESSES),
    ):
        if not 1 <= value <= most:
            raise InvalidInput(f"must be between 1 and {most}", field=name)
    with interruptible(), place(settings, say, most=3 * jobs + _BESIDES) as where:
        try:
            return _measure(where, jobs=jobs, threads=threads, processes=processes, say=say)
        except KeyboardInterrupt:
            say("interrupted: cleaning up")
            raise


def _measure(where: Place, *, jobs: int, threads: int, processes: int, say: Say) -> Figures:
    runtime = where.runtime
    with connect(runtime.dsn) as conn:
        postgres = conn.info.parameter_status("server_version") or str(conn.info.server_version)
    say(f"Postgres {postgres.split()[0]} ({where.server}), scratch schema {runtime.settings.db_schema}")
    service = Jobs(runtime)
    _submit(service, _WARM_UP)
    round_trip_ms = _round_trip_ms(runtime)
    disk_ms = max(0.0, _commit_ms(service) - round_trip_ms)
    say("submitting, one by one and in batches")
    submit_per_s = _rate(lambda n: _submit(service, n), min(jobs, _ONE_BY_ONE), 10)
    size = min(BATCH, max(1, jobs // 4))
    batch_submit_per_s = _rate(lambda n: _submit_many(service, n), min(jobs, _IN_BATCHES), size)
    say(f"starting {_count(processes, 'worker process', 'worker processes')} of {_count(threads, 'thread')}")
    with workers(runtime.settings, processes=processes, threads=threads) as members:
        # What was submitted so far is their warm-up.
        _wait_drained(runtime, [service.submit(_submission(0))], members)
        say(f"draining {_count(jobs, 'job')}")
        drain = _drain(service, jobs, members)
        say("submitting to idle workers")
        pickups = _pickups_ms(service, min(_PICKUPS[1], max(_PICKUPS[0], jobs // 20)), members)
    say("the same with Dramatiq's stub broker, in memory")
    environment = config.child_environment(runtime.settings)
    stub_jobs = min(_STUB_JOBS[1], max(_STUB_JOBS[0], jobs))
    stub_per_s = stub_drain_per_s(environment, jobs=stub_jobs, threads=threads)
    committed_s = drain.committed_s or 1e-6
    began = drain.first_us is not None and drain.last_us is not None and jobs > 1
    figures = Figures(
        submit_per_s=submit_per_s,
        batch_submit_per_s=batch_submit_per_s,
        drain_per_s=per_s(jobs, drain.first_us or 0, drain.last_us or 0) if began else jobs / committed_s,
        drain_committed_per_s=jobs / committed_s,
        pickup_ms_p50=statistics.median(pickups),
        pickup_ms_p99=pickups[-(-99 * len(pickups) // 100) - 1],
        stub_drain_per_s=stub_per_s,
        jobs=jobs,
        threads=threads,
        processes=processes,
        batch_size=size,
        pickups=len(pickups),
        round_trip_ms=round_trip_ms,
        disk_ms=disk_ms,
        synchronous_commit=health.settings_at(runtime.dsn, ["synchronous_commit"])["synchronous_commit"],
        pooled=health.sessions(runtime.dsn) is health.Sessions.SHARED,
        server=where.server,
        postgres=postgres.split()[0],
        version=installed_version(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )
    return figures.advised(advice(figures, runtime))


def _submission(n: int) -> Submission:
    return Submission(kind=KIND, payload=payload(n), source="bench")


def _submit(service: Jobs, n: int) -> None:
    for i in range(n):
        service.submit(_submission(i))


def _submit_many(service: Jobs, n: int) -> None:
    service.submit_many(map(_submission, range(n)))


def _round_trip_ms(runtime: Runtime) -> float:
    """The smallest question there is, on a connection that is open."""
    return _median_ms(lambda: health.clock(runtime.db), _QUESTIONS)


def _commit_ms(service: Jobs) -> float:
    """The end alone of transactions that wrote one job each."""
    with connect(service.runtime.dsn, autocommit=False) as conn:
        found = []
        for n in range(_COMMITS):
            service.submit(_submission(n), conn=conn)
            began = time.perf_counter()
            conn.commit()
            found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found)


def _median_ms(action: Callable[[], object], n: int) -> float:
    found = []
    for _ in range(n):
        began = time.perf_counter()
        action()
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found)


def _rate(submit: Callable[[int], None], jobs: int, size: int) -> float:
    """Return jobs/s of submitting `jobs` in portions of `size`, or fewer when it takes long."""
    sent, began = 0, time.perf_counter()
    while sent < jobs and time.perf_counter() - began < _LONGEST_S:
        n = min(size, jobs - sent)
        submit(n)
        sent += n
    return sent / (time.perf_counter() - began)


def _drain(service: Jobs, jobs: int, members: Sequence[Child]) -> Drained:
    """Let the workers have all jobs at one instant, the commit of the transaction that submits them."""
    runtime = service.runtime
    ids: list[UUID] = []
    with connect(runtime.dsn, autocommit=False) as conn:
        for first in range(0, jobs, BATCH):
            batch = map(_submission, range(first, min(first + BATCH, jobs)))
            ids += service.submit_many(batch, conn=conn)
        conn.commit()
    runtime.notifier.notify(JOB_QUEUED)
    return _wait_drained(runtime, ids, members)


def _wait_drained(runtime: Runtime, ids: Sequence[UUID], members: Sequence[Child]) -> Drained:
    """Wait until all these jobs are done. Raises SetupError when nothing is done for half a minute."""
    service, first, last = Jobs(runtime), min(ids), max(ids)
    done, since = -1, time.monotonic()
    while True:
        check_alive(members)
        # The last in the queue ends about last; to count all of them all the time would be work for the server.
        if service.get(ids[-1]).status is Status.DONE or time.monotonic() - since > _STALLED_S:
            found = drained(runtime.db, first, last)
            if found.done == len(ids):
                return found
            if found.done > done:
                done, since = found.done, time.monotonic()
            elif time.monotonic() - since > _STALLED_S:
                raise SetupError(f"{found.done} of {len(ids)} jobs are done, and no other was in {_STALLED_S:g} s")
        time.sleep(_LOOK_S)  # it is looked at, not waited for: notices of all jobs would be work for us


def _pickups_ms(service: Jobs, n: int, members: Sequence[Child]) -> list[float]:
    """Submit jobs to idle workers, one at a time at odd intervals; return ms until the function began, in order."""
    found = []
    for i in range(n + _WARM_UP):
        time.sleep(random.uniform(*_PAUSE_S))  # noqa: S311 - so that it falls in step with nothing
        check_alive(members)
        began_ms = time.monotonic_ns() / 1e6
        job = service.wait(service.submit(_submission(i)), timeout_s=_PICKED_UP_S)
        if job.status is not Status.DONE:
            raise SetupError(f"a job that does nothing ended in {job.reason}: {job.error}")
        if i >= _WARM_UP:
            found.append(int(job.result or 0) / 1000 - began_ms)
    return sorted(found)


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"
