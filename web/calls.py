"""Calls as the dialects' doors make them: a job that somebody waits for, or hears as it comes.

Whoever waits takes a place among the streams, so that waiting never uses up the threads that answer everything else;
the wait ends when the process is about to stop, and when the client is gone. The job goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol
from uuid import UUID

from flask import request

from llm_mcp.answers import Finished, finished
from llm_mcp.calls import Answered, Calls, CallStopped, CallTimeout, Stop
from llm_mcp.errors import LlmMcpError, Unavailable
from llm_mcp.events import DELTA, RESET, Event
from llm_mcp.fleet import Route
from llm_mcp.job import Job, Status, Submission
from llm_mcp.jobs import Jobs

from .streams import Place, streams

JOB = "x-llm-mcp-job"
"""The header that names a call's job."""
STREAMED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""The headers of every streamed answer."""
KEEP_ALIVE_S = 10.0
"""A stream that can say something between words does so about so often, s."""


class Draining(Unavailable):
    """The process is about to stop. `job_id`: the job that goes on without it."""

    code = "server_draining"

    def __init__(self, job_id: UUID) -> None:
        super().__init__(f"this server is about to stop; job {job_id} goes on: GET /v1/jobs/{job_id}")
        self.job_id = job_id


class Lost(LlmMcpError):
    """The attempt whose words were sent already is lost. `job_id`: the job, which is tried again."""

    code = "attempt_lost"

    def __init__(self, job_id: UUID) -> None:
        super().__init__(
            f"the attempt that wrote this was lost, and what was sent cannot be taken back; job {job_id} is tried"
            f" again: GET /v1/jobs/{job_id}"
        )
        self.job_id = job_id


class Voice(Protocol):
    """How a dialect tells one answer, piece by piece."""

    def delta(self, data: Mapping[str, Any]) -> bytes:
        """Return the bytes of one delta, b"" when it has nothing to tell."""
        ...

    def end(self, result: Any, said: Finished) -> bytes:
        """Return the bytes that end the stream of a finished answer: `result`, the job's; `said`, what it says."""
        ...


def headers(job_id: UUID, route: Route, answered: Answered | None = None) -> dict[str, str]:
    """Return what every answer says beside itself: its job, the model chosen, how long it waited and where it ran."""
    told = {JOB: str(job_id)}
    if route.chosen:
        told["X-Selected-Model"] = route.model
    if answered is not None and answered.queued_ms is not None:
        told["x-llm-mcp-queue-ms"] = str(round(answered.queued_ms, 1))
    if answered is not None and answered.worker_id:
        told["x-llm-mcp-worker"] = answered.worker_id
    return {name: value.encode("ascii", "replace").decode() for name, value in told.items()}


def ask(jobs: Jobs, submission: Submission) -> Answered:
    """Submit and wait for the answer.

    Raises what `Calls.ask` raises, Draining, and Full when there is no place.
    """
    place, stop = streams().enter(), Stop()
    try:
        place.watch(request.environ.get("gunicorn.socket"), stop)
        return Calls(jobs).ask(submission, stop=stop)
    except CallStopped as error:
        raise Draining(error.job_id) from None
    finally:
        place()


def open_stream(jobs: Jobs, submission: Submission, voice_of: Callable[[UUID], Voice]) -> Telling:
    """Submit, and return the telling of what the job says; its `place` is the caller's to give back.

    Raises what `Calls.submit` raises, and Full when there is no place.
    """
    place = streams().enter()
    try:
        timeout_s = jobs.runtime.settings.call_timeout_s
        calls = Calls(jobs)
        job_id = calls.submit(submission)
        watch = jobs.watch(job_id)
        place.watch(request.environ.get("gunicorn.socket"), watch.nudge)
        items = watch.items(quiet_s=min(KEEP_ALIVE_S, timeout_s / 4))
        return Telling(calls, job_id, items, voice_of(job_id), place, timeout_s=timeout_s)
    except BaseException:
        place()
        raise


class Telling:
    """A job's life, told in a dialect's voice. What was sent cannot be taken back."""

    def __init__(
        self,
        calls: Calls,
        job_id: UUID,
        items: Iterator[Job | Event | None],
        voice: Voice,
        place: Place,
        *,
        timeout_s: float,
    ) -> None:
        self.job_id = job_id
        self.place = place
        self.began_at = time.monotonic()
        self._calls = calls
        self._items = items
        self._voice = voice
        self._timeout_s = timeout_s
        self._begun = False
        """Whether a word was sent."""

    def pieces(self) -> Iterator[bytes]:
        """Yield what there is to send, b"" when something happened, or nothing for a while, that is not told.

        Raises what the call ended in; CallTimeout when there is no word in time, Draining, and Lost.
        """
        for item in self._items:
            yield self._piece(item)
            if self.place.gone or (isinstance(item, Job) and item.status.final):
                return
            if self.place.draining:
                raise Draining(self.job_id)
            if not self._begun and time.monotonic() - self.began_at >= self._timeout_s:
                raise CallTimeout(self.job_id, self._timeout_s)

    def _piece(self, item: Job | Event | None) -> bytes:
        if isinstance(item, Event) and item.type == DELTA:
            piece = self._voice.delta(item.data)
            self._begun = self._begun or bool(piece)
            return piece
        again = (isinstance(item, Event) and item.type == RESET) or (
            isinstance(item, Job) and item.status is Status.QUEUED
        )
        if again and self._begun:
            raise Lost(self.job_id)
        if isinstance(item, Job) and item.status.final:
            answered = self._calls.answer(self.job_id)
            if answered is None:  # an operator had it tried anew at this very moment
                raise Lost(self.job_id)
            return self._voice.end(answered.result, finished(answered.result))
        return b""
