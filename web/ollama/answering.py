"""From a submission to the client's answer: whole, or line by line as it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Response

from llm_mcp.answers import finished
from llm_mcp.calls import CallFailed
from llm_mcp.fleet import Route
from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs

from ..calls import STREAMED, ask, headers, open_stream
from .errors import Called, refused, say, tell
from .forms import Form
from .lines import Lines, line


def whole(jobs: Jobs, submission: Submission, route: Route, form: Form) -> Response:
    """Submit, wait, and answer with one object."""
    began_at = time.monotonic_ns()
    try:
        answered = ask(jobs, submission)
    except CallFailed as error:
        return refused(error, Called(route.model, form.model))
    told = form.whole(answered.result, finished(answered.result), took_ns=time.monotonic_ns() - began_at)
    return say(told, headers=headers(answered.job_id, route, answered))


def moved(jobs: Jobs, submission: Submission, route: Route, form: Form, reason: str) -> Response:
    """Submit what only loads or unloads a model, wait, and say so."""
    try:
        answered = ask(jobs, submission)
    except CallFailed as error:
        return refused(error, Called(route.model, form.model))
    return say(form.moved(reason), headers=headers(answered.job_id, route, answered))


def stream(jobs: Jobs, submission: Submission, route: Route, form: Form) -> Response:
    """Submit, and answer with the job's words as they come.

    Nothing is sent before the first word: what goes wrong before it has an HTTP status.
    """
    called = Called(route.model, form.model)
    whole_calls = route.provider == "ollama"
    telling = open_stream(jobs, submission, lambda _job_id: Lines(form, whole_calls=whole_calls))
    try:
        told = filter(None, telling.pieces())
        first = next(told, b"")
    except CallFailed as error:
        telling.place()
        return refused(error, called)
    except BaseException:
        telling.place()
        raise
    response = Response(
        _safely(first, told, called),
        content_type="application/x-ndjson",
        headers={**STREAMED, **headers(telling.job_id, route)},
    )
    response.call_on_close(telling.place)
    return response


def _safely(first: bytes, told: Iterator[bytes], called: Called) -> Iterator[bytes]:
    """Yield the lines; what goes wrong is one of them, for the status is sent."""
    yield first
    try:
        yield from told
    except Exception as error:  # noqa: BLE001 - as said
        yield line({"error": tell(error, called).words})
