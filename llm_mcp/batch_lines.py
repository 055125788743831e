"""The lines of a batch: whether each is a request, the job of each, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import uuid_utils.compat

from . import strictjson
from .batches import LINE_PRIORITY, SOURCE
from .calls import CallFailed, Calls
from .dialect.lines import ENDPOINTS, answer_of, error_body, refusal_of, submission_of
from .dialect.vectors import Mangled
from .errors import InvalidInput
from .files import Files
from .fleet import Fleet
from .job import Reason, Submission
from .jobs import Jobs
from .responses import Responses
from .store.batches import Batch, Line, Outcome

MAX_LINES = 50_000
EXPIRED = "this request could not be executed before the completion window expired"
CANCELLED = "the batch was cancelled before this request was done"
_MAX_FAULTS = 100
_MAX_CUSTOM_ID_CHARS = 512
_RESULT_KEPT_S = 3 * 86400.0


class Lines:
    """The lines of one batch's input file."""

    def __init__(self, jobs: Jobs, batch: Batch) -> None:
        self._jobs = jobs
        self._batch = batch
        self._files = Files(jobs.runtime)
        self._most_bytes = jobs.runtime.settings.max_body_bytes
        self.total = 0
        """How many were looked at by `checked`."""
        self.faults = list[dict[str, Any]]()
        """What it found wrong with them."""

    def checked(self) -> Iterator[Line]:
        """Yield the lines that are requests, up to the first hundred faults."""
        seen: set[str] = set()
        for number, (at, raw) in enumerate(self._files.lines(self._batch.input_file_id, most=self._most_bytes), 1):
            if not raw.strip():
                continue
            self.total += 1
            try:
                yield Line(number, at, len(raw), self._custom_id(raw, seen))
            except InvalidInput as error:
                self.faults.append(_fault(error, number))
            if len(self.faults) >= _MAX_FAULTS or self.total > MAX_LINES:
                break
        if self.total > MAX_LINES:
            self.faults.append({"code": "too_many_lines", "message": f"more than {MAX_LINES} requests", "line": None})
        elif self.total == 0:
            self.faults.append({"code": "empty_file", "message": "the file holds no request", "line": None})

    def submission(self, line: Line, job_id: UUID) -> Submission:
        """Return the checked job of a line. Raises InvalidInput, ModelNotFound, NoProvider."""
        request = self._parsed(self._files.part(self._batch.input_file_id, line.at, line.bytes))
        body = request["body"]
        model = body.get("model")
        if model is not None and not isinstance(model, str):
            raise InvalidInput("must be text", field="model", code="invalid_type")
        route = Fleet.of(self._jobs.runtime).route(model, ENDPOINTS[self._batch.endpoint])
        submission = submission_of(
            self._batch.endpoint,
            body,
            route,
            Responses(self._jobs).history,
            id=job_id,
            priority=LINE_PRIORITY,
            source=SOURCE,
            deadline_at=self._batch.expires_at,
        )
        submission = replace(submission, result_ttl_s=_RESULT_KEPT_S)  # until it is surely noted
        self._jobs.checked(submission)
        return submission

    def outcome(self, line: Line, job_id: UUID) -> Outcome:
        """Return what became of a line whose job is finished."""
        try:
            found = Calls(self._jobs).answer(job_id)
            payload = orjson.loads(self._jobs.get(job_id).payload or "{}")
            result = None if found is None else found.result
            return answered(line, job_id, 200, answer_of(self._batch.endpoint, job_id, payload, result))
        except CallFailed as error:
            if error.reason == Reason.DEADLINE_EXCEEDED:
                return unanswered(line, "batch_expired", EXPIRED)
            if error.reason == Reason.CANCELLED and self._batch.cancelling_at is not None:
                return unanswered(line, "batch_cancelled", CANCELLED)
            told = refusal_of(error.reason, str(error), status=error.status, word=error.provider_code)
            return answered(line, job_id, *told)
        except Mangled as error:
            return answered(line, job_id, 502, error_body(error, error.code))

    def _custom_id(self, raw: bytes, seen: set[str]) -> str:
        """Return the custom id of a line. Raises InvalidInput for what no request can be."""
        request = self._parsed(raw)
        custom_id = request.get("custom_id")
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _MAX_CUSTOM_ID_CHARS:
            raise InvalidInput(f"must be text of 1 to {_MAX_CUSTOM_ID_CHARS} characters", field="custom_id")
        if custom_id in seen:
            raise InvalidInput("was used by a line before", field="custom_id", code="duplicate_custom_id")
        seen.add(custom_id)
        if request.get("method") != "POST":
            raise InvalidInput("must be POST", field="method", code="invalid_method")
        if request.get("url") != self._batch.endpoint:
            raise InvalidInput(f"must be the batch's endpoint, {self._batch.endpoint}", field="url", code="invalid_url")
        if not isinstance(request.get("body"), dict):
            raise InvalidInput("must be an object", field="body", code="invalid_body")
        return custom_id

    def _parsed(self, raw: bytes) -> dict[str, Any]:
        value = strictjson.loads(raw, limit_bytes=self._most_bytes)
        if not isinstance(value, dict):
            raise InvalidInput("must be a JSON object", code="invalid_json_line")
        return value


def _fault(error: InvalidInput, line: int) -> dict[str, Any]:
    field = error.field
    return {"code": error.code, "message": f"{field}: {error}" if field else str(error), "param": field, "line": line}


def answered(line: Line, job_id: UUID, status: int, body: dict[str, Any]) -> Outcome:
    """Return the outcome of a line that was answered, well or not."""
    response = {"status_code": status, "request_id": job_id.hex, "body": body}
    return _outcome(line, job_id, response, None, failed=status != 200)


def unanswered(line: Line, code: str, words: str) -> Outcome:
    """Return the outcome of a line that nobody answered."""
    return _outcome(line, line.job_id, None, {"code": code, "message": words}, failed=True)


def _outcome(line: Line, job_id: UUID | None, response: Any, error: Any, *, failed: bool) -> Outcome:
    name = f"batch_req_{uuid_utils.compat.uuid7().hex if job_id is None else job_id.hex}"
    told = {"id": name, "custom_id": line.custom_id, "response": response, "error": error}
    return Outcome(line.line, failed, orjson.dumps(told).decode())
