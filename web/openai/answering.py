"""From a submission to the client's answer: whole, or as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from flask import Response

from llm_mcp.answers import Finished, finished
from llm_mcp.fleet import Route
from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs

from ..calls import KEEP_ALIVE_S, STREAMED, Telling, Voice, ask, headers, open_stream
from ..reply import answer
from .chunks import frame
from .errors import tell

_COMMENT = b": keep-alive\n\n"


def whole(
    jobs: Jobs, submission: Submission, route: Route, render: Callable[[UUID, str, Finished], dict[str, Any]]
) -> Response:
    """Submit, wait, and answer with what `render` makes of the job, the model and what it said."""
    answered = ask(jobs, submission)
    shown = render(answered.job_id, route.model, finished(answered.result))
    return answer(shown, headers=headers(answered.job_id, route, answered))


def stream(jobs: Jobs, submission: Submission, route: Route, voice_of: Callable[[UUID], Voice]) -> Response:
    """Submit, and answer with the job's words as they come."""
    telling = open_stream(jobs, submission, voice_of)
    try:
        pieces = telling.pieces()
        opening = _opening(telling, pieces)
    except BaseException:
        telling.place()
        raise
    response = Response(
        _frames(telling, opening, pieces),
        mimetype="text/event-stream",
        headers={**STREAMED, **headers(telling.job_id, route)},
    )
    response.call_on_close(telling.place)
    return response


def _opening(telling: Telling, pieces: Iterator[bytes]) -> bytes:
    """Return the first bytes, once there is a word to tell or it is time to say that there is none yet.

    What goes wrong before has an HTTP status of its own. Raises what the call ended in before it said anything.
    """
    for piece in pieces:
        if piece or time.monotonic() - telling.began_at >= KEEP_ALIVE_S:
            return piece or _COMMENT
    return b""


def _frames(telling: Telling, opening: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the answer's bytes."""
    yield opening
    said_at = time.monotonic()
    if telling.place.gone:
        return
    try:
        for piece in pieces:
            if piece:
                yield piece
            elif time.monotonic() - said_at >= KEEP_ALIVE_S / 2:
                yield _COMMENT
            else:
                continue
            said_at = time.monotonic()
    except Exception as error:  # noqa: BLE001 - the status is sent: all that is left is to say so
        yield frame(tell(error).body)
