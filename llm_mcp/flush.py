"""Writing the streams of many runs: one statement for all that have something to say."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from .errors import Unavailable
from .run import Run
from .runtime import Runtime
from .store import events as rows

log = logging.getLogger(__name__)

# What is written in one statement, but for the last stream of it, bytes.
_AT_ONCE_BYTES = 2**20
_Held = list[tuple[Run, list[tuple[int, str, str]]]]


def flush(runtime: Runtime, runs: Iterable[Run]) -> list[Run]:
    """Write what is waiting in these streams and return those that are to be written again soon.

    Each keeps what `Run.flush` promises: it is cut when its own lease is lost, and what was sent and not answered keeps
    its numbers. One that can never be written is cut, and holds up no other. Raises nothing.
    """
    later: list[Run] = []
    held: _Held = []
    size = 0
    for run in runs:
        try:
            batch = run.take_batch()
        except Exception as error:  # noqa: BLE001 - logged there
            _give_up(run, error)
            continue
        if batch is None:
            later.append(run)
        elif batch:
            held.append((run, batch))
            size += sum(len(data) for _, _, data in batch)
            if size >= _AT_ONCE_BYTES:
                later += _write(runtime, held)
                held, size = [], 0
    return later + (_write(runtime, held) if held else [])


def _write(runtime: Runtime, held: _Held) -> list[Run]:
    """Write what was taken of these streams, let go of them, and return those that have more, or still the same."""
    runs = [run for run, _ in held]
    leases: set[int] = set()
    failed: Exception | None = None
    try:
        leases = rows.append_many(runtime.db, [(*run.key, batch) for run, batch in held])
    except Exception as error:  # noqa: BLE001 - looked at below, when nobody waits for us any more
        failed = error
    for run in runs:
        run.batch_over(written=run.lease.token in leases)
    if isinstance(failed, Unavailable):
        return runs
    if failed is not None:
        return [run for run in runs if not _written_alone(run)]
    for run in runs:
        if run.lease.token not in leases:
            run.cut("lease_lost")
    runtime.announce(*(run.lease.job_id for run in runs if run.lease.token in leases))
    return [run for run in runs if run.lease.token in leases and run.unwritten]


def _written_alone(run: Run) -> bool:
    """Write one of several streams of which one cannot be written; False when it is to be tried again."""
    try:
        run.flush()
    except Unavailable:
        return False
    except Exception as error:  # noqa: BLE001 - logged there
        _give_up(run, error)
    return True


def _give_up(run: Run, error: Exception) -> None:
    log.error("a stream was not written", exc_info=error, extra={"action": "flush_failed"})
    run.cut("stream_failed")
