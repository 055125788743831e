"""`GET /v1/jobs/{id}/stream`: a job's life as server-sent events.

`Last-Event-ID`, or `?starting_after=`, goes on after an event.
"""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response, request

from llm_mcp.watch import Watch

from .ids import job_id
from .life import Frame, starting_place, told
from .reply import service
from .streams import Place, streams

blueprint = Blueprint("stream", __name__, url_prefix="/v1/jobs")

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@blueprint.get("/<text>/stream")
def stream(text: str) -> Response:
    """Stream one job; an unknown one is a single `event: error` frame."""
    watch = service().watch(job_id(text), starting_place(), line=True)
    place = streams().enter()
    response = Response(_blocks(watch, place), mimetype="text/event-stream", headers=_HEADERS)
    response.call_on_close(place)
    place.watch(request.environ.get("gunicorn.socket"), watch.nudge)
    return response


def _blocks(watch: Watch, place: Place) -> Iterator[bytes]:
    for frame in told(watch, place):
        yield b": keep-alive\n\n" if frame is None else _block(frame)


def _block(frame: Frame) -> bytes:
    place = b"" if frame.id is None else f"id: {frame.id}\n".encode()
    pause = b"" if frame.retry is None else f"retry: {frame.retry}\n".encode()
    return b"%sevent: %s\ndata: %s\n%s\n" % (place, frame.event.encode(), frame.data, pause)
