"""`GET /v1/jobs/{id}/stream`: a job's life as server-sent events.

`event: status` frames carry the whole job and no id; every other event has `id: <attempt>:<seq>`, and `Last-Event-ID`
(or `?starting_after=`) resumes after it on any process, without a gap or a repeat. `event: end` only follows a
finished job: a stream that ends without it is to be resumed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast
from uuid import UUID

import orjson
from flask import Blueprint, Response, current_app, request

from llm_mcp.errors import LlmMcpError, NotFound, Unavailable
from llm_mcp.events import Cursor, Event
from llm_mcp.job import Job
from llm_mcp.jobs import Jobs

from .errors import job_id
from .reply import job_object, service
from .streams import Streams

blueprint = Blueprint("stream", __name__, url_prefix="/v1/jobs")

_RETRY_MS = 2000
_BYE_RETRY_MS = 500
_QUIET_S = 15.0
_TURN_S = 0.5
_DATABASE_PATIENCE_S = 30.0
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@blueprint.get("/<text>/stream")
def stream(text: str) -> Response:
    """Stream one job; an unknown one is a single `event: error` frame."""
    wanted = job_id(text)
    place = request.headers.get("Last-Event-ID") or request.args.get("starting_after")
    name = "Last-Event-ID" if request.headers.get("Last-Event-ID") else "starting_after"
    after = Cursor.parse(place, field=name) if place else Cursor()
    streams = cast("Streams", current_app.extensions["streams"])
    streams.enter()
    response = Response(_frames(service(), streams, wanted, after), mimetype="text/event-stream", headers=_HEADERS)
    response.call_on_close(streams.leave)
    return response


def _frames(jobs: Jobs, streams: Streams, wanted: UUID, after: Cursor) -> Iterator[bytes]:
    cursor, lost_at, beat_at = after, None, time.monotonic()
    yield f"retry: {_RETRY_MS}\n".encode()
    while True:
        try:
            for item in jobs.follow(wanted, cursor, quiet_s=_TURN_S):
                lost_at = None
                now = time.monotonic()
                if isinstance(item, Job):
                    yield _frame("status", job_object(item))
                    if item.status.final:
                        yield _frame("end", {"status": item.status})
                        return
                elif isinstance(item, Event):
                    cursor = item.cursor
                    yield _frame(item.type, item.data, id=str(cursor))
                elif now - beat_at < _QUIET_S:
                    if streams.draining.is_set():
                        break
                    continue
                else:
                    yield b": keep-alive\n\n"
                beat_at = now
                if streams.draining.is_set():
                    break
            yield f"event: bye\nretry: {_BYE_RETRY_MS}\ndata: {{}}\n\n".encode()
            return
        except NotFound as error:
            yield _error(error)
            return
        except Unavailable as error:
            # The client need not know of a short absence of the database; a long one ends the stream, resumable.
            now = time.monotonic()
            lost_at = lost_at or now
            if now - lost_at > _DATABASE_PATIENCE_S or streams.draining.wait(_TURN_S):
                yield _frame("error", {"error": "db_read_failed", "message": str(error)})
                return


def _error(error: LlmMcpError) -> bytes:
    return _frame("error", {"error": error.code, "message": str(error)})


def _frame(event: str, data: object, *, id: str | None = None) -> bytes:  # noqa: A002 - the SSE field's own name
    head = f"id: {id}\n" if id else ""
    return f"{head}event: {event}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"
