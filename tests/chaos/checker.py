"""The judge of a chaos run. Every broken promise is counted under one of four words, and said in a line of its own.

* lost: a job that was acknowledged is not there, did not come to its end, or ended without what it was promised (its
  result, its cancel); a client was told what none may be told.
* doubled: a key named two jobs; a job was finished twice or left its end; a lease was run twice; there were more tries
  than allowed.
* stale: something was accepted from one who had no right to it: a result, a word of a stream, an attempt's row that
  does not agree with what the witness saw; a run before its time or after its deadline; an end for no reason.
* stuck: a job is not finished though nothing is in its way; one that kills its workers was not taken out after three;
  a worker did not drain.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests.chaos.evidence import Evidence, Note, Row
from tests.chaos.load import Asked

WORDS = ("lost", "doubled", "stale", "stuck")
FINAL = ("done", "error")
MAX_CRASHES = 3
# A claim is timed a moment after it looked at the clock to see what is due.
_A_MOMENT = timedelta(seconds=2)
# The jobs of a batch are queued microseconds apart, to be run in its order.
_A_BATCH = timedelta(milliseconds=1)

Finding = tuple[str, str]


@dataclass
class Verdict:
    """What was found, by word; `jobs`, how many were acknowledged."""

    jobs: int
    found: dict[str, list[str]] = field(default_factory=lambda: {word: [] for word in WORDS})

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not any(self.found.values())

    @property
    def line(self) -> str:
        """All of it in one line."""
        return " ".join([*(f"{word}={len(self.found[word])}" for word in WORDS), f"jobs={self.jobs}"])


def judge(evidence: Evidence) -> Verdict:
    """Hold what is left of a run against the promises."""
    verdict = Verdict(sum(1 for asked in evidence.asked if asked.told))
    for word, text in _findings(evidence):
        verdict.found[word].append(text)
    return verdict


def shown(evidence: Evidence) -> bool:
    """Say whether something wrong was accepted already, while a run goes on."""
    return any(any(_of_moves(moves)) for moves in evidence.moves.values()) or any(
        any(_of_stream(said, evidence.notes[job_id])) for job_id, said in evidence.said.items()
    )


def _findings(evidence: Evidence) -> Iterator[Finding]:
    yield from (("stuck", fault) for fault in evidence.faults)
    for asked in evidence.asked:
        yield from _acknowledged(asked, evidence)
    keys = Counter(job["key"] for job in evidence.jobs.values())
    yield from (("doubled", f"{n} jobs have the key {key}") for key, n in keys.items() if n > 1)
    asked_by_key = {asked.key: asked for asked in evidence.asked}
    for job_id in {*evidence.jobs, *evidence.moves}:
        job = evidence.jobs.get(job_id)
        if job is None:
            yield "lost", f"{job_id}: the witness saw it, it is not there"
            continue
        name = f"{job_id} ({job['key']})"
        for word, text in _of_job(job, asked_by_key.get(job["key"]), evidence):
            yield word, f"{name}: {text}"


def _acknowledged(asked: Asked, evidence: Evidence) -> Iterator[Finding]:
    """What the client may rely on."""
    if not asked.told:
        yield "lost", f"{asked.key}: never acknowledged, after {asked.calls} calls"
    if len(asked.told) > 1:
        yield "doubled", f"{asked.key}: named {len(asked.told)} jobs"
    for job_id in asked.told:
        job = evidence.jobs.get(job_id)
        if job is None:
            yield "lost", f"{job_id} ({asked.key}): acknowledged, and not there"
            continue
        given = asked.submission
        if (job["key"], job["kind"]) != (asked.key, given.kind) or json.loads(job["payload"]) != given.payload:
            yield "lost", f"{job_id} ({asked.key}): another job is there instead"
        if job["status"] not in FINAL:
            yield "lost", f"{job_id} ({asked.key}): acknowledged, and {job['status']} at the end"
        elif asked.cancelled and job["reason"] != "cancelled":
            yield "lost", f"{job_id} ({asked.key}): its cancel was acknowledged, it is {job['status']} {job['reason']}"


def _of_job(job: Row, asked: Asked | None, evidence: Evidence) -> Iterator[Finding]:
    if job["status"] not in FINAL:
        yield "stuck", f"{job['status']} after all was well again"
        return
    moves, attempts, notes = evidence.moves[job["id"]], evidence.attempts[job["id"]], evidence.notes[job["id"]]
    yield from _of_moves(moves)
    if not moves or (moves[-1]["became"], moves[-1]["result"]) != (job["status"], job["result"]):
        yield "stale", "is not what the witness saw last"
    yield from _of_attempts(job, moves, attempts)
    yield from _of_times(job, attempts, asked)
    yield from _of_runs(moves, attempts, notes)
    yield from _of_stream(evidence.said[job["id"]], notes)
    if job["status"] == "done":
        yield from _of_result(job, attempts, notes)
    else:
        yield from _of_error(job, attempts, asked)
    # Each that ran it died. Others may have been lost with it in their hands before they ran it.
    if job["kind"] == "chaos.pill" and (job["reason"] != "crashed" or len(notes) > MAX_CRASHES):
        yield "stuck", f"a pill ended {job['status']} {job['reason']} after {len(notes)} workers that ran it"


def _of_moves(moves: list[Row]) -> Iterator[Finding]:
    """An end is for good, one lease is given at a time, and a result is of the one that was held when it came."""
    for move in moves:
        if move["was"] == "running" and move["holds"] not in (None, move["held"]):
            yield "doubled", f"was leased again (attempt {move['attempt']}) while it was leased"
        if move["was"] in FINAL:
            yield "doubled", f"went on from {move['was']} to {move['became']}"
    ends = [move for move in moves if move["became"] == "done"]
    if len(ends) > 1:
        yield "doubled", "was done more than once"
    for end in ends:
        if end["result"] is not None:
            result = json.loads(end["result"])
            if (lease := (result["attempt"], result["token"])) != (held := (end["attempt"], end["held"])):
                yield "stale", f"the result is of (attempt, lease) {lease}, held then: {held}"


def _of_attempts(job: Row, moves: list[Row], attempts: list[Row]) -> Iterator[Finding]:
    """Each lease that was given has one row, with its number, its token and its end; and there are not too many."""
    given = [(move["attempt"], move["holds"]) for move in moves if move["holds"] not in (None, move["held"])]
    rows = [(row["attempt"], row["token"]) for row in attempts]
    if rows != given or [number for number, _ in rows] != list(range(1, job["attempts"] + 1)):
        yield "stale", f"its attempts are {rows}, the leases given were {given}, the count says {job['attempts']}"
    done = [row["attempt"] for row in attempts if row["status"] == "done"]
    if len(done) > 1:
        yield "doubled", f"attempts {done} are all done"
    if bool(done) != (job["status"] == "done") or (done and done[-1] != job["attempts"]):
        yield "stale", f"it is {job['status']} after {job['attempts']} attempts, of which {done} are done"
    if open_ones := [row["attempt"] for row in attempts if row["finished_at"] is None]:
        yield "stale", f"attempts {open_ones} have no end"
    released = sum(row["reason"] == "released" for row in attempts)
    if released != job["releases"]:
        yield "stale", f"{released} attempts were given back, the count says {job['releases']}"
    if job["attempts"] - job["releases"] > job["max_attempts"]:
        yield "doubled", f"{job['attempts']} attempts, {released} given back, {job['max_attempts']} allowed"


def _of_times(job: Row, attempts: list[Row], asked: Asked | None) -> Iterator[Finding]:
    """No attempt begins before the delay or after the deadline."""
    delay = timedelta(seconds=asked.submission.delay_s if asked else 0.0)
    if any(row["started_at"] < job["queued_at"] + delay - _A_BATCH for row in attempts):
        yield "stale", "began before its time"
    if job["deadline_at"] and any(row["started_at"] > job["deadline_at"] + _A_MOMENT for row in attempts):
        yield "stale", "began after its deadline"


def _of_runs(moves: list[Row], attempts: list[Row], notes: list[Note]) -> Iterator[Finding]:
    """Every lease was run once at most, and none failed that its actor did not fail."""
    leases = {(move["attempt"], move["holds"]) for move in moves if move["holds"] is not None}
    for (attempt, token), n in Counter((note.attempt, note.token) for note in notes).items():
        if n > 1:
            yield "doubled", f"the lease of attempt {attempt} was run {n} times"
        if (attempt, token) not in leases:
            yield "stale", f"attempt {attempt} was run under the lease {token} that nobody gave"
    failures = {(note.attempt, note.token) for note in notes if note.failed}
    for row in attempts:
        if row["reason"] == "failed" and (row["attempt"], row["token"]) not in failures:
            yield "stale", f"attempt {row['attempt']} failed, its actor did not"


def _of_stream(said: list[tuple[int, str]], notes: list[Note]) -> Iterator[Finding]:
    """Every word of the stream is of the attempt it stands under."""
    speakers = {note.nonce: note.attempt for note in notes}
    for attempt, text in said:
        if wrong := {speakers.get(word) for word in text.split()} - {attempt}:
            yield "stale", f"the stream of attempt {attempt} has words of {wrong}"


def _of_result(job: Row, attempts: list[Row], notes: list[Note]) -> Iterator[Finding]:
    """The result is one that its actor did return, in the attempt that is done."""
    if job["result"] is None:
        yield "lost", "done without its result"
        return
    result: dict[str, Any] = json.loads(job["result"])
    lease = (result["attempt"], result["token"])
    if (job["attempts"], json.loads(job["payload"])["n"]) != (result["attempt"], result["n"]):
        yield "stale", f"after {job['attempts']} attempts, it has the result of attempt {lease[0]} of {result['n']}"
    if lease not in {(row["attempt"], row["token"]) for row in attempts if row["status"] == "done"}:
        yield "stale", f"the result is of {lease}, whose row is not done"
    mine = [(note.attempt, note.token, note.ended) for note in notes if note.nonce == result["nonce"]]
    if mine != [(*lease, True)]:
        yield "stale", "no actor returned this result"


def _of_error(job: Row, attempts: list[Row], asked: Asked | None) -> Iterator[Finding]:
    """Its reason is true."""
    fates = [row["reason"] for row in attempts if row["reason"] != "released"]
    last = fates[-1] if fates else None
    hopeless = json.loads(job["payload"]).get("hopeless", False)
    match job["reason"]:
        case "cancelled":
            true = asked is not None and asked.cancelling
        case "deadline_exceeded":
            true = job["deadline_at"] is not None and job["finished_at"] >= job["deadline_at"]
        case "failed":
            true = job["kind"] == "chaos.fail" and last == "failed" and (hopeless or len(fates) == job["max_attempts"])
        case "crashed":
            true = fates[-MAX_CRASHES:] == ["lease_expired"] * MAX_CRASHES
        case "lease_expired":
            true = last == "lease_expired" and len(fates) == job["max_attempts"]
        case _:
            true = False
    if not true:
        yield "stale", f"it says {job['reason']}, after attempts {fates} of {job['max_attempts']}"
    if job["reason"] in ("failed", "crashed", "lease_expired") and job["result"] is not None:
        yield "stale", "it failed and has a result"
