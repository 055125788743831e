"""The method for those who have somebody waiting, and what becomes of their jobs when they are gone without a word."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

import grpc

from llm_mcp.errors import Conflict, NotFound, Unavailable
from llm_mcp.jobs import Jobs
from llm_mcp.rpc import llm_pb2 as pb

from ..errors import Full, unforeseen
from ..streams import Streams
from .messages import job_id
from .principals import principal
from .refusals import answering

log = logging.getLogger(__name__)

_MOST_JOBS = 10_000
# Of all callers that are gone together; a job beyond goes on until its deadline.
_MOST_ABANDONED = 100_000
PATIENCE_S = 10.0
"""How long a job goes on whose caller broke off, s."""
_RETRY_AFTER_S = 5.0
# A caller that ended its call and one that is gone look the same at first: which it was shows within this time, s.
_DOUBT_S = 1.0
# A cancelling that is under way when this process stops is waited for so long, s.
_CLOSE_S = 1.0


class Attended:
    """How many callers attend which job, and the jobs that are to be cancelled because theirs broke off.

    Parameters: `cancel`, which ends a job; `patience_s`, how long a job without its caller goes on, s. One thread ends
    them all, begun with the first.
    """

    def __init__(self, cancel: Callable[[UUID], object], *, patience_s: float) -> None:
        self._cancel = cancel
        self._patience_s = patience_s
        self._callers: Counter[UUID] = Counter()
        self._due: dict[UUID, float] = {}  # by time: all wait equally long, and who comes again stands at the end
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def attend(self, job: UUID) -> None:
        """Count one more caller who attends a job; it is not to be cancelled any more."""
        with self._changed:
            self._callers[job] += 1
            self._due.pop(job, None)

    def leave(self, jobs: Iterable[UUID]) -> None:
        """Count one caller less of jobs, which go on."""
        with self._changed:
            for job in jobs:
                self._one_less(job)

    def spare(self, job: UUID) -> None:
        """Have a job go on whose caller broke off."""
        with self._changed:
            self._due.pop(job, None)

    def abandon(self, jobs: Iterable[UUID]) -> None:
        """Count one caller less of jobs; those that nobody else attends are to be cancelled."""
        with self._changed:
            for job in jobs:
                if self._one_less(job):
                    self._to_cancel(job)
            if self._due and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="llm-mcp-attended", daemon=True)
                self._thread.start()
            self._changed.notify()

    def callers(self, job: UUID) -> int:
        """Return how many attend a job."""
        with self._changed:
            return self._callers[job]

    def close(self) -> None:
        """Cancel nothing any more."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _one_less(self, job: UUID) -> bool:
        """Return whether nobody attends it now."""
        self._callers[job] -= 1
        if self._callers[job] > 0:
            return False
        del self._callers[job]
        return True

    def _to_cancel(self, job: UUID) -> None:
        if len(self._due) < _MOST_ABANDONED:
            self._due[job] = time.monotonic() + self._patience_s

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                job, at = next(iter(self._due.items()), (None, 0.0))
                wait_s = at - time.monotonic()
                if job is None or wait_s > 0:
                    self._changed.wait(None if job is None else wait_s)
                    continue
                del self._due[job]
            self._end(job)

    def _end(self, job: UUID) -> None:
        try:
            self._cancel(job)
            log.info("a job that nobody waits for was cancelled", extra={"action": "job_left", "job_id": str(job)})
        except (Conflict, NotFound):  # finished meanwhile, or pruned
            pass
        except Unavailable:  # the database will be back
            with self._changed:
                if job not in self._callers:
                    self._to_cancel(job)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the thread
            unforeseen(error)


class _Caller:
    """One call: the jobs it attends. A thread of its own reads it, for who waits for a message hears nothing else.

    Parameters: `sees`, which says whether this caller sees a job. `over` is set when there is nothing more to read.
    """

    def __init__(self, attended: Attended, sees: Callable[[UUID], bool]) -> None:
        self._attended = attended
        self._sees = sees
        self._jobs: set[UUID] = set()
        self._mutex = threading.Lock()
        self._closed = False
        self.over = threading.Event()
        self.broken = False
        """Whether the call broke off."""
        self.refused: Exception | None = None
        """What was wrong with what it said."""

    def read(self, requests: Iterator[pb.AttendRequest]) -> None:
        """Take what the caller says, until it has said all, breaks off, or says something wrong."""
        try:
            for request in requests:
                self._take(job_id(request.job_id), left=request.left)
        except grpc.RpcError:  # only the iteration raises it
            self.broken = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            self.refused = error
        finally:
            self.over.set()

    def close(self) -> set[UUID]:
        """Take no more, and return the jobs that are attended."""
        with self._mutex:
            self._closed = True
            return self._jobs

    def _take(self, job: UUID, *, left: bool) -> None:
        if not self._sees(job):
            return
        with self._mutex:
            if self._closed:
                return
            if left and job in self._jobs:
                self._jobs.remove(job)
                self._attended.leave([job])
            if left:
                self._attended.spare(job)
            elif job not in self._jobs:
                if len(self._jobs) >= _MOST_JOBS:
                    raise Full(f"one call attends {_MOST_JOBS} jobs at the most", retry_after_s=_RETRY_AFTER_S)
                self._jobs.add(job)
                self._attended.attend(job)


class Attending:
    """Parameters: `jobs`, the service; `streams`, the places for those who are there long; `patience_s`, how long a job
    goes on whose caller broke off, s.
    """

    def __init__(self, jobs: Jobs, streams: Streams, *, patience_s: float = PATIENCE_S) -> None:
        self._all_jobs = jobs
        self._room = streams
        self.attended = Attended(jobs.cancel, patience_s=patience_s)

    @answering
    def Attend(self, requests: Iterator[pb.AttendRequest], context: grpc.ServicerContext) -> pb.AttendResponse:
        """Note for which jobs somebody waits, until the caller ends the call, is gone, or this process is to stop."""
        owner = principal(context)
        place = self._room.enter()
        try:
            caller = _Caller(self.attended, lambda job: self._sees(job, owner))
            place.watch(None, caller.over.set)
            gone = threading.Event()
            if not context.add_callback(gone.set):
                gone.set()
            threading.Thread(target=caller.read, args=(requests,), name="llm-mcp-attend", daemon=True).start()
            caller.over.wait()
            jobs = caller.close()
            doubt_s = _DOUBT_S if jobs and caller.refused is None else 0
            if not place.draining and (caller.broken or gone.wait(doubt_s)):
                self.attended.abandon(jobs)
                return pb.AttendResponse()
            self.attended.leave(jobs)
            if caller.refused is not None:
                raise caller.refused
            if place.draining:
                context.set_code(grpc.StatusCode.UNAVAILABLE)
                context.set_details("this process is about to stop: come again, and say anew whom you attend")
            return pb.AttendResponse()
        finally:
            place()

    def _sees(self, job: UUID, owner: str | None) -> bool:
        try:
            self._all_jobs.check_owner(job, owner)
        except NotFound:
            return False
        return True
