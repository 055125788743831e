"""Jobs that wait for other jobs: who finishes one has those that need it judged, and a backstop finds what was missed.

Nothing here is counted or remembered. A blocked job is judged by the rows of what it needs, after they were committed:
of two that finish at once the later sees both.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from uuid import UUID

from psycopg import Connection

from .errors import LlmMcpError
from .job import Status
from .runtime import Runtime
from .store import needs as rows
from .store.listen import JOB_QUEUED
from .store.sweeps import Ended

log = logging.getLogger(__name__)

_NONE = UUID(int=0)
# What the backstop looks at in one statement, jobs, and how long it goes on looking, s.
_PAGE = 200
_LOOK_S = 0.1


def advance(runtime: Runtime, finished: Sequence[UUID]) -> bool:
    """These jobs are finished: have those that need them judged, and say whether any may be claimed now.

    Never raises, for the jobs are finished all the same: what cannot be done now is done by the backstop.
    """
    if not finished:
        return False
    try:
        return _tell(runtime, rows.advance(runtime.db, needed=finished))
    except LlmMcpError as error:
        log.warning("followers not judged", extra={"action": "advance_failed", "error": str(error)})
    except Exception:
        log.exception("followers not judged", extra={"action": "advance_failed"})
    return False


def settle(runtime: Runtime, job_ids: Sequence[UUID], *, conn: Connection[object] | None) -> None:
    """These jobs were submitted and need others: judge them, for those may be finished already.

    Never raises without `conn`, for the jobs are submitted all the same. On `conn` nobody is waited for, and what is
    finished between here and the commit is left to the backstop.
    """
    if conn is not None:
        rows.advance(runtime.db, job_ids=job_ids, conn=conn)
        return
    try:
        rows.await_finishers(runtime.db, job_ids)
        _tell(runtime, rows.advance(runtime.db, job_ids=job_ids))
    except LlmMcpError as error:
        log.warning("jobs not judged", extra={"action": "advance_failed", "error": str(error)})
    except Exception:
        log.exception("jobs not judged", extra={"action": "advance_failed"})


class Backstop:
    """Goes round all that is blocked, a stretch at a time. Owned by the thread that looks."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._after = _NONE

    def look(self) -> None:
        """Judge the next stretch: what was missed goes on. Raises Unavailable."""
        until = time.monotonic() + _LOOK_S
        while True:
            page = rows.blocked(self._runtime.db, after=self._after, n=_PAGE)
            if page:
                _tell(self._runtime, rows.advance(self._runtime.db, job_ids=page))
            more = len(page) == _PAGE
            self._after = page[-1] if more else _NONE
            if not more or time.monotonic() >= until:
                return


def _tell(runtime: Runtime, moved: Sequence[Ended]) -> bool:
    """Wake the workers, and who watches what ended; say whether any may be claimed."""
    ended = [one.job_id for one in moved if one.status is Status.ERROR]
    for job_id in ended:
        log.info("a needed job failed", extra={"action": "job_stopped", "job_id": str(job_id)})
    runtime.announce(*ended)
    freed = len(moved) > len(ended)
    if freed:
        runtime.notifier.notify(JOB_QUEUED)
    return freed
