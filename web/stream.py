"""`GET /v1/jobs/{id}/stream`: a job's life as server-sent events.

`event: status` frames carry the whole job and no id: one at once, one at each change. Every other event of the job has
`id: <attempt>:<seq>`, and `Last-Event-ID` (or `?starting_after=`) resumes after it on any process, without a gap or a
repeat. `event: end` only follows a finished job: a stream that ends without it is to be resumed.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from uuid import UUID

import orjson
from flask import Blueprint, Response, request

from llm_mcp.errors import LlmMcpError, Unavailable
from llm_mcp.events import Cursor, Event
from llm_mcp.job import Job, Status
from llm_mcp.jobs import Jobs

from .errors import body, unforeseen, words
from .ids import job_id
from .reply import job_object, service
from .streams import streams

blueprint = Blueprint("stream", __name__, url_prefix="/v1/jobs")

_RETRY_MS = 2000
_BYE_RETRY_MS = 500
_KEEP_ALIVE_S = 15.0
# How often a quiet stream looks whether its client is still there and whether the process is to stop, s.
_TURN_S = 0.5
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@blueprint.get("/<text>/stream")
def stream(text: str) -> Response:
    """Stream one job; an unknown one is a single `event: error` frame."""
    wanted, after, places = job_id(text), _place(), streams()
    leave = places.enter()
    frames = _frames(service(), wanted, after, places.draining, request.environ.get("gunicorn.socket"))
    response = Response(frames, mimetype="text/event-stream", headers=_HEADERS)
    response.call_on_close(leave)
    return response


def _place() -> Cursor:
    for name, text in (
        ("Last-Event-ID", request.headers.get("Last-Event-ID")),
        ("starting_after", request.args.get("starting_after")),
    ):
        if text:
            return Cursor.parse(text, field=name)
    return Cursor()


def _frames(
    jobs: Jobs, wanted: UUID, after: Cursor, draining: threading.Event, client: socket.socket | None
) -> Iterator[bytes]:
    """Yield a stream's frames until the job is finished, its client left or the process is about to stop."""
    told: Status | None = None
    retry: int | None = _RETRY_MS
    said_at = time.monotonic()
    try:
        for item in jobs.follow(wanted, after, quiet_s=_TURN_S):
            frame = b""
            if isinstance(item, Event):
                frame = _frame(item.type, item.data, id=item.cursor, retry=retry)
            elif isinstance(item, Job) and item.status is not told:
                told = item.status
                frame = _frame("status", job_object(item), retry=retry)
            elif time.monotonic() - said_at >= _KEEP_ALIVE_S:
                frame = b": keep-alive\n\n"
            if frame:
                yield frame
                retry, said_at = None, time.monotonic()
            if told is not None and told.final:
                yield _frame("end", {"status": told})
                return
            if draining.is_set():
                yield _frame("bye", {}, retry=_BYE_RETRY_MS)
                return
            if item is None and _left(client):
                return
    except Unavailable as error:
        yield _frame("error", {"error": "db_read_failed", "message": words(error)})
    except LlmMcpError as error:
        yield _frame("error", body(error))
    except Exception as error:  # noqa: BLE001 - the status is sent: all that is left is to say so, and to log it
        unforeseen(error)
        yield _frame("error", {"error": "internal_error", "message": "internal error"})


def _left(client: socket.socket | None) -> bool:
    """Say whether the client closed its side. A stream that has nothing to write would not learn of it otherwise."""
    if client is None:
        return False
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _frame(event: str, data: object, *, id: Cursor | None = None, retry: int | None = None) -> bytes:  # noqa: A002 - the SSE field's own name
    # A payload that came in by plain SQL keeps its line breaks; outside of JSON's texts they mean nothing.
    line = orjson.dumps(data).replace(b"\r", b" ").replace(b"\n", b" ")
    place = b"" if id is None else f"id: {id}\n".encode()
    pause = b"" if retry is None else f"retry: {retry}\n".encode()
    return b"%sevent: %s\ndata: %s\n%s\n" % (place, event.encode(), line, pause)
