"""The whole life of jobs against a plain model of it: random verbs in random order, on the real statements.

The second half proves that the machine sees: with one check taken out of one statement it finds a counter-example.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from llm_mcp.errors import LeaseLost
from llm_mcp.events import Cursor
from llm_mcp.job import Lease
from llm_mcp.store import events, sweeps
from llm_mcp.store import jobs as job_rows
from llm_mcp.store import leases as verbs
from llm_mcp.store.pool import Connection, Database, connect
from tests.integration.rows import add, empty

FOUND_S = 30.0
"""A planted bug is found within this, s."""
OPEN = ("queued", "running")


@dataclass
class Plain:
    """What a job is, without any database."""

    priority: int
    max_attempts: int
    status: str = "queued"
    reason: str | None = None
    attempts: int = 0
    releases: int = 0
    crashes: int = 0
    token: int | None = None
    result: str | None = None
    ended: dict[int, str] = field(default_factory=dict)
    """How each attempt ended, by its token."""
    told: dict[int, set[int]] = field(default_factory=dict)
    """The numbers of the events of each attempt."""

    @property
    def tries_left(self) -> bool:
        return self.attempts - self.releases < self.max_attempts

    def end_attempt(self, how: str, *, again: bool, reason: str | None) -> None:
        assert self.token is not None
        self.ended[self.token] = how
        self.token = None
        self.status, self.reason = ("queued", None) if again else ("error", reason)


recent = st.integers(0, 3)
some_job = precondition(lambda self: self.model)
some_lease = precondition(lambda self: self.leases)


def machine(db: Database, conn: Connection) -> type[RuleBasedStateMachine]:
    """Return the machine over this database; `conn` is for looking behind the statements."""

    class Life(RuleBasedStateMachine):
        @initialize()
        def start(self) -> None:
            empty(conn)
            self.model: dict[UUID, Plain] = {}
            self.leases: list[Lease] = []

        def job(self, back: int) -> tuple[UUID, Plain]:
            """One of the last jobs: much happens to few of them."""
            return list(self.model.items())[-1 - back % len(self.model)]

        def lease(self, back: int) -> tuple[Lease, Plain, bool]:
            """One of the last leases, its job, and whether it is that job's lease now."""
            held = self.leases[-1 - back % len(self.leases)]
            plain = self.model[held.job_id]
            return held, plain, plain.token == held.token

        @precondition(lambda self: sum(plain.status in OPEN for plain in self.model.values()) < 2)
        @rule(priority=st.integers(0, 2), max_attempts=st.sampled_from([4, 4, 4, 2]))
        def submit(self, priority: int, max_attempts: int) -> None:
            job_id = add(db, priority=priority, max_attempts=max_attempts)
            self.model[job_id] = Plain(priority, max_attempts)

        @some_job
        @rule(worker=st.sampled_from("ab"), lost=st.booleans(), n=st.integers(1, 2))
        def claim(self, worker: str, lost: bool, n: int) -> None:
            waiting = sorted(  # a dict keeps the order they came in
                (job_id for job_id, plain in self.model.items() if plain.status == "queued"),
                key=lambda job_id: -self.model[job_id].priority,
            )
            claim_id = uuid4()
            taken = verbs.claim(db, worker, claim_id, kinds=["echo"], n=n, lease_s=600, ageing_s=600)
            assert [held.job_id for held in taken] == waiting[:n]
            if lost:
                again = verbs.claimed(db, worker, claim_id)
                assert {held.token for held in again} == {held.token for held in taken}
            for held in taken:
                plain = self.model[held.job_id]
                plain.status, plain.token, plain.attempts = "running", held.token, plain.attempts + 1
                assert (held.attempt, held.tries) == (plain.attempts, plain.attempts - plain.releases)
                assert held.token not in plain.ended
            self.leases += taken

        @some_lease
        @rule(back=recent)
        def heartbeat(self, back: int) -> None:
            held, _, mine = self.lease(back)
            still = verbs.heartbeat(db, [(held.job_id, held.token)], lease_s=600)
            assert still == ({held.token} if mine else set())

        @some_lease
        @rule(back=recent, first=st.integers(1, 3), count=st.integers(1, 3))
        def append(self, back: int, first: int, count: int) -> None:
            held, plain, mine = self.lease(back)
            seqs = range(first, first + count)
            try:
                events.append(db, held.job_id, held.token, [(seq, "delta", "{}") for seq in seqs])
            except LeaseLost:
                assert not mine
            else:
                assert mine
                plain.told.setdefault(held.attempt, set()).update(seqs)

        @some_lease
        @rule(back=recent, times=st.integers(1, 2))
        def complete(self, back: int, times: int) -> None:
            held, plain, mine = self.lease(back)
            result = f'"{held.token}"'
            if mine:
                plain.ended[held.token] = "done"
                plain.status, plain.token, plain.crashes, plain.result = "done", None, 0, result
            for _ in range(times):
                try:
                    verbs.complete(db, held.job_id, held.token, result=result)
                except LeaseLost:
                    assert plain.ended.get(held.token) != "done"
                else:
                    assert plain.ended.get(held.token) == "done"

        @some_lease
        @rule(back=recent, times=st.integers(1, 2), retryable=st.sampled_from([True, True, True, False]))
        def fail(self, back: int, times: int, retryable: bool) -> None:
            held, plain, mine = self.lease(back)
            if mine:
                plain.crashes = 0
                plain.end_attempt("failed", again=retryable and plain.tries_left, reason="failed")
            for _ in range(times):
                try:
                    to = verbs.fail(db, held.job_id, held.token, error="no", retryable=retryable, delay_s=0)
                except LeaseLost:
                    assert plain.ended.get(held.token) != "failed"
                else:
                    assert plain.ended.get(held.token) == "failed"
                    assert to == plain.status

        @some_lease
        @rule(back=recent)
        def release(self, back: int) -> None:
            held, plain, mine = self.lease(back)
            freed = verbs.release(db, [(held.job_id, held.token)])
            assert freed == ({held.token} if mine else set())
            if mine:
                plain.releases += 1
                plain.end_attempt("released", again=True, reason=None)

        def end_from_outside(self, plain: Plain, how: str, *, ended: bool) -> None:
            assert ended == (plain.status in OPEN)
            if plain.status == "running":
                plain.end_attempt(how, again=False, reason=how)
            elif plain.status == "queued":
                plain.status, plain.reason = "error", how

        @some_job
        @rule(back=recent)
        def cancel(self, back: int) -> None:
            job_id, plain = self.job(back)
            self.end_from_outside(plain, "cancelled", ended=job_rows.cancel(db, job_id))

        @some_job
        @rule(back=recent)
        def pass_the_deadline(self, back: int) -> None:
            job_id, plain = self.job(back)
            conn.execute("UPDATE llm.jobs SET deadline_at = now() WHERE id = %s", (job_id,))
            late = [one.job_id for one in sweeps.expire(db)]
            self.end_from_outside(plain, "deadline_exceeded", ended=late == [job_id])

        @some_job
        @rule(back=recent)
        def lose_the_lease(self, back: int) -> None:
            job_id, plain = self.job(back)
            conn.execute(
                "UPDATE llm.jobs SET lease_until = now() - interval '1 s' WHERE id = %s AND status = 'running'",
                (job_id,),
            )
            reaped = sweeps.reap(db)
            if plain.status != "running":
                assert reaped == []
                return
            plain.crashes += 1
            pill = plain.crashes >= sweeps.MAX_CRASHES
            again = plain.tries_left and not pill
            plain.end_attempt("lease_expired", again=again, reason="crashed" if pill else "lease_expired")
            assert [(ended.job_id, ended.status) for ended in reaped] == [(job_id, plain.status)]

        @some_job
        @rule(back=recent)
        def follow(self, back: int) -> None:
            job_id, plain = self.job(back)
            glance = events.follow(db, job_id, Cursor())
            assert (glance.status, glance.attempts) == (plain.status, plain.attempts)
            assert [event.seq for event in glance.events] == sorted(plain.told.get(plain.attempts, ()))

        @invariant()
        def the_tables_say_the_same(self) -> None:
            found = conn.execute(
                "SELECT id, status, reason, attempts, releases, crashes, lease_token, result FROM llm.jobs"
            )
            assert {row.pop("id"): tuple(row.values()) for row in found} == {
                job_id: (p.status, p.reason, p.attempts, p.releases, p.crashes, p.token, p.result)
                for job_id, p in self.model.items()
            }
            ended = conn.execute("SELECT lease_token, coalesce(reason, status) AS how FROM llm.job_attempts")
            assert {row["lease_token"]: row["how"] for row in ended} == {
                token: how for p in self.model.values() for token, how in p.ended.items()
            }
            rows = conn.execute("SELECT job_id, attempt, seq FROM llm.job_events")
            assert sorted((row["job_id"], row["attempt"], row["seq"]) for row in rows) == sorted(
                (job_id, attempt, seq)
                for job_id, p in self.model.items()
                for attempt, seqs in p.told.items()
                for seq in seqs
            )

    return Life


def run(db: Database, *phases: Phase, examples: int) -> None:
    with connect(db.dsn) as conn:
        run_state_machine_as_test(
            machine(db, conn),
            settings=settings(
                max_examples=examples,
                stateful_step_count=50,
                phases=phases,
                deadline=None,
                database=None,
                derandomize=True,
                print_blob=False,
                suppress_health_check=list(HealthCheck),
            ),
        )


def broken(dsn: str, statement: str, check: str, instead: str) -> Database:
    """Return the database with one statement that says something else in one place."""
    db = Database(dsn, size=1)
    text = db._statements[statement]
    assert check in text
    db._statements = {**db._statements, statement: text.replace(check, instead)}  # type: ignore[assignment] # a plain dict will do
    return db


def test_no_order_of_verbs_breaks_a_promise(own: str) -> None:
    db = Database(own, size=1)
    try:
        run(db, Phase.generate, Phase.shrink, examples=60)
    finally:
        db.close()


@pytest.mark.parametrize(
    ("statement", "check", "instead"),
    [
        ("complete", "AND j.lease_token = r.token", ""),
        ("complete", "AND j.lease_token = r.token\n     WHERE j.status = 'running'", "WHERE j.status <> 'done'"),
        ("complete", "AND j.lease_token = r.token\n     WHERE j.status = 'running'", ""),
        ("fail", "AND lease_token = %(token)s", ""),
        ("reap", "crashes = crashes + crash::integer,\n", "\n"),
        ("claim", "ORDER BY priority DESC, queued_at", "ORDER BY queued_at"),
        ("claimed", "AND worker_id = %(worker_id)s AND claim_id = %(claim_id)s", "AND worker_id = %(worker_id)s"),
        ("heartbeat", "AND j.lease_token = h.token", ""),
        ("release", "AND j.lease_token = h.token", ""),
        ("cancel", "AND status IN ('queued', 'running')", "AND status <> 'error'"),
        ("reap", "status = 'running' AND (", "status <> 'queued' AND (lease_until IS NOT NULL OR "),
        ("release", "releases = releases + 1, ", ""),
        ("claim", "attempts = j.attempts + 1", "attempts = greatest(j.attempts, 1)"),
        ("verdicts", "AND a.lease_token = w.token", "AND a.attempt = j.attempts"),
    ],
)
def test_the_machine_finds_what_is_taken_out(own: str, statement: str, check: str, instead: str) -> None:
    """The status alone is not in the list: a row's own constraint ties it to the token."""
    db = broken(own, statement, check, instead)
    began_at = time.monotonic()
    try:
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - an assertion, a constraint, or a group of both
            run(db, Phase.generate, examples=2000)
        assert not isinstance(caught.value, KeyboardInterrupt)
        assert time.monotonic() - began_at < FOUND_S
    finally:
        db.close()


# — what a sequence of few jobs cannot show —


def sweep_all(db: Database, sweep: Callable[[Database], list[sweeps.Ended]]) -> list[int]:
    """Sweep until there is nothing left and return how many jobs each sweep moved."""
    with connect(db.dsn) as conn:
        empty(conn)
        conn.execute(
            "INSERT INTO llm.jobs (id, kind, status, attempts, begun_at, worker_id, lease_token, lease_until,"
            " deadline_at) SELECT llm.new_id(), 'echo', 'running', 1, now(), 'w', n, t, t"
            " FROM generate_series(1, %s) n, (SELECT now() - interval '1 s') AS past (t)",
            (2 * sweeps.SWEEP + 50,),
        )
    sizes = []
    while moved := sweep(db):
        sizes.append(len(moved))
    return sizes


@pytest.mark.parametrize(("statement", "sweep"), [("reap", sweeps.reap), ("expire", sweeps.expire)])
def test_however_much_ends_at_once_a_sweep_moves_a_bounded_batch(
    own: str, statement: str, sweep: Callable[[Database], list[sweeps.Ended]]
) -> None:
    """Else one statement would hold the rows of a whole outage for as long as it takes; the planted bug shows."""
    began_at = time.monotonic()
    for db, sizes in (
        (Database(own, size=1), [sweeps.SWEEP, sweeps.SWEEP, 50]),
        (broken(own, statement, "LIMIT %(n)s ", ""), [2 * sweeps.SWEEP + 50]),
    ):
        try:
            assert sweep_all(db, sweep) == sizes
        finally:
            db.close()
    assert time.monotonic() - began_at < FOUND_S
