"""What is promised of a job when the processes around it are killed, stopped or cut off."""

from __future__ import annotations

import os
import signal
import threading
import time
from uuid import UUID

import psycopg
import pytest

from llm_mcp.errors import LeaseLost
from llm_mcp.job import Status
from llm_mcp.store import events as event_rows
from llm_mcp.store import leases as rows
from tests.acceptance.running import Frame, Scratch, Up, call, kill
from tests.waiting import until


def worker_of(up: Up, job_id: str) -> int:
    """Return the pid of the worker that runs a job."""
    jobs = up.jobs()
    try:
        holder = until(lambda: jobs.get(UUID(job_id)).worker_id)
        return next(w.pid for w in jobs.workers() if w.id == holder and w.pid is not None)
    finally:
        jobs.runtime.close()


def text_of(told: list[Frame]) -> str:
    return "".join(frame.data["text"] for frame in told if frame.event == "delta")


def ids_of(told: list[Frame]) -> list[tuple[int, int]]:
    pairs = [frame.id.split(":") for frame in told if frame.id]
    return [(int(attempt), int(seq)) for attempt, seq in pairs]


def test_another_worker_finishes_what_a_killed_one_began(scratch: Scratch) -> None:
    up = scratch.up("--workers", "2", "--no-model")
    job_id = up.post("test.slow_words", {"count": 60, "pause_s": 0.03})
    told: list[Frame] = []
    for frame in up.follow(job_id):
        told.append(frame)
        if frame.event == "delta" and frame.id.startswith("1:") and len(ids_of(told)) == 5:
            kill(worker_of(up, job_id))
    job = up.job(job_id)
    assert job["status"] == "done"
    assert job["attempts"] == 2
    resets = [i for i, frame in enumerate(told) if frame.event == "reset"]
    assert [told[i].data for i in resets] == [{"attempt": 2}]
    second = [frame for frame in told[resets[0] :] if frame.event == "delta"]
    assert text_of(second) == job["result"]["response"]
    assert job["result"]["attempt"] == 2
    seqs = [seq for attempt, seq in ids_of(told) if attempt == 2 and seq > 0]
    assert seqs == list(range(1, len(seqs) + 1))  # no gap, no repeat
    first = [seq for attempt, seq in ids_of(told) if attempt == 1]
    assert first == list(range(1, len(first) + 1))
    jobs = up.jobs()
    try:
        tries = jobs.attempts(UUID(job_id))
    finally:
        jobs.runtime.close()
    assert [(t.status, t.reason) for t in tries] == [("error", "lease_expired"), ("done", None)]


def test_a_zombie_changes_nothing(scratch: Scratch) -> None:
    """A worker stopped past its lease and let go again: its writes meet no lease, the other's answer stands."""
    up = scratch.up("--workers", "2", "--no-model")
    job_id = up.post("test.slow_words", {"count": 100, "pause_s": 0.03})
    until(lambda: up.job(job_id)["status"] == "running")
    zombie = worker_of(up, job_id)
    kill(zombie, signal.SIGSTOP)
    try:
        until(lambda: up.job(job_id)["attempts"] == 2, timeout_s=30, every_s=0.05)
    finally:
        kill(zombie, signal.SIGCONT)
    told = list(up.follow(job_id))
    job = up.job(job_id)
    assert job["result"]["attempt"] == 2
    second = [frame for frame in told if frame.event == "delta" and frame.id.startswith("2:")]
    assert text_of(second) == job["result"]["response"]
    assert os.path.exists(f"/proc/{zombie}")  # noqa: PTH110 - it went on living, and serves again
    assert up.finished(up.post("echo"))["status"] == "done"


def test_the_token_of_an_ended_lease_opens_nothing(scratch: Scratch) -> None:
    """What a zombie could try by itself: append, complete and fail are each refused, and the row stays as it is."""
    up = scratch.up("--workers", "1", "--no-model")
    job_id = UUID(up.post("test.slow_words", {"count": 400, "pause_s": 0.02}))
    jobs = up.jobs()
    db = jobs.runtime.db
    try:
        until(lambda: jobs.get(job_id).status is Status.RUNNING)
        with psycopg.connect(jobs.runtime.dsn) as conn:
            row = conn.execute("SELECT lease_token FROM llm.jobs WHERE id = %s", (job_id,)).fetchone()
        assert row is not None
        stale = row[0]
        kill(worker_of(up, str(job_id)))
        until(lambda: jobs.get(job_id).attempts == 2, timeout_s=30)
        with pytest.raises(LeaseLost):
            event_rows.append(db, job_id, stale, [(999, "delta", '{"text":"zombie"}')])
        with pytest.raises(LeaseLost):
            rows.complete(db, job_id, stale, result='"zombie"')
        with pytest.raises(LeaseLost):
            rows.fail(db, job_id, stale, error="zombie", retryable=False, delay_s=0)
        assert rows.heartbeat(db, [(job_id, stale)], lease_s=30) == set()
        assert rows.release(db, [(job_id, stale)]) == set()
        assert jobs.get(job_id).status is Status.RUNNING
        told = list(up.follow(str(job_id)))
        assert "zombie" not in text_of(told)
        assert up.job(str(job_id))["result"]["attempt"] == 2
    finally:
        jobs.runtime.close()


@pytest.mark.parametrize("cuts", [1, 3])
def test_a_stream_goes_on_after_the_web_process_was_killed(scratch: Scratch, cuts: int) -> None:
    up = scratch.up("--workers", "1", "--no-model")
    job_id = up.post("test.slow_words", {"count": 120 * cuts, "pause_s": 0.03})
    told: list[Frame] = []
    kills = 0
    for cut in range(cuts + 1):
        last = next((frame.id for frame in reversed(told) if frame.id), "")
        wanted = len(told) + 6
        try:
            for frame in up.follow(job_id, last_event_id=last):
                told.append(frame)
                if cut < cuts and frame.id and len(told) >= wanted:
                    kill(up.child(" web "))
                    kills += 1
                    wanted = 10**9
        except OSError:
            continue
    assert kills == cuts
    assert told[-1].event == "end"
    job = up.job(job_id)
    assert text_of(told) == job["result"]["response"]
    seqs = ids_of(told)
    assert seqs == sorted(set(seqs))
    assert job["attempts"] == 1


def test_a_stream_outlives_a_killed_postgres(scratch: Scratch) -> None:
    """The reader need not reconnect; no word is lost; the job is not run twice when its worker could go on."""
    up = scratch.up("--workers", "1", "--no-model", lease_s=30.0)
    job_id = up.post("test.slow_words", {"count": 100, "pause_s": 0.03})
    told: list[Frame] = []
    killed = 0.0
    for frame in up.follow(job_id):
        told.append(frame)
        if frame.id and len(ids_of(told)) == 5:
            killed = kill(up.child("postgres -D"))
    assert killed
    job = up.job(job_id)
    assert told[-1].event == "end"
    assert (job["status"], job["attempts"]) == ("done", 1)
    assert text_of(told) == job["result"]["response"]


def test_nothing_acknowledged_is_lost_when_postgres_is_killed_under_submits(scratch: Scratch) -> None:
    up = scratch.up("--workers", "1", "--no-model")
    acknowledged: list[str] = []
    refused: list[int] = []
    stop = threading.Event()

    def submit() -> None:
        while not stop.is_set():
            status, told = call("POST", f"{up.url}/v1/jobs", {"kind": "echo", "payload": {"n": len(acknowledged)}})
            if status == 202:
                acknowledged.append(told["job_id"])
            else:
                refused.append(status)
                time.sleep(0.05)  # a client that is told 503 does not hammer

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        for _ in range(3):
            count = len(acknowledged)
            until(lambda count=count: len(acknowledged) > count + 20, timeout_s=60)  # type: ignore[misc] # a lambda with defaults
            kill(up.child("postgres -D"))
        count = len(acknowledged)
        until(lambda: len(acknowledged) > count + 20, timeout_s=60)
    finally:
        stop.set()
        thread.join()
    assert set(refused) <= {503}
    for job_id in acknowledged:
        assert up.finished(job_id)["status"] == "done"


def test_no_transaction_is_open_while_a_job_runs(scratch: Scratch) -> None:
    up = scratch.up("--workers", "2", "--no-model")
    running = [up.post("test.slow_words", {"count": 100, "pause_s": 0.03}) for _ in range(4)]
    until(lambda: all(up.job(job_id)["status"] == "running" for job_id in running))
    jobs = up.jobs()
    query = """SELECT state, query FROM pg_stat_activity
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
                  AND state LIKE 'idle in transaction%'"""
    looks = 0
    try:
        with psycopg.connect(jobs.runtime.dsn, autocommit=True) as conn:
            while any(up.job(job_id)["status"] == "running" for job_id in running):
                assert conn.execute(query).fetchall() == []
                looks += 1
    finally:
        jobs.runtime.close()
    assert looks > 20


def test_cancel_cuts_a_running_job_at_once(scratch: Scratch) -> None:
    up = scratch.up("--workers", "1", "--no-model")
    job_id = up.post("test.slow_words", {"count": 3000, "pause_s": 0.02})
    until(lambda: up.job(job_id)["status"] == "running")
    status, job = call("POST", f"{up.url}/v1/jobs/{job_id}/cancel")
    assert (status, job["status"], job["reason"]) == (200, "error", "cancelled")
    assert call("POST", f"{up.url}/v1/jobs/{job_id}/cancel")[0] == 409
    jobs = up.jobs()
    try:
        until(lambda: all(worker.running == 0 for worker in jobs.workers()), timeout_s=30, every_s=0.1)
    finally:
        jobs.runtime.close()
