"""A response's stream: the script of its job, from a number on, as it is written.

Whoever asks for the rest after a number has the whole script made again from what is stored, and is sent what comes
after it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import orjson
from flask import Response, request

from llm_mcp.answers import finished
from llm_mcp.calls import Calls, CallTimeout
from llm_mcp.dialect.script import GENERATION, Script
from llm_mcp.events import DELTA, Event
from llm_mcp.job import Job, Status
from llm_mcp.jobs import Jobs
from llm_mcp.responses import Responses

from ..calls import KEEP_ALIVE_S, STREAMED, Draining, Lost
from ..openai.errors import tell
from ..streams import Place, streams


def stream(
    jobs: Jobs, job_id: UUID, *, after: int | None = None, patience_s: float | None = None, headers: Mapping[str, str]
) -> Response:
    """Answer with a response's stream after an event's number (None: all of it).

    `patience_s`: how long its job may take to begin, s; None: for ever.
    """
    payload: dict[str, Any] = orjson.loads(jobs.get(job_id).payload or "{}")
    watch = jobs.watch(job_id)
    place = streams().enter()
    telling = _Telling(jobs, job_id, payload, place, after=-1 if after is None else after, patience_s=patience_s)
    quiet_s = KEEP_ALIVE_S if patience_s is None else min(KEEP_ALIVE_S, patience_s)
    response = Response(
        telling.frames(watch.items(quiet_s=quiet_s)), mimetype="text/event-stream", headers={**STREAMED, **headers}
    )
    response.call_on_close(place)
    place.watch(request.environ.get("gunicorn.socket"), watch.nudge)
    return response


class _Telling:
    """One stream. `after`: the number of the last event its client has, -1 for none."""

    def __init__(
        self, jobs: Jobs, job_id: UUID, payload: dict[str, Any], place: Place, *, after: int, patience_s: float | None
    ) -> None:
        self._jobs = jobs
        self._responses = Responses(jobs)
        self._job_id = job_id
        self._payload = payload
        self._place = place
        self._last = after
        self._patience_s = patience_s
        self._script = Script(job_id, payload)
        self._attempt = 0
        """The attempt that is told, or waited for; 0 before anything is known."""
        self._running = False
        """Whether any attempt has begun."""

    def frames(self, items: Iterator[Job | Event | None]) -> Iterator[bytes]:
        """Yield the stream's bytes."""
        said_at = time.monotonic()
        try:
            for told in self._told(items):
                if told is not None:
                    yield _frame(told)
                elif time.monotonic() - said_at >= KEEP_ALIVE_S:
                    yield b": keep-alive\n\n"
                else:
                    continue
                said_at = time.monotonic()
        except Lost as error:
            yield _frame(self._lost(error))
        except Exception as error:  # noqa: BLE001 - the status is sent: all that is left is to say so
            # Its number is that of the event before it: whoever goes on after it misses nothing.
            said = tell(error).body["error"]
            shown = {name: said[name] for name in ("code", "message", "param")}
            yield _frame({"type": "error", **shown, "sequence_number": max(0, self._last)})

    def _told(self, items: Iterator[Job | Event | None]) -> Iterator[dict[str, Any] | None]:
        began_at = time.monotonic()
        for item in items:
            if self._place.gone:
                return
            for event in self._events(item):
                if event["sequence_number"] > self._last:
                    self._last = event["sequence_number"]
                    yield event
            yield None
            if isinstance(item, Job) and item.status.final:
                return
            if self._place.draining:
                raise Draining(self._job_id)
            waited_s = time.monotonic() - began_at
            if self._patience_s is not None and not self._running and waited_s >= self._patience_s:
                raise CallTimeout(self._job_id, self._patience_s)

    def _events(self, item: Job | Event | None) -> list[dict[str, Any]]:
        """Return the events that an item of the job's life is."""
        if item is None or (isinstance(item, Event) and item.attempt < self._attempt):
            return []  # what a try wrote that is over already is not told: another one will be
        if isinstance(item, Event):
            told = self._begin(item.attempt)
            self._running = True
            return told + (self._script.delta(item.data) if item.type == DELTA else [])
        if item.status is Status.QUEUED:
            return self._begin(item.attempts + 1)
        if item.status is Status.ERROR:
            # It may have ended while another try was waited for.
            told = self._begin(max(1, item.attempts, self._attempt))
            status, error = self._responses.failure(item)
            return told + self._script.failed(error, began=item.attempts > 0, status=status)
        told = self._begin(item.attempts)
        self._running = True
        if item.status is Status.RUNNING:
            return told + self._script.running()
        answered = Calls(self._jobs).answer(self._job_id)
        if answered is None:  # an operator had it tried anew at this very moment
            raise Lost(self._job_id)
        return told + self._script.done(finished(answered.result))

    def _begin(self, attempt: int) -> list[dict[str, Any]]:
        """Begin the script of an attempt, unless it is the one that is told.

        Raises Lost when words of an earlier one were sent.
        """
        if attempt == self._attempt:
            return []
        known, place = divmod(self._last, GENERATION) if self._last >= 0 else (0, -1)
        generation = max(known, self._responses.generation(self._job_id, attempt))
        if known < generation and place >= self._script.preamble:
            raise Lost(self._job_id)
        if place >= 0:
            self._last = generation * GENERATION + place
        self._attempt = attempt
        self._script = Script(self._job_id, self._payload, generation)
        return self._script.created()

    def _lost(self, error: Lost) -> dict[str, Any]:
        """Return the event that ends a stream whose words cannot be taken back."""
        script = Script(self._job_id, self._payload)
        [told] = script.failed({"code": "server_error", "message": str(error)}, began=False)
        told["sequence_number"] = self._last + 1
        return told


def _frame(event: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), orjson.dumps(event))
