"""The verbs on a job, one statement each. Every write after the claim is fenced by the lease's token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from llm_mcp.errors import LeaseLost, NotFound
from llm_mcp.job import Attempt, Job, Lease, Reason, Status, Submission

from .pool import Connection, Database, Row


@dataclass(frozen=True, slots=True)
class New:
    """A job to be written: its id, its submission, the payload as JSON text, and what its kind says."""

    job_id: UUID
    submission: Submission
    payload: str
    queue: str
    max_attempts: int
    result_ttl_s: float | None = None
    """How long the result is kept when the submission does not say it, s; None: with the job."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a lease's owner hands in: the result and the attempt's figures, JSON text both.

    `events`: what is not written yet of its stream, (seq, type, JSON text) each.
    """

    job_id: UUID
    token: int
    result: str
    metrics: str = "{}"
    events: Sequence[tuple[int, str, str]] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a claim found its last jobs: the next one may go on from there (see `turn` in jobs.sql)."""

    aged_from: str = "-infinity"
    fresh_from: str = "-infinity"
    priority_from: int = 2**31 - 1
    priority_to: int = -(2**31)


START = Place()
"""The head of the queue."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn brought. `finished`: how many results were taken; `leases`: in the order they are to be run."""

    leases: list[Lease]
    finished: int
    followed: list[UUID]
    """Which of the jobs whose results were taken others need."""
    found: int
    """Jobs that were looked at and locked: those beyond the leases were left alone."""
    left: int
    """How many of those left alone another worker might take: its threads are free, ours are not."""
    limited: bool
    """Whether any of the kinds is limited: a place of it becomes free when one of its jobs ends."""
    freed: bool
    """Whether a place of a limited kind became free and stays so, though more jobs may wait than we looked at."""
    place: Place | None
    """Where the next turn may go on; None: only the head will do."""
    wait_s: float | None
    """Seconds until a job that had to be left becomes due; None: nothing is known of one."""


def submit(db: Database, new: Sequence[New], *, conn: Connection | None = None) -> list[UUID]:
    """Write a batch of jobs in one statement and return their ids, in order; all or none.

    In the place of a job whose id or key named one before is that one's id. Raises KeyReused when it named a different
    request, InvalidInput for the place of a needed job that is not there.
    """
    entries = [_entry(one) for one in new]
    if len(entries) == 1 and "after" not in entries[0]:
        for added in db.run("submit_one", {"job": orjson.dumps(entries[0]).decode()}, conn=conn):
            return [added["id"]]
    batch = orjson.dumps(entries).decode()
    job_ids: list[UUID] = db.run("submit", {"batch": batch}, conn=conn)[0]["ids"]
    return job_ids


def turn(
    db: Database,
    worker_id: str,
    claim_id: UUID,
    *,
    kinds: Sequence[str],
    n: int,
    lease_s: float,
    ageing_s: float,
    finished: Sequence[Finished] = (),
    short: Sequence[str] = (),
    free: int | None = None,
    place: Place = START,
    repeatable: bool = False,
) -> Turn:
    """Hand in results and lease up to `n` waiting jobs of these kinds for `lease_s` seconds, in one commit.

    Jobs of kinds that are not `short` are taken for `free` threads at most (None: for all). A claim whose reply was
    lost must not be repeated blindly, for it would lease a second batch: see `claimed`.
    """
    params = {
        "worker_id": worker_id,
        "claim_id": claim_id,
        "kinds": list(kinds),
        "short": list(short),
        "n": n,
        "free": n if free is None else free,
        "lease_s": lease_s,
        "ageing_s": ageing_s,
        "aged_from": place.aged_from,
        "fresh_from": place.fresh_from,
        "priority_from": place.priority_from,
        "priority_to": place.priority_to,
    }
    if finished:
        rows = db.run_tuples("turn", {**params, **_handed_in(finished)}, repeatable=repeatable)
    else:
        rows = db.run_tuples("claim", params, repeatable=repeatable)
    told = rows[0][-1]
    leases = [Lease(*row[:-1]) for row in rows if row[0] is not None]
    more = told["found"] == n
    return Turn(
        leases=leases,
        finished=told["finished"],
        followed=[UUID(job_id) for job_id in told["followed"] or ()],
        limited=told["limited"],
        found=told["found"],
        left=told["left"],
        freed=told["freed"] and more,
        place=_place(told) if more else None,
        wait_s=told["wait_s"],
    )


def _handed_in(finished: Sequence[Finished]) -> dict[str, str]:
    """Return results as a statement takes them: one JSON text each, for psycopg writes an array item by item."""
    results = [
        {"job_id": one.job_id, "token": one.token, "result": one.result, "metrics": one.metrics} for one in finished
    ]
    events = [
        {"token": one.token, "seq": seq, "type": kind, "data": data}
        for one in finished
        for seq, kind, data in one.events
    ]
    return {"results": orjson.dumps(results).decode(), "events": orjson.dumps(events).decode()}


def claim(
    db: Database, worker_id: str, claim_id: UUID, *, kinds: Sequence[str], n: int, lease_s: float, ageing_s: float
) -> list[Lease]:
    """Lease up to `n` waiting jobs of these kinds for `lease_s` seconds, in the order they are to be run."""
    return turn(db, worker_id, claim_id, kinds=kinds, n=n, lease_s=lease_s, ageing_s=ageing_s).leases


def claimed(db: Database, worker_id: str, claim_id: UUID) -> list[Lease]:
    """Return the leases an earlier claim took whose reply may have been lost."""
    return [Lease(*row) for row in db.run_tuples("claimed", {"worker_id": worker_id, "claim_id": claim_id})]


def heartbeat(db: Database, leases: Sequence[tuple[UUID, int]], *, lease_s: float) -> set[int]:
    """Renew these (job id, token) leases and return the tokens that still hold."""
    params = {"job_ids": [job for job, _ in leases], "tokens": [token for _, token in leases], "lease_s": lease_s}
    return {row["token"] for row in db.run("heartbeat", params)}


def complete(db: Database, job_id: UUID, token: int, *, result: str, metrics: str = "{}") -> None:
    """Hand in the result (JSON text) of a leased job; saying it twice is fine.

    Raises LeaseLost when the lease is not this token's any more, NotFound for no such job.
    """
    finished = [Finished(job_id, token, result, metrics)]
    taken, _ = complete_many(db, finished)
    if not taken and (refused := refusals(db, finished)):
        raise refused[token]


def complete_many(db: Database, finished: Sequence[Finished]) -> tuple[int, list[UUID]]:
    """Hand in results; return how many were taken (see `refusals`), and which of their jobs others need.

    Saying it twice is fine.
    """
    for taken, followed in db.run_tuples("complete", _handed_in(finished)):
        return taken, followed
    return 0, []


def refusals(db: Database, finished: Sequence[Finished]) -> dict[int, LeaseLost | NotFound]:
    """Return, by token, why results that were handed in were not taken; nothing of those that were, now or earlier.

    Asked in a statement of its own, after the one that took fewer than it was given.
    """
    return _refused(db, [(one.job_id, one.token) for one in finished], ("done", None))[1]


def fail(
    db: Database, job_id: UUID, token: int, *, error: str, retryable: bool, delay_s: float, metrics: str = "{}"
) -> Status:
    """Report a failed attempt and return where the job went: back to the queue for `delay_s` seconds, or its end.

    Saying it twice is fine; then the job's status now is returned. Raises LeaseLost when the lease is not this
    token's any more, NotFound for no such job.
    """
    params = {
        "job_id": job_id,
        "token": token,
        "error": error,
        "retryable": retryable,
        "delay_s": delay_s,
        "metrics": metrics,
    }
    rows = db.run("fail", params)
    if rows:
        return Status(rows[0]["status"])
    told, refused = _refused(db, [(job_id, token)], ("error", "failed"))
    if refused:
        raise refused[token]
    return told[token]


def release(db: Database, leases: Sequence[tuple[UUID, int]]) -> set[int]:
    """Give leases back unharmed and return the tokens that were still ours."""
    params = {"job_ids": [job for job, _ in leases], "tokens": [token for _, token in leases]}
    return {row["token"] for row in db.run("release", params)}


def cancel(db: Database, job_id: UUID) -> bool:
    """End a queued or running job; False when it is finished or unknown."""
    return bool(db.run("cancel", {"job_id": job_id}))


def now(db: Database) -> datetime:
    """Return the database's time."""
    moment: datetime = db.run("clock")[0]["now"]
    return moment


def retry(
    db: Database,
    *,
    n: int,
    job_ids: Sequence[UUID] | None = None,
    reason: Reason | None = None,
    kind: str | None = None,
    until: datetime | None = None,
) -> list[UUID]:
    """Queue up to `n` jobs that ended in error again, with fresh tries, and return their ids.

    None: whichever. `until`: only those that ended by then. Saying it twice is fine: what is queued already stays so.
    """
    params = {
        "job_ids": None if job_ids is None else list(job_ids),
        "reason": reason and reason.value,
        "kind": kind,
        "until": until,
        "n": n,
    }
    # Planned for its values: ids are looked up one by one, all else by the index of errors.
    return [row["id"] for row in db.run("retry", params, prepare=False)]


def requeue(db: Database, job_ids: Sequence[UUID]) -> list[UUID]:
    """Take running jobs from their workers, queue them again, and return the ids of those that were running.

    The tries do not count, and what the workers write from now on is refused.
    """
    return [row["id"] for row in db.run("requeue", {"job_ids": list(job_ids)})]


def status(db: Database, job_id: UUID, *, principal: str | None = None) -> Status:
    """Return where a job stands.

    Raises NotFound; also for one that is not this principal's (None: whoever's).
    """
    rows = db.run("status", {"job_id": job_id, "principal": principal})
    if not rows:
        raise NotFound(f"no job {job_id}")
    return Status(rows[0]["status"])


def get(db: Database, job_id: UUID, *, principal: str | None = None) -> Job:
    """Return one job whole.

    Raises NotFound; also for one that is not this principal's (None: whoever's).
    """
    rows = db.run("job", {"job_id": job_id, "principal": principal})
    if not rows:
        raise NotFound(f"no job {job_id}")
    return _job(rows[0])


def attempts(db: Database, job_id: UUID) -> list[Attempt]:
    """Return the tries of a job, first to last."""
    return [Attempt(**row) for row in db.run("attempts", {"job_id": job_id})]


def page(
    db: Database,
    *,
    n: int,
    before: UUID | None = None,
    status: Status | None = None,
    kind: str | None = None,
    source: str | None = None,
    principal: str | None = None,
) -> list[Job]:
    """Return up to `n` jobs, newest first, older than `before`, without payload and result."""
    params = {
        "n": n,
        "before": before,
        "status": status and status.value,
        "kind": kind,
        "source": source,
        "principal": principal,
    }
    # Planned for its values: only then is an index of one status, or of principals, of use.
    return [_job(row) for row in db.run("jobs", params, prepare=False)]


def unserved(db: Database) -> dict[str, int]:
    """Return the kinds that wait for a worker nobody is, with how many jobs wait."""
    return {row["kind"]: row["waiting"] for row in db.run("unserved")}


def _entry(new: New) -> dict[str, Any]:
    """Return a job's place in a batch; what is not said of it is left out, for the server reads all that is there."""
    asked = new.submission
    entry = {
        "id": new.job_id,
        "kind": asked.kind,
        "payload": new.payload,
        "priority": asked.priority,
        "source": asked.source,
        "max_attempts": new.max_attempts,
        "delay_s": asked.delay_s,
        "queue": new.queue,
    }
    if asked.after:
        entry |= {"after": asked.after, "after_error": asked.after_error}
    for name, value in (
        ("deadline_at", asked.deadline_at),
        ("key", asked.unique_key),
        ("key_s", asked.unique_s),
        ("result_ttl_s", new.result_ttl_s if asked.result_ttl_s is None else asked.result_ttl_s),
        ("principal", asked.principal),
    ):
        if value is not None:
            entry[name] = value
    return entry


def _job(row: Row) -> Job:
    row["status"] = Status(row["status"])
    row["reason"] = Reason(row["reason"]) if row["reason"] else None
    return Job(**row)


def _refused(
    db: Database, leases: Sequence[tuple[UUID, int]], ending: tuple[str, str | None]
) -> tuple[dict[int, Status], dict[int, LeaseLost | NotFound]]:
    """Return, by token, the status of jobs whose attempt ended in just this way, and why the others were refused.

    `ending` is the attempt's (status, reason): the token's own earlier write, if it was one.
    """
    told: dict[int, Status] = {}
    refused: dict[int, LeaseLost | NotFound] = {}
    params = {"job_ids": [job for job, _ in leases], "tokens": [token for _, token in leases]}
    for row in db.run("verdicts", params):
        if row["status"] is None:
            refused[row["token"]] = NotFound(f"no job {row['job_id']}")
        elif (row["attempt_status"], row["attempt_reason"]) == ending:
            told[row["token"]] = Status(row["status"])
        else:
            refused[row["token"]] = LeaseLost(f"job {row['job_id']} is {row['status']}; this lease ended")
    return told, refused


def _place(told: dict[str, Any]) -> Place | None:
    """Return where the next turn may go on: in the priority of the last jobs, if they had only one."""
    if told["last_fresh"] is None:
        return Place(aged_from=told["last_aged"], priority_from=START.priority_to)
    if told["highest"] != told["lowest"]:
        return None
    return Place(
        aged_from="infinity", fresh_from=told["last_fresh"], priority_from=told["highest"], priority_to=told["lowest"]
    )
