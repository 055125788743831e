"""What figures say to whoever wants better ones, or ought to know what they are bought with."""

from __future__ import annotations

from collections.abc import Iterator

from llm_mcp.doctor import Verdict, server
from llm_mcp.errors import LlmMcpError
from llm_mcp.runtime import Runtime

from .figures import Figures

_FEW_JOBS = 2000
_FAR_MS = 1.0
_SLOW_DISK_MS = 2.0
_FEW_BATCHES = 3.0
_MANY_THREADS = 16
_SLOW_PICKUP_MS = 20.0


def advice(figures: Figures, runtime: Runtime) -> list[str]:
    """Return what there is to say, a sentence or two each; `runtime` is the one that was measured."""
    return [
        *_size(figures),
        *_disk(figures),
        *_durability(runtime),
        *_way(figures),
        *_batches(figures),
        *_workers(figures),
    ]


def _size(figures: Figures) -> Iterator[str]:
    if figures.jobs < _FEW_JOBS:
        yield f"{figures.jobs} jobs are over in no time, and their rate says little: 10,000 and more tell."


def _disk(figures: Figures) -> Iterator[str]:
    if figures.synchronous_commit == "off":
        return  # the next says it
    share = min(1.0, figures.disk_ms * figures.submit_per_s / 1000)
    told = f"A commit waits {figures.disk_ms:.2f} ms for the disk, {share:.0%} of a single submit"
    if figures.disk_ms >= _SLOW_DISK_MS:
        yield f"{told}: a faster disk for Postgres's log (pg_wal) is what would help most."
    else:
        yield f"{told}."


def _durability(runtime: Runtime) -> Iterator[str]:
    try:
        for finding in server.durability(runtime):
            if finding.verdict is not Verdict.OK:
                yield f"{finding.what}. To change it: {finding.remedy}."
    except LlmMcpError as error:
        yield f"What this server may lose could not be looked at: {error}."


def _way(figures: Figures) -> Iterator[str]:
    if figures.pooled:
        yield (
            "DB_DSN leads to a transaction pooler, where nothing is prepared and each statement is planned anew;"
            " workers and submitters are faster with a DSN of Postgres itself."
        )
    if figures.round_trip_ms >= _FAR_MS:
        yield (
            f"A round trip to Postgres takes {figures.round_trip_ms:.1f} ms, and submits and pick-ups are made of them:"
            " bring workers and submitters nearer to it."
        )
    if figures.pickup_ms_p50 >= _SLOW_PICKUP_MS:
        yield (
            f"An idle worker takes {figures.pickup_ms_p50:.0f} ms to pick a job up: see whether notices are heard"
            " (llm-mcp doctor)."
        )


def _batches(figures: Figures) -> Iterator[str]:
    times = figures.batch_submit_per_s / figures.submit_per_s
    if times >= _FEW_BATCHES:
        yield (
            f"Batches of {figures.batch_size} (Jobs.submit_many) are submitted {times:.0f} times as fast as single"
            " jobs; so many threads that submit share a commit, too."
        )


def _workers(figures: Figures) -> Iterator[str]:
    if figures.processes < figures.cpus:
        yield (
            f"One Python process runs on about one CPU and this machine has {figures.cpus}: compare"
            f" --processes {figures.cpus}."
        )
    if figures.threads >= _MANY_THREADS:
        yield (
            f"Threads help jobs that wait for something; for jobs as short as these {figures.threads} are only in each"
            " other's way: compare --threads 4."
        )
