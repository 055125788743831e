"""From a submission to the client's answer: whole, or line by line as it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import UUID

from flask import Response, request

from llm_mcp.answers import finished
from llm_mcp.calls import CallFailed, Calls, CallTimeout
from llm_mcp.events import DELTA, RESET, Event
from llm_mcp.fleet import Route
from llm_mcp.job import Job, Status, Submission
from llm_mcp.jobs import Jobs

from ..openai.answering import headers
from ..openai.errors import Draining, Lost
from ..streams import Place, streams
from .errors import Called, refused, say, tell
from .forms import Form
from .lines import Lines, line

# How long a stream may be without news before it looks whether its client and its process are still there, s.
_TURN_S = 0.5
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def whole(jobs: Jobs, submission: Submission, route: Route, form: Form) -> Response:
    """Submit, wait, and answer with one object."""
    began_at = time.monotonic_ns()
    try:
        answered = Calls(jobs).ask(submission)
    except CallFailed as error:
        return refused(error, Called(route.model, form.model))
    told = form.whole(answered.result, finished(answered.result), took_ns=time.monotonic_ns() - began_at)
    return say(told, headers=headers(answered.job_id, route, answered))


def moved(jobs: Jobs, submission: Submission, route: Route, form: Form, reason: str) -> Response:
    """Submit what only loads or unloads a model, wait, and say so."""
    try:
        answered = Calls(jobs).ask(submission)
    except CallFailed as error:
        return refused(error, Called(route.model, form.model))
    return say(form.moved(reason), headers=headers(answered.job_id, route, answered))


def stream(jobs: Jobs, submission: Submission, route: Route, form: Form) -> Response:
    """Submit, and answer with the job's words as they come.

    Nothing is sent before the first word: what goes wrong before it has an HTTP status.
    """
    called = Called(route.model, form.model)
    place = streams().enter()
    try:
        place.watch(request.environ.get("gunicorn.socket"), lambda: None)
        calls = Calls(jobs)
        job_id, items = calls.stream(submission, quiet_s=_TURN_S)
        lines = Lines(form, whole_calls=route.provider == "ollama")
        telling = _Telling(calls, job_id, items, lines, place, timeout_s=jobs.runtime.settings.call_timeout_s)
        told = telling.told()
        first = next(told, b"")
    except CallFailed as error:
        place()
        return refused(error, called)
    except BaseException:
        place()
        raise
    response = Response(
        _safely(first, told, called),
        content_type="application/x-ndjson",
        headers={**_HEADERS, **headers(job_id, route)},
    )
    response.call_on_close(place)
    return response


def _safely(first: bytes, told: Iterator[bytes], called: Called) -> Iterator[bytes]:
    """Yield the lines; what goes wrong is one of them, for the status is sent."""
    yield first
    try:
        yield from told
    except Exception as error:  # noqa: BLE001 - as said
        yield line({"error": tell(error, called).words})


class _Telling:
    """One stream: a job's life, told in lines. What was sent cannot be taken back."""

    def __init__(
        self,
        calls: Calls,
        job_id: UUID,
        items: Iterator[Job | Event | None],
        lines: Lines,
        place: Place,
        *,
        timeout_s: float,
    ) -> None:
        self._calls = calls
        self._job_id = job_id
        self._items = items
        self._lines = lines
        self._place = place
        self._timeout_s = timeout_s
        self._began_at = time.monotonic()
        self._begun = False
        """Whether a word was sent."""

    def told(self) -> Iterator[bytes]:
        """Yield lines until the answer's end, or the client's. Raises what the call ended in."""
        for item in self._items:
            if piece := self._piece(item):
                self._begun = True
                yield piece
            if self._place.gone or (isinstance(item, Job) and item.status.final):
                return
            if self._place.draining:
                raise Draining(self._job_id)
            if not self._begun and time.monotonic() - self._began_at >= self._timeout_s:
                raise CallTimeout(self._job_id, self._timeout_s)

    def _piece(self, item: Job | Event | None) -> bytes:
        if isinstance(item, Event) and item.type == DELTA:
            return self._lines.delta(item.data)
        again = (isinstance(item, Event) and item.type == RESET) or (
            isinstance(item, Job) and item.status is Status.QUEUED
        )
        if again and self._begun:
            raise Lost(self._job_id)
        if isinstance(item, Job) and item.status.final:
            answered = self._calls.answer(self._job_id)
            if answered is None:  # an operator had it tried anew at this very moment
                raise Lost(self._job_id)
            took_ns = round((time.monotonic() - self._began_at) * 1e9)
            return self._lines.end(answered.result, finished(answered.result), took_ns=took_ns)
        return b""
