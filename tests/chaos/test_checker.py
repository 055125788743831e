"""The judge of chaos runs: what is as it should be passes, and each broken promise is found under its word."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from llm_mcp import Submission
from tests.chaos.checker import Verdict, judge, shown
from tests.chaos.evidence import Evidence, Note, Row
from tests.chaos.load import Asked

AT = datetime(2026, 1, 1, tzinfo=UTC)
DONE, CANCELLED, PILL = UUID(int=1), UUID(int=2), UUID(int=3)

Breaking = Callable[[Evidence], object]


def move(was: str | None, became: str, attempt: int, **fields: Any) -> Row:
    return {"was": was, "became": became, "attempt": attempt, "held": None, "holds": None, "result": None} | fields


def tried(attempt: int, token: int, status: str, reason: str | None) -> Row:
    began, ended = AT + timedelta(seconds=attempt), AT + timedelta(seconds=attempt + 0.5)
    return {
        "attempt": attempt,
        "token": token,
        "status": status,
        "reason": reason,
        "worker_id": "w",
        "started_at": began,
        "finished_at": ended,
    }


def ask(evidence: Evidence, job_id: UUID, kind: str, **fields: Any) -> None:
    """Have a client ask for a job and be told its id; the job's row has these fields."""
    key = f"key{job_id.int}"
    given = Submission(kind=kind, payload={"n": key}, idempotency_key=key, max_attempts=10)
    evidence.asked.append(Asked(given, {job_id}, calls=1))
    row = {"id": job_id, "key": key, "kind": kind, "payload": json.dumps(given.payload), "result": None, "reason": None}
    row |= {"attempts": 0, "releases": 0, "max_attempts": 10, "deadline_at": None, "queued_at": AT, "finished_at": AT}
    evidence.jobs[job_id] = row | fields
    evidence.moves[job_id] = [move(None, "queued", 0)]


def good() -> Evidence:
    """What a run leaves in which nothing is wrong: a job done at its second try, one cancelled, one pill."""
    evidence = Evidence()
    result = json.dumps({"n": "key1", "attempt": 2, "token": 12, "nonce": "b"})
    ask(evidence, DONE, "chaos.work", status="done", attempts=2, result=result)
    evidence.moves[DONE] += [
        move("queued", "running", 1, holds=11),
        move("running", "queued", 1, held=11),
        move("queued", "running", 2, holds=12),
        move("running", "done", 2, held=12, result=result),
    ]
    evidence.attempts[DONE] = [tried(1, 11, "error", "lease_expired"), tried(2, 12, "done", None)]
    evidence.notes[DONE] = [Note(DONE, 1, 11, "a", ended=True), Note(DONE, 2, 12, "b", ended=True)]
    evidence.said[DONE] = [(1, "a\n"), (2, "b\nb\n")]

    ask(evidence, CANCELLED, "chaos.work", status="error", reason="cancelled")
    evidence.asked[-1].cancelling = evidence.asked[-1].cancelled = True
    evidence.moves[CANCELLED].append(move("queued", "error", 0))

    ask(evidence, PILL, "chaos.pill", status="error", reason="crashed", attempts=3)
    for number in (1, 2, 3):
        evidence.moves[PILL] += [
            move("queued", "running", number, holds=20 + number),
            move("running", "error" if number == 3 else "queued", number, held=20 + number),
        ]
        evidence.attempts[PILL].append(tried(number, 20 + number, "error", "lease_expired"))
        evidence.notes[PILL].append(Note(PILL, number, 20 + number, f"pill{number}", ended=False))
    return evidence


def set_(job_id: UUID = DONE, **fields: Any) -> Breaking:
    return lambda evidence: evidence.jobs[job_id].update(fields)


def late_result(evidence: Evidence) -> None:
    """The first owner's result, taken while the second one worked."""
    result = json.dumps({"n": "key1", "attempt": 1, "token": 11, "nonce": "a"})
    evidence.jobs[DONE]["result"] = result
    evidence.moves[DONE][-1] = move("running", "done", 2, held=12, result=result)


def second_result(evidence: Evidence) -> None:
    """The first owner's result, taken after the second one's."""
    evidence.moves[DONE].append(evidence.moves[DONE][-1] | {"was": "done", "held": None})


def foreign_word(evidence: Evidence) -> None:
    """A word of the first owner in the stream of the second one."""
    evidence.said[DONE].append((2, "a\n"))


def fourth_worker(evidence: Evidence) -> None:
    """A pill that was given once more."""
    evidence.jobs[PILL]["attempts"] = 4
    evidence.moves[PILL][-1] = move("running", "queued", 3, held=23)
    evidence.moves[PILL] += [move("queued", "running", 4, holds=24), move("running", "error", 4, held=24)]
    evidence.attempts[PILL].append(tried(4, 24, "error", "lease_expired"))
    evidence.notes[PILL].append(Note(PILL, 4, 24, "pill4", ended=False))


def leased_twice(evidence: Evidence) -> None:
    """A lease given while another one held."""
    del evidence.moves[DONE][2]
    evidence.moves[DONE][2] |= {"was": "running", "held": 11}


def never_seen(evidence: Evidence) -> None:
    """A job that only the witness knows of."""
    evidence.jobs.pop(DONE)
    evidence.asked.pop(0)


def second_run(evidence: Evidence) -> None:
    evidence.notes[DONE].append(Note(DONE, 2, 12, "c", ended=False))


def run_by_nobody(evidence: Evidence) -> None:
    evidence.notes[DONE].append(Note(DONE, 3, 99, "c", ended=False))


def never_cancelled(evidence: Evidence) -> None:
    evidence.asked[1].cancelling = evidence.asked[1].cancelled = False


BROKEN: list[tuple[str, str, Breaking]] = [
    ("lost", "acknowledged, and not there", lambda evidence: evidence.jobs.pop(DONE)),
    ("lost", "the witness saw it", never_seen),
    ("lost", "acknowledged, and running", set_(status="running")),
    ("lost", "another job is there", set_(payload='{"n": "key7"}')),
    ("lost", "its cancel was acknowledged", set_(CANCELLED, reason="deadline_exceeded")),
    ("lost", "without its result", set_(result=None)),
    ("lost", "never acknowledged", lambda evidence: evidence.asked[0].told.clear()),
    ("doubled", "named 2 jobs", lambda evidence: evidence.asked[0].told.add(UUID(int=9))),
    ("doubled", "2 jobs have the key", set_(key="key3")),
    ("doubled", "went on from done", second_result),
    ("doubled", "done more than once", second_result),
    ("doubled", "while it was leased", leased_twice),
    ("doubled", "are all done", lambda evidence: evidence.attempts[DONE][0].update(status="done", reason=None)),
    ("doubled", "2 attempts, 0 given back, 1 allowed", set_(max_attempts=1)),
    ("doubled", "was run 2 times", second_run),
    ("stale", "the result is of \\(attempt, lease\\)", late_result),
    ("stale", "whose row is not done", late_result),
    ("stale", "it has the result of attempt 1", late_result),
    ("stale", "no actor returned", lambda evidence: evidence.notes[DONE].pop()),
    (
        "stale",
        "not what the witness saw last",
        set_(result=json.dumps({"n": "", "attempt": 2, "token": 12, "nonce": ""})),
    ),
    ("stale", "that nobody gave", run_by_nobody),
    ("stale", "has words of {1}", foreign_word),
    ("stale", "its attempts are", lambda evidence: evidence.attempts[DONE].pop(0)),
    ("stale", "its attempts are", lambda evidence: evidence.attempts[DONE][1].update(token=11)),
    (
        "stale",
        "of which \\[\\] are done",
        lambda evidence: evidence.attempts[DONE][1].update(status="error", reason="failed"),
    ),
    ("stale", "have no end", lambda evidence: evidence.attempts[DONE][0].update(finished_at=None)),
    ("stale", "the count says 1", set_(releases=1)),
    ("stale", "its actor did not", lambda evidence: evidence.attempts[DONE][0].update(reason="failed")),
    ("stale", "before its time", set_(queued_at=AT + timedelta(seconds=1.5))),
    ("stale", "after its deadline", set_(deadline_at=AT - timedelta(seconds=1))),
    ("stale", "it says cancelled", never_cancelled),
    ("stale", "it says deadline_exceeded", set_(CANCELLED, reason="deadline_exceeded")),
    ("stale", "it says failed", set_(PILL, reason="failed")),
    ("stale", "it says lease_expired", set_(PILL, reason="lease_expired")),
    ("stale", "it says crashed", lambda evidence: evidence.attempts[PILL][1].update(reason="failed")),
    ("stuck", "queued after all was well", set_(status="queued", result=None)),
    ("stuck", "after 4 workers that ran it", fourth_worker),
    ("stuck", "did not drain", lambda evidence: evidence.faults.append("worker0 did not drain")),
]


def test_a_run_in_which_nothing_is_wrong_passes() -> None:
    verdict = judge(good())
    assert verdict.good, verdict.found
    assert verdict.line == "lost=0 doubled=0 stale=0 stuck=0 jobs=3"
    assert not shown(good())


@pytest.mark.parametrize(("word", "text", "breaking"), BROKEN)
def test_a_broken_promise_is_found(word: str, text: str, breaking: Breaking) -> None:
    evidence = good()
    breaking(evidence)
    verdict = judge(evidence)
    assert any(re.search(text, found) for found in verdict.found[word]), verdict.found


@pytest.mark.parametrize("breaking", [late_result, second_result, leased_twice, foreign_word])
def test_what_was_wrongly_accepted_shows_before_the_end(breaking: Breaking) -> None:
    evidence = good()
    breaking(evidence)
    evidence.jobs.clear()
    assert shown(evidence)


def test_the_verdict_is_one_line() -> None:
    verdict = Verdict(5)
    verdict.found["stale"] += ["a", "b"]
    assert (verdict.good, verdict.line) == (False, "lost=0 doubled=0 stale=2 stuck=0 jobs=5")
