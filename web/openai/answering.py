"""From a submission to the client's answer: whole, or as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from flask import Response, request

from llm_mcp.answers import Finished, finished
from llm_mcp.calls import Answered, Calls, CallStopped, CallTimeout, Stop
from llm_mcp.events import DELTA, RESET, Event
from llm_mcp.fleet import Route
from llm_mcp.job import Job, Status, Submission
from llm_mcp.jobs import Jobs

from ..reply import answer
from ..streams import Place, streams
from .chunks import Chunks, created_at, frame, message_of
from .errors import JOB, Draining, Lost, tell

# A stream says something about so often; and the first bytes wait so long for the first word, so that what goes wrong
# before it has an HTTP status of its own, s.
_KEEP_ALIVE_S = 10.0
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


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
    """Submit and wait; the wait ends when the process is about to stop, and when the client is gone.

    It takes a place among the streams, so that waiting never uses up the threads that answer everything else. Raises
    what `Calls.ask` raises, Draining, and Full when there is no place.
    """
    place, stop = streams().enter(), Stop()
    try:
        place.watch(request.environ.get("gunicorn.socket"), stop)
        return Calls(jobs).ask(submission, stop=stop)
    except CallStopped as error:
        raise Draining(error.job_id) from None
    finally:
        place()


def whole(
    jobs: Jobs, submission: Submission, route: Route, render: Callable[[UUID, Route, Finished], dict[str, Any]]
) -> Response:
    """Submit, wait, and answer with what `render` makes of the result."""
    answered = ask(jobs, submission)
    shown = render(answered.job_id, route, finished(answered.result))
    return answer(shown, headers=headers(answered.job_id, route, answered))


def completion(job_id: UUID, route: Route, said: Finished) -> dict[str, Any]:
    """Return the `chat.completion` object of a finished call."""
    logprobs = None if said.logprobs is None else {"content": said.logprobs, "refusal": None}
    return {
        **said.more,
        "id": f"chatcmpl-{job_id.hex}",
        "object": "chat.completion",
        "created": created_at(job_id),
        "model": said.model or route.model,
        "choices": [
            {"index": 0, "message": message_of(said), "logprobs": logprobs, "finish_reason": said.finish_reason}
        ],
        "usage": said.usage,
    }


def stream(jobs: Jobs, submission: Submission, route: Route, chunks_of: Callable[[UUID], Chunks]) -> Response:
    """Submit, and answer with the job's words as they come."""
    place = streams().enter()
    try:
        timeout_s = jobs.runtime.settings.call_timeout_s
        calls = Calls(jobs)
        job_id = calls.submit(submission)
        watch = jobs.watch(job_id)
        place.watch(request.environ.get("gunicorn.socket"), watch.nudge)
        items = watch.items(quiet_s=min(_KEEP_ALIVE_S, timeout_s / 4))
        telling = _Telling(calls, job_id, items, chunks_of(job_id), place, timeout_s=timeout_s)
        opening = telling.opening()
    except BaseException:
        place()
        raise
    response = Response(
        telling.frames(opening), mimetype="text/event-stream", headers={**_HEADERS, **headers(job_id, route)}
    )
    response.call_on_close(place)
    return response


class _Telling:
    """One stream of the dialect: a job's life, told in chunks. What was sent cannot be taken back."""

    def __init__(
        self,
        calls: Calls,
        job_id: UUID,
        items: Iterator[Job | Event | None],
        chunks: Chunks,
        place: Place,
        *,
        timeout_s: float,
    ) -> None:
        self._calls = calls
        self._job_id = job_id
        self._items = items
        self._chunks = chunks
        self._place = place
        self._timeout_s = timeout_s
        self._began_at = time.monotonic()
        self._begun = False
        """Whether a word was sent."""

    def opening(self) -> bytes:
        """Return the first bytes, once there is a word to tell or it is time to say that there is none yet.

        Raises what the call ended in before it said anything.
        """
        for piece in self._told():
            if piece or time.monotonic() - self._began_at >= _KEEP_ALIVE_S:
                return piece or _COMMENT
        return b""

    def frames(self, opening: bytes) -> Iterator[bytes]:
        """Yield the answer's bytes."""
        yield opening
        said_at = time.monotonic()
        if self._place.gone:
            return
        try:
            for piece in self._told():
                if piece:
                    yield piece
                elif time.monotonic() - said_at >= _KEEP_ALIVE_S / 2:
                    yield _COMMENT
                else:
                    continue
                said_at = time.monotonic()
        except Exception as error:  # noqa: BLE001 - the status is sent: all that is left is to say so
            yield frame(tell(error).body)

    def _told(self) -> Iterator[bytes]:
        """Yield what there is to send, b"" when something happened that clients of this dialect do not hear of."""
        for item in self._items:
            yield self._piece(item)
            if isinstance(item, Job) and item.status.final:
                return
            if self._place.gone:
                return
            if self._place.draining:
                raise Draining(self._job_id)
            if not self._begun and time.monotonic() - self._began_at >= self._timeout_s:
                raise CallTimeout(self._job_id, self._timeout_s)

    def _piece(self, item: Job | Event | None) -> bytes:
        if isinstance(item, Event) and item.type == DELTA:
            piece = self._chunks.delta(item.data)
            self._begun = self._begun or bool(piece)
            return piece
        again = (isinstance(item, Event) and item.type == RESET) or (
            isinstance(item, Job) and item.status is Status.QUEUED
        )
        if again and self._begun:
            raise Lost(self._job_id)
        if isinstance(item, Job) and item.status.final:
            answered = self._calls.answer(self._job_id)
            if answered is None:  # an operator had it tried anew at this very moment
                raise Lost(self._job_id)
            return self._chunks.end(finished(answered.result))
        return b""


_COMMENT = b": keep-alive\n\n"
