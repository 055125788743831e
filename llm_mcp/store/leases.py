"""What a worker does with jobs, one statement each: take them, hold them, hand them in, give them back.

Every write after the claim is fenced by the lease's token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from llm_mcp.errors import LeaseLost, NotFound
from llm_mcp.job import Lease, Status

from .pool import Database


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
    return {row["token"] for row in db.run("heartbeat", {**_named(leases), "lease_s": lease_s})}


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
    return {row["token"] for row in db.run("release", _named(leases))}


def _named(leases: Sequence[tuple[UUID, int]]) -> dict[str, list[Any]]:
    """Return (job id, token) leases as a statement takes them: a list of each."""
    return {"job_ids": [job for job, _ in leases], "tokens": [token for _, token in leases]}


def _refused(
    db: Database, leases: Sequence[tuple[UUID, int]], ending: tuple[str, str | None]
) -> tuple[dict[int, Status], dict[int, LeaseLost | NotFound]]:
    """Return, by token, the status of jobs whose attempt ended in just this way, and why the others were refused.

    `ending` is the attempt's (status, reason): the token's own earlier write, if it was one.
    """
    told: dict[int, Status] = {}
    refused: dict[int, LeaseLost | NotFound] = {}
    for row in db.run("verdicts", _named(leases)):
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
