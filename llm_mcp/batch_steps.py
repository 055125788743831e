"""A step of a batch: what its validation, its portions and its end are made of."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import uuid_utils.compat

from . import strictjson
from .batches import LINE_PRIORITY, SOURCE, Step, submit_step
from .calls import CallFailed, Calls
from .dialect.lines import ENDPOINTS, answer_of, error_body, refusal_of, submission_of
from .errors import Conflict, InvalidInput, KeyReused, LlmMcpError, ModelNotFound, NoProvider, NotFound, QueueFull
from .files import OUTPUT_KEPT_S, Files, Writer
from .fleet import Fleet
from .job import Reason, Submission
from .jobs import Jobs
from .responses import Responses
from .run import Run
from .store import batches as rows
from .store.batches import Batch, Line, Outcome

log = logging.getLogger(__name__)

MAX_LINES = 50_000
PORTION = 50
"""Lines submitted at once; at most two portions are under way."""
_MAX_FAULTS = 100
_MAX_CUSTOM_ID_CHARS = 512
_PAGE = 1000
_OUTCOMES = 20
_RESULT_KEPT_S = 3 * 86400.0
# When the next step comes where no line could be submitted, s.
_LATER_S = 5.0
_EXPIRED = "this request could not be executed before the completion window expired"
_CANCELLED = "the batch was cancelled before this request was done"


def work(run: Run, step: Step) -> dict[str, Any]:
    """Make a step. Returns what the batch's status is then; of one that is over, nothing is done."""
    work = _Work(run, step)
    return {"status": work.run()}


class _Work:
    def __init__(self, run: Run, step: Step) -> None:
        self._run = run
        self._step = step
        self._id = step.batch_id
        self._jobs = Jobs(run.runtime)
        self._db = run.runtime.db
        self._files = Files(run.runtime)
        self._calls = Calls(self._jobs)
        self._submitted: list[UUID] = []

    def run(self) -> str:
        """Make the step."""
        rows.driven_by(self._db, self._id, self._step.step)
        batch = self._batch()
        if batch is None or batch.finished_at is not None:
            return "gone" if batch is None else batch.status
        if batch.late:
            rows.expire(self._db, self._id)
        elif batch.status == "validating":
            self._validate(batch)
        batch = self._batch()
        if batch is None or batch.finished_at is not None:
            return "gone" if batch is None else batch.status
        self._note_finished(batch)
        if batch.status == "in_progress" and self._go_on(batch):
            return batch.status
        return self._finish()

    def _batch(self) -> Batch | None:
        return rows.get(self._db, self._id)

    # — validation —

    def _validate(self, batch: Batch) -> None:
        """Look at every line of the input file; the batch starts, or fails when anything is wrong with one."""
        total, faults, found = 0, list[dict[str, Any]](), list[Line]()
        seen: set[str] = set()
        for number, (at, raw) in enumerate(self._files.lines(batch.input_file_id, most=self._most), 1):
            self._run.check()
            if not raw.strip():
                continue
            total += 1
            try:
                custom_id = self._checked(batch, raw, seen)
            except InvalidInput as error:
                faults.append(_fault(error, number))
            else:
                found.append(Line(number, at, len(raw), custom_id))
            if len(faults) >= _MAX_FAULTS or total > MAX_LINES:
                break
            if len(found) >= _PAGE:
                rows.add_lines(self._db, self._id, found)
                found = []
        if total > MAX_LINES:
            faults.append({"code": "too_many_lines", "message": f"more than {MAX_LINES} requests", "line": None})
        elif total == 0:
            faults.append({"code": "empty_file", "message": "the file holds no request", "line": None})
        if faults:
            rows.fail(self._db, self._id, faults)
            return
        rows.add_lines(self._db, self._id, found)
        rows.start(self._db, self._id, total)

    def _checked(self, batch: Batch, raw: bytes, seen: set[str]) -> str:
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
        if request.get("url") != batch.endpoint:
            raise InvalidInput(f"must be the batch's endpoint, {batch.endpoint}", field="url", code="invalid_url")
        if not isinstance(request.get("body"), dict):
            raise InvalidInput("must be an object", field="body", code="invalid_body")
        return custom_id

    @property
    def _most(self) -> int:
        return self._run.runtime.settings.max_body_bytes

    def _parsed(self, raw: bytes) -> dict[str, Any]:
        value = strictjson.loads(raw, limit_bytes=self._most)
        if not isinstance(value, dict):
            raise InvalidInput("must be a JSON object", code="invalid_json_line")
        return value

    # — portions —

    def _note_finished(self, batch: Batch) -> None:
        """Note what became of the lines whose jobs are finished."""
        for line in rows.running(self._db, self._id, _PAGE):
            self._run.check()
            if line.job_id is not None and line.status in ("done", "error"):
                rows.note(self._db, self._id, [self._outcome(batch, line, line.job_id)])

    def _outcome(self, batch: Batch, line: Line, job_id: UUID) -> Outcome:
        try:
            answered = self._calls.answer(job_id)
            payload = orjson.loads(self._jobs.get(job_id).payload or "{}")
            result = None if answered is None else answered.result
            return _answered(line, job_id, 200, answer_of(batch.endpoint, job_id, payload, result))
        except CallFailed as error:
            if error.reason == Reason.DEADLINE_EXCEEDED:
                return _unanswered(line, "batch_expired", _EXPIRED)
            told = refusal_of(error.reason, str(error), status=error.status, word=error.provider_code)
            return _answered(line, job_id, *told)
        except InvalidInput as error:
            return _answered(line, job_id, 502, error_body(error, error.code))

    def _go_on(self, batch: Batch) -> bool:
        """Submit lines as far as there is room, and the next step; False when every line has its outcome."""
        held = rows.running(self._db, self._id, _PAGE)
        lost = [line for line in held if line.status is None]
        later = not self._submit(batch, lost, taken=True)
        if not later and (room := 2 * PORTION - len(held)) > 0:
            later = not self._submit(batch, rows.waiting(self._db, self._id, room), taken=False)
        held = rows.running(self._db, self._id, _PAGE)
        waiting = rows.waiting(self._db, self._id, 1)
        if not held and not waiting:
            return False
        now = self._batch()
        if now is None or now.status != "in_progress":
            for job_id in self._submitted:  # it was cancelled meanwhile
                self._cancelled(job_id)
            return False
        needed = tuple(line.job_id for line in held[:PORTION] if line.job_id is not None and line.status is not None)
        following = self._step.step + 1
        try:
            if later:
                submit_step(self._jobs, self._id, following, delay_s=_LATER_S)
            else:
                submit_step(self._jobs, self._id, following, after=needed)
        except InvalidInput:  # one of them was just deleted
            submit_step(self._jobs, self._id, following, delay_s=_LATER_S)
        rows.driven_by(self._db, self._id, following)
        return True

    def _submit(self, batch: Batch, lines: list[Line], *, taken: bool) -> bool:
        """Submit lines; those that are refused have their outcome at once. False when some must wait.

        `taken`: they have their jobs' ids already, but no jobs: whoever gave them died, or just submits them too.
        """
        ready: dict[int, Submission] = {}
        refused: list[Outcome] = []
        whole = True
        for line in lines:
            self._run.check()
            job_id = line.job_id or uuid_utils.compat.uuid7()
            try:
                ready[line.line] = self._submission(batch, line, job_id)
            except ModelNotFound as error:
                refused.append(_answered(line, job_id, 404, error_body(error, error.code, field="model")))
            except InvalidInput as error:
                field = error.field.removeprefix("payload").removeprefix(".")
                refused.append(_answered(line, job_id, 400, error_body(error, error.code, field=field)))
            except NoProvider as error:
                if error.code == "no_api_key":
                    refused.append(_answered(line, job_id, 503, error_body(error, error.code)))
                else:
                    whole = False
                    break
        rows.note(self._db, self._id, refused)
        if not taken and ready:
            ids = {line: submission.id for line, submission in ready.items() if submission.id is not None}
            mine = rows.take(self._db, self._id, ids)
            ready = {line: submission for line, submission in ready.items() if line in mine}
        try:
            if taken:
                for submission in ready.values():
                    self._once(submission)
            else:
                self._jobs.submit_many(ready.values())
        except QueueFull:
            return False
        self._submitted += [submission.id for submission in ready.values() if submission.id is not None]
        return whole

    def _once(self, submission: Submission) -> None:
        try:
            self._jobs.submit(submission)
        except KeyReused:
            log.info("a line was submitted already", extra={"action": "batch_line_known"})

    def _submission(self, batch: Batch, line: Line, job_id: UUID) -> Submission:
        """Return the checked job of a line. Raises InvalidInput, ModelNotFound, NoProvider."""
        request = self._parsed(self._files.part(batch.input_file_id, line.at, line.bytes))
        body = request["body"]
        model = body.get("model")
        if model is not None and not isinstance(model, str):
            raise InvalidInput("must be text", field="model", code="invalid_type")
        route = Fleet.of(self._run.runtime).route(model, ENDPOINTS[batch.endpoint])
        submission = submission_of(
            batch.endpoint,
            body,
            route,
            Responses(self._jobs).history,
            id=job_id,
            priority=LINE_PRIORITY,
            source=SOURCE,
            deadline_at=batch.expires_at,
        )
        submission = _kept(submission)
        self._jobs.checked(submission)
        return submission

    # — the end —

    def _finish(self) -> str:
        """End what is still under way of a batch that was cancelled or is late, write its files, and end it."""
        rows.finalize(self._db, self._id)
        batch = self._batch()
        if batch is None or batch.finished_at is not None:
            return "gone" if batch is None else batch.status
        self._give_up(batch)
        self._write(batch, batch.output_file_id, "output", failed=False)
        self._write(batch, batch.error_file_id, "errors", failed=True)
        rows.end(self._db, self._id)
        batch = self._batch()
        return "gone" if batch is None else batch.status

    def _give_up(self, batch: Batch) -> None:
        """Note an outcome for every line that has none."""
        code, words = ("batch_cancelled", _CANCELLED) if batch.cancelling_at else ("batch_expired", _EXPIRED)
        while held := rows.running(self._db, self._id, _PAGE):
            for line in held:
                self._run.check()
                if line.job_id is None or not self._cancelled(line.job_id):
                    continue
                rows.note(self._db, self._id, [_unanswered(line, code, words)])
            self._note_finished(batch)
            rows.note(self._db, self._id, [_unanswered(line, code, words) for line in held])
        while waiting := rows.waiting(self._db, self._id, _PAGE):
            self._run.check()
            rows.note(self._db, self._id, [_unanswered(line, code, words) for line in waiting])

    def _cancelled(self, job_id: UUID) -> bool:
        """End a line's job; False when it was finished before."""
        try:
            self._jobs.cancel(job_id)
        except Conflict:
            return False
        except NotFound:
            return True
        return True

    def _write(self, batch: Batch, file_id: UUID, word: str, *, failed: bool) -> None:
        """Write the outcomes of one sort to their file; where there are none, there is no file."""
        writer: Writer | None = None
        for _, outcome in self._outcomes(batch, failed=failed):
            self._run.check()
            if writer is None:
                name = f"batch_{batch.id.hex}_{word}.jsonl"
                writer = Writer(self._run.runtime, file_id, purpose="batch_output", filename=name)
                writer.begin(expires_s=OUTPUT_KEPT_S)
            writer.add(outcome.encode() + b"\n")
        if writer is not None:
            with suppress(NotFound):  # another one, who does the same, has closed it
                writer.close()

    def _outcomes(self, batch: Batch, *, failed: bool) -> Iterator[tuple[int, str]]:
        after = 0
        while found := rows.outcomes(self._db, batch.id, failed=failed, after=after, n=_OUTCOMES):
            yield from found
            after = found[-1][0]


def _kept(submission: Submission) -> Submission:
    """Return a line's job with its result kept until it is surely noted."""
    return replace(submission, result_ttl_s=_RESULT_KEPT_S)


def _fault(error: LlmMcpError, line: int) -> dict[str, Any]:
    field = error.field if isinstance(error, InvalidInput) else ""
    return {"code": error.code, "message": f"{field}: {error}" if field else str(error), "param": field, "line": line}


def _answered(line: Line, job_id: UUID, status: int, body: dict[str, Any]) -> Outcome:
    """Return the outcome of a line that was answered, well or not."""
    response = {"status_code": status, "request_id": job_id.hex, "body": body}
    return _outcome(line, job_id, response, None, failed=status != 200)


def _unanswered(line: Line, code: str, words: str) -> Outcome:
    """Return the outcome of a line that nobody answered."""
    return _outcome(line, line.job_id, None, {"code": code, "message": words}, failed=True)


def _outcome(line: Line, job_id: UUID | None, response: Any, error: Any, *, failed: bool) -> Outcome:
    name = f"batch_req_{uuid_utils.compat.uuid7().hex if job_id is None else job_id.hex}"
    told = {"id": name, "custom_id": line.custom_id, "response": response, "error": error}
    return Outcome(line.line, failed, orjson.dumps(told).decode())
