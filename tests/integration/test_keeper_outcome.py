"""What became of an attempt is written once, under its lease, and nothing of it is lost over its text."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from llm_mcp.claimer import Claimer
from llm_mcp.errors import Cut, InvalidInput, ProviderError, SetupError
from llm_mcp.job import Reason, Status
from llm_mcp.keeper import Keeper
from llm_mcp.middleware import settle as conclude
from llm_mcp.run import Run
from llm_mcp.store import jobs as verbs
from llm_mcp.store.pool import Database
from llm_mcp.wake import Wake
from tests.integration.conftest import Begin
from tests.integration.proxy import Proxy
from tests.integration.rows import whole


def ended(run: Run, result: Any = None, exception: BaseException | None = None) -> Run:
    run.ended, run.result, run.exception = True, result, exception
    return run


def settle(keeper: Keeper, run: Run) -> None:
    """Let a worker thread be through with a run, and the claiming thread take turns until the keeper has dropped it."""
    wake = Wake()
    claimer = Claimer(keeper, kinds=list, wake=wake)
    conclude(run, claimer, keeper)
    while keeper.held:
        keeper.draining = True
        claimer.turn()
        wake.wait(min(0.1, max(0.0, claimer.due_s())))


def test_an_outcome_waits_for_the_database(begin: Begin, db: Database, proxy: Proxy) -> None:
    keeper, run = begin()
    run.text("streamed")
    proxy.refuse()
    settling = threading.Thread(target=settle, args=(keeper, ended(run, {"ok": True})))
    settling.start()
    settling.join(0.5)
    assert settling.is_alive()
    proxy.restore()
    settling.join(10)
    job = verbs.get(db, run.lease.job_id)
    assert (job.status, job.result) == (Status.DONE, '{"ok":true}')


def test_an_outcome_whose_answer_was_lost_is_written_once(begin: Begin, db: Database, proxy: Proxy) -> None:
    keeper, run = begin()
    run.runtime.db.run("workers")  # the pool is open: the next request is the outcome
    proxy.lose_a_reply()
    settling = threading.Thread(target=settle, args=(keeper, ended(run, 1)))
    settling.start()
    assert proxy.lost.wait(10)
    proxy.restore()
    settling.join(10)
    assert not settling.is_alive()
    job = verbs.get(db, run.lease.job_id)
    assert (job.status, job.attempts) == (Status.DONE, 1)


def test_an_outcome_that_cannot_be_written_is_given_up_at_the_fence(begin: Begin, db: Database, proxy: Proxy) -> None:
    keeper, run = begin(lease_s=2.0)
    proxy.refuse()
    settle(keeper, ended(run, 1))
    assert time.monotonic() < run.fence_at + 3
    assert verbs.get(db, run.lease.job_id).status is Status.RUNNING  # the reaper's, by and by


def test_a_cut_run_writes_nothing(begin: Begin, db: Database, dsn: str) -> None:
    keeper, run = begin()
    keeper.stop()  # no beat meanwhile
    before = whole(dsn, run.lease.job_id)
    run.cut("draining")
    settle(keeper, ended(run, 1))
    assert whole(dsn, run.lease.job_id) == before


def test_a_run_that_never_began_is_given_back(begin: Begin, db: Database, dsn: str) -> None:
    keeper, run = begin()
    settle(keeper, run)
    job = whole(dsn, run.lease.job_id)["job"]
    assert (job["status"], job["releases"]) == ("queued", 1)


def test_a_late_outcome_is_refused_quietly(begin: Begin, db: Database, dsn: str) -> None:
    keeper, run = begin()
    verbs.cancel(db, run.lease.job_id)
    run.close()  # nobody could tell it any more
    before = whole(dsn, run.lease.job_id)
    run.ended = True
    settle(keeper, run)
    assert whole(dsn, run.lease.job_id) == before


@pytest.mark.parametrize(
    ("result", "stored"),
    [
        (None, "null"),
        ({"score": float("nan"), "text": "a\x00b\ud800"}, '{"score":null,"text":"a\ufffdb\ufffd"}'),
        ({1: 2**70}, '{"1":"1180591620717411303424"}'),
    ],
)
def test_no_result_is_lost_over_its_text(begin: Begin, db: Database, result: Any, stored: str) -> None:
    keeper, run = begin()
    settle(keeper, ended(run, result))
    job = verbs.get(db, run.lease.job_id)
    assert (job.status, job.result) == (Status.DONE, stored)


def test_a_result_over_the_limit_is_an_error_that_no_retry_cures(begin: Begin, db: Database) -> None:
    keeper, run = begin(max_body_bytes=1024)
    settle(keeper, ended(run, "é" * 600))
    job = verbs.get(db, run.lease.job_id)
    assert (job.status, job.reason, job.error) == (Status.ERROR, Reason.FAILED, "result: the result is over 1024 bytes")


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("exception", "status", "text"),
    [
        (ValueError("no luck"), Status.QUEUED, "ValueError: no luck"),
        (KeyError("x"), Status.QUEUED, "KeyError: 'x'"),
        (SystemExit(3), Status.QUEUED, "SystemExit: 3"),
        (Silent(), Status.QUEUED, "Silent"),
        (RuntimeError("a\x00b\ud800"), Status.QUEUED, "RuntimeError: a\ufffdb\ufffd"),
        (ProviderError("busy", retryable=True), Status.QUEUED, "busy"),
        (ProviderError("no such model", retryable=False), Status.ERROR, "no such model"),
        (InvalidInput("must be text", field="payload.prompt"), Status.ERROR, "payload.prompt: must be text"),
        (SetupError("set OPENAI_API_KEY"), Status.ERROR, "set OPENAI_API_KEY"),
        (Cut("the actor's own idea"), Status.QUEUED, "the actor's own idea"),
    ],
)
def test_what_an_actor_raises_decides_whether_it_is_tried_again(
    begin: Begin, db: Database, exception: BaseException, status: Status, text: str
) -> None:
    keeper, run = begin()
    settle(keeper, ended(run, exception=exception))
    job = verbs.get(db, run.lease.job_id)
    assert (job.status, job.error) == (status, text)


def test_a_book_of_an_error_is_cut(begin: Begin, db: Database) -> None:
    keeper, run = begin()
    settle(keeper, ended(run, exception=ValueError("x" * 10_000)))
    assert len(verbs.get(db, run.lease.job_id).error or "") == 2000


def test_a_provider_that_asked_for_time_gets_it(begin: Begin, db: Database) -> None:
    keeper, run = begin()
    settle(keeper, ended(run, exception=ProviderError("busy", retryable=True, retry_after_s=120.0)))
    job = verbs.get(db, run.lease.job_id)
    assert (job.run_at - job.updated_at).total_seconds() >= 119


def test_the_attempt_keeps_its_figures(begin: Begin, dsn: str) -> None:
    keeper, run = begin()
    run.text("a")
    run.metrics.update(model="m", name="collides with a field of log records")
    settle(keeper, ended(run, 1))
    (attempt,) = whole(dsn, run.lease.job_id)["attempts"]
    assert '"ttft_ms":' in attempt["metrics"]
    assert '"model":"m"' in attempt["metrics"]
