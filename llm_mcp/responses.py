"""Responses: jobs that carry their own request, seen as OpenAI's newer dialect sees them.

Nothing else is stored: the request lies in the payload, the answer in the result, the stream in the job's events.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from .answers import Finished, finished
from .calls import CallFailed, Calls
from .dialect.request import KEPT
from .dialect.response import calls_of, incomplete_reason, job_id_of, response_object
from .dialect.script import Script
from .errors import Conflict, InvalidInput, NotFound
from .job import Job, Reason, Status
from .jobs import Jobs
from .store import responses as rows

_STATUS = {Status.QUEUED: "queued", Status.RUNNING: "in_progress", Status.DONE: "completed", Status.ERROR: "failed"}
# What a failure is called here, by our word for the provider's refusal.
_CODES = {"bad_request": "invalid_prompt", "rate_limited": "rate_limit_exceeded", "quota": "rate_limit_exceeded"}


@dataclass(frozen=True, slots=True)
class Found:
    """A response that is there: its job, and that one's payload and result as JSON values."""

    job: Job = field(repr=False)
    payload: dict[str, Any] = field(repr=False)

    @property
    def job_id(self) -> UUID:
        """Its job's id."""
        return self.job.id

    @property
    def said(self) -> Finished:
        """What it says, once its job is done."""
        return finished(orjson.loads(self.job.result or "null"))


class Responses:
    """The verbs on responses. Cheap to make; safe for threads."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._db = jobs.runtime.db

    def get(self, name: str) -> Found:
        """Return the response of that id. Raises NotFound, also when its answer is kept no more."""
        job_id = job_id_of(name)
        job = None if job_id is None else self._job(job_id)
        payload = None if job is None else orjson.loads(job.payload or "null")
        if job is None or not isinstance(payload, dict) or not isinstance(payload.get(KEPT), dict):
            raise NotFound("no response of that id")
        if job.status is Status.DONE and job.result is None:
            raise NotFound("the answer of this response is kept no more")
        return Found(job, payload)

    def shown(self, found: Found) -> dict[str, Any]:
        """Return the `response` object as it is now."""
        job, payload = found.job, found.payload
        status = _STATUS[job.status]
        if job.status is Status.DONE:
            said, script = found.said, Script(job.id, payload)
            script.done(said)
            status = "incomplete" if incomplete_reason(said) else status
            return response_object(job.id, payload, status=status, output=script.output, said=said)
        if job.status is Status.ERROR:
            status, error = self.failure(job)
            return response_object(job.id, payload, status=status, error=error)
        return response_object(job.id, payload, status=status)

    def failure(self, job: Job) -> tuple[str, dict[str, str] | None]:
        """Return status and error of a response whose job ended in error: of one that was cancelled there is none."""
        if job.reason is Reason.CANCELLED:
            return "cancelled", None
        code = "server_error"
        try:
            Calls(self._jobs).answer(job.id)
        except CallFailed as error:
            code = _CODES.get(error.provider_code or "", code)
        except NotFound:
            pass
        return "failed", {"code": code, "message": f"{job.error or job.reason} (job {job.id})"}

    def history(self, name: str) -> list[dict[str, Any]]:
        """Return the conversation up to and with a response, as messages; its instructions are not part of it.

        The payload of each response holds all that was said before it, so nothing older has to be there any more; how
        long a conversation may become is bounded as every payload is. Raises InvalidInput, code
        `previous_response_not_found` or `previous_response_not_ready`.
        """
        where = "previous_response_id"
        try:
            found = self.get(name)
        except NotFound as error:
            raise InvalidInput(str(error), field=where, code="previous_response_not_found") from None
        if found.job.status is not Status.DONE:
            words = f"this response is {_STATUS[found.job.status]}; only one that is complete can be gone on from"
            raise InvalidInput(words, field=where, code="previous_response_not_ready")
        messages = list(found.payload.get("messages") or [])
        if found.payload[KEPT].get("instructions"):
            del messages[0]
        said = found.said
        calls = calls_of(found.job_id, said)
        messages.append({"role": "assistant", "content": said.text, **({"tool_calls": calls} if calls else {})})
        return messages

    def cancel(self, name: str) -> Found:
        """End a response that is not finished and return it; one that is stays as it is. Raises NotFound."""
        found = self.get(name)
        with suppress(Conflict):  # it is finished
            self._jobs.cancel(found.job_id)
        return self.get(name)

    def delete(self, name: str) -> None:
        """Delete a response, its job with it; one that is not finished is ended first. Raises NotFound, Conflict."""
        found = self.cancel(name)
        if not rows.delete_job(self._db, found.job_id) and self._job(found.job_id) is not None:
            raise Conflict("a job that is not finished needs this one")

    def generation(self, job_id: UUID, attempt: int) -> int:
        """Return how many attempts before this one had words that may have been sent to somebody."""
        return rows.spoken_attempts(self._db, job_id, attempt) if attempt > 1 else 0

    def _job(self, job_id: UUID) -> Job | None:
        try:
            return self._jobs.get(job_id)
        except NotFound:
            return None
