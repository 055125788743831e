"""A step of a batch: its lines are checked, then submitted in portions, then its files are written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import uuid_utils.compat

from .batch_lines import CANCELLED, EXPIRED, Lines, answered, unanswered
from .batches import Step, submit_step
from .dialect.lines import error_body
from .errors import Conflict, InvalidInput, KeyReused, ModelNotFound, NoProvider, NotFound, QueueFull
from .files import OUTPUT_KEPT_S, Writer
from .job import Submission
from .jobs import Jobs
from .run import Run
from .store import batches as rows
from .store.batches import Batch, Line, Outcome

log = logging.getLogger(__name__)

PORTION = 50
"""Lines submitted at once; at most two portions are under way."""
_PAGE = 1000
_OUTCOMES = 20
# When the next step comes where no line could be submitted, s.
_LATER_S = 5.0


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
            self._validate(Lines(self._jobs, batch))
        batch = self._batch()
        if batch is None or batch.finished_at is not None:
            return "gone" if batch is None else batch.status
        asked = Lines(self._jobs, batch)
        self._note_finished(asked)
        if batch.status == "in_progress" and self._go_on(asked):
            return batch.status
        return self._finish()

    def _batch(self) -> Batch | None:
        return rows.get(self._db, self._id)

    # — portions —

    def _validate(self, asked: Lines) -> None:
        """Look at every line of the input file; the batch starts, or fails when anything is wrong with one."""
        found = list[Line]()
        for line in asked.checked():
            self._run.check()
            found.append(line)
            if len(found) >= _PAGE:
                rows.add_lines(self._db, self._id, found)
                found = []
        if asked.faults:
            rows.fail(self._db, self._id, asked.faults)
            return
        rows.add_lines(self._db, self._id, found)
        rows.start(self._db, self._id, asked.total)

    def _note_finished(self, asked: Lines) -> None:
        """Note what became of the lines whose jobs are finished."""
        for line in rows.running(self._db, self._id, _PAGE):
            self._run.check()
            if line.job_id is not None and line.status in ("done", "error"):
                rows.note(self._db, self._id, [asked.outcome(line, line.job_id)])

    def _go_on(self, asked: Lines) -> bool:
        """Submit lines as far as there is room, and the next step; False when every line has its outcome."""
        held = rows.running(self._db, self._id, _PAGE)
        lost = [line for line in held if line.status is None]
        later = not self._submit(asked, lost, taken=True)
        if not later and (room := 2 * PORTION - len(held)) > 0:
            later = not self._submit(asked, rows.waiting(self._db, self._id, room), taken=False)
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

    def _submit(self, asked: Lines, lines: list[Line], *, taken: bool) -> bool:
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
                ready[line.line] = asked.submission(line, job_id)
            except ModelNotFound as error:
                refused.append(answered(line, job_id, 404, error_body(error, error.code, field="model")))
            except InvalidInput as error:
                field = error.field.removeprefix("payload").removeprefix(".")
                refused.append(answered(line, job_id, 400, error_body(error, error.code, field=field)))
            except NoProvider as error:
                if error.code == "no_api_key":
                    refused.append(answered(line, job_id, 503, error_body(error, error.code)))
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
        asked = Lines(self._jobs, batch)
        code, words = ("batch_cancelled", CANCELLED) if batch.cancelling_at else ("batch_expired", EXPIRED)
        while held := rows.running(self._db, self._id, _PAGE):
            for line in held:
                self._run.check()
                if line.job_id is None or not self._cancelled(line.job_id):
                    continue
                rows.note(self._db, self._id, [unanswered(line, code, words)])
            self._note_finished(asked)
            rows.note(self._db, self._id, [unanswered(line, code, words) for line in held])
        while waiting := rows.waiting(self._db, self._id, _PAGE):
            self._run.check()
            rows.note(self._db, self._id, [unanswered(line, code, words) for line in waiting])

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
