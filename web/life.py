"""A job's life in frames, as its server-sent events and its WebSocket tell it.

`status` frames carry the whole job and no id: one at once, one at each change. `queue` frames, which have no id either,
say where a waiting job stands. Every other event of the job has the id `<attempt>:<seq>`, after which a reader goes on
on any process, without a gap or a repeat. `end` only follows a finished job: a life that stops without it is to be
resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import orjson
from flask import request

from llm_mcp.errors import LlmMcpError, Unavailable
from llm_mcp.events import QUEUE, Cursor, Event
from llm_mcp.job import Job, Status
from llm_mcp.watch import Watch

from .errors import body, unforeseen, words
from .reply import job_object
from .streams import Place

KEEP_ALIVE_S = 15.0
_RETRY_MS = 2000
_BYE_RETRY_MS = 500


@dataclass(frozen=True, slots=True)
class Frame:
    """One thing told. `data` is JSON; `retry`, after how long to come back when the connection ends, ms."""

    event: str
    data: bytes
    id: str | None = None
    retry: int | None = None


def starting_place() -> Cursor:
    """Return the place after which the request wants to go on.

    Raises InvalidInput naming the header or the parameter that is none.
    """
    for name, text in (
        ("Last-Event-ID", request.headers.get("Last-Event-ID")),
        ("starting_after", request.args.get("starting_after")),
    ):
        if text:
            return Cursor.parse(text, field=name)
    return Cursor()


def told(watch: Watch, place: Place) -> Iterator[Frame | None]:
    """Yield a job's frames until it is finished, its client left or the process is about to stop.

    None: nothing came for `KEEP_ALIVE_S` seconds, or the watch was nudged for another reason.
    """
    status: Status | None = None
    retry: int | None = _RETRY_MS
    try:
        for item in watch.items(quiet_s=KEEP_ALIVE_S):
            if place.gone:
                return
            if isinstance(item, Event):
                yield _frame(item.type, item.data, id=None if item.type == QUEUE else str(item.cursor), retry=retry)
                retry = None
            elif isinstance(item, Job) and item.status is not status:
                status = item.status
                yield _frame("status", job_object(item), retry=retry)
                retry = None
            else:
                yield None
            if status is not None and status.final:
                yield _frame("end", {"status": status})
                return
            if place.draining:
                yield _frame("bye", {}, retry=_BYE_RETRY_MS)
                return
    except Unavailable as error:
        yield _frame("error", {"error": "db_read_failed", "message": words(error)})
    except LlmMcpError as error:
        yield _frame("error", body(error))
    except Exception as error:  # noqa: BLE001 - the status is sent: all that is left is to say so, and to log it
        unforeseen(error)
        yield _frame("error", {"error": "internal_error", "message": "internal error"})


def _frame(event: str, data: object, *, id: str | None = None, retry: int | None = None) -> Frame:  # noqa: A002 - the field's own name
    # A payload that came in by plain SQL keeps its line breaks; outside of JSON's texts they mean nothing.
    return Frame(event, orjson.dumps(data).replace(b"\r", b" ").replace(b"\n", b" "), id, retry)
