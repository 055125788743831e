"""Calls: a job, and somebody who waits for what it answers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from llm_mcp.calls import CallFailed, Calls, CallStopped, CallTimeout, Stop
from llm_mcp.errors import InvalidInput, KeyReused, NotFound
from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store import leases as rows
from tests.integration.web.played import Attempt, Player
from tests.waiting import until

KIND = "ollama.chat"


def chat(device: str = "local", *, kind: str = KIND, key: str | None = None, prompt: str = "hi") -> Submission:
    payload = {"model": "m", "prompt": prompt, "device_id": device}
    return Submission(kind=kind, payload=payload, source="test", idempotency_key=key)


@pytest.fixture
def player(runtime: Runtime) -> Player:
    """A worker played by the test."""
    return Player(runtime)


def begin(jobs: Jobs, player: Player) -> Attempt:
    """Begin the job somebody asks for."""
    until(jobs.page)
    return player.claim(None, KIND)


def test_who_asks_gets_the_result_and_how_it_came_about(jobs: Jobs, player: Player) -> None:
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(Calls(jobs).ask, chat(), timeout_s=20)
        attempt = begin(jobs, player)
        attempt.say("hello")
        attempt.done({"response": "hello"})
        answered = asking.result(20)
    assert (answered.job_id, answered.result, answered.attempts) == (attempt.job_id, {"response": "hello"}, 1)
    assert answered.worker_id == "played"
    assert answered.queued_ms is not None
    assert answered.queued_ms >= 0


def test_one_row_is_written_and_one_read(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait itself asks for nothing while notices are heard."""
    asked: list[str] = []
    mine = threading.local()
    ran = jobs.runtime.db.run

    def run(name: str, *args: Any, **more: Any) -> Any:
        if getattr(mine, "asks", False):
            asked.append(name)
        return ran(name, *args, **more)

    def ask() -> None:
        mine.asks = True
        Calls(jobs).ask(chat(), timeout_s=20)

    with jobs.runtime.listener.subscribe("job_update", "x"):
        until(lambda: jobs.runtime.listener.hears("job_update"))
        monkeypatch.setattr(jobs.runtime.db, "run", run)
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask)
            until(jobs.page)
            [lease] = rows.claim(jobs.runtime.db, "w", uuid4(), kinds=[KIND], n=1, lease_s=60, ageing_s=600)
            rows.complete(jobs.runtime.db, lease.job_id, lease.token, result="{}")
            jobs.runtime.announce(lease.job_id)
            asking.result(20)
    assert [name for name in asked if name != "depth"] == ["submit_one", "answer"]


def test_what_a_provider_said_of_its_refusal_is_told(jobs: Jobs) -> None:
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(Calls(jobs).ask, chat(), timeout_s=20)
        (lease,) = until(lambda: rows.claim(jobs.runtime.db, "w", uuid4(), kinds=[KIND], n=1, lease_s=60, ageing_s=600))
        metrics = '{"failure": "rate_limited", "status": 429, "retry_after_s": 7}'
        rows.fail(
            jobs.runtime.db, lease.job_id, lease.token, error="slow down", retryable=False, delay_s=0, metrics=metrics
        )
        jobs.runtime.announce(lease.job_id)
        with pytest.raises(CallFailed, match="slow down") as caught:
            asking.result(20)
    error = caught.value
    assert (error.job_id, error.kind, error.reason) == (lease.job_id, KIND, "failed")
    assert (error.provider_code, error.status, error.retry_after_s) == ("rate_limited", 429, 7.0)


@pytest.mark.parametrize("metrics", ["{}", "[]", '{"failure": 7, "status": "429", "retry_after_s": true}', "nonsense"])
def test_a_strangers_metrics_say_nothing(jobs: Jobs, player: Player, metrics: str) -> None:
    job_id = jobs.submit(chat())
    lease = player.claim(job_id, KIND).lease
    rows.fail(jobs.runtime.db, job_id, lease.token, error="no", retryable=False, delay_s=0, metrics=metrics)
    with pytest.raises(CallFailed) as caught:
        Calls(jobs).wait(job_id, timeout_s=5)
    assert (caught.value.provider_code, caught.value.status, caught.value.retry_after_s) == (None, None, None)


def test_time_runs_out_for_who_waits_and_not_for_the_job(jobs: Jobs) -> None:
    with pytest.raises(CallTimeout) as caught:
        Calls(jobs).ask(chat(), timeout_s=0.2)
    assert jobs.get(caught.value.job_id).status == "queued"
    assert Calls(jobs).answer(caught.value.job_id) is None
    with pytest.raises(CallTimeout):
        Calls(jobs).wait(caught.value.job_id, timeout_s=0.0)


def test_a_notice_that_is_lost_costs_a_moment(jobs: Jobs, player: Player) -> None:
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(Calls(jobs).ask, chat(), timeout_s=100)
        attempt = begin(jobs, player)
        rows.complete(jobs.runtime.db, attempt.job_id, attempt.lease.token, result='"unannounced"')
        assert asking.result(30).result == "unannounced"


def test_who_is_told_to_stops_waiting_at_once_and_the_job_goes_on(jobs: Jobs) -> None:
    stop = Stop()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(Calls(jobs).ask, chat(), timeout_s=100, stop=stop)
        (job,) = until(jobs.page)
        stop()
        with pytest.raises(CallStopped) as caught:
            asking.result(20)
    assert caught.value.job_id == job.id
    assert jobs.get(job.id).status == "queued"
    with pytest.raises(CallStopped):  # it was called before there was anything to stop
        Calls(jobs).wait(job.id, timeout_s=100, stop=stop)


def test_a_job_nobody_knows_is_not_waited_for(jobs: Jobs) -> None:
    with pytest.raises(NotFound):
        Calls(jobs).wait(uuid4(), timeout_s=5)


def test_a_submission_that_is_refused_is_no_call(jobs: Jobs) -> None:
    with pytest.raises(InvalidInput):
        Calls(jobs).ask(Submission(kind=KIND, payload={}))


def test_a_key_means_the_same_request_wherever_it_would_go_today(jobs: Jobs, player: Player) -> None:
    calls = Calls(jobs)
    first, _ = calls.stream(chat("local", key="k"))
    player.claim(first, KIND).done({"response": "once"})
    assert calls.ask(chat("extra:box", key="k"), timeout_s=5).job_id == first
    assert calls.stream(chat("extra:box", key="k"))[0] == first
    for other in (chat("local", key="k", prompt="else"), chat("local", key="k", kind="ollama.generate")):
        with pytest.raises(KeyReused):
            calls.ask(other, timeout_s=5)


def test_a_stream_tells_the_jobs_life(jobs: Jobs, player: Player) -> None:
    calls = Calls(jobs)
    job_id, items = calls.stream(chat())
    attempt = player.claim(job_id, KIND)
    attempt.say("a", "b")
    attempt.done({"response": "ab"})
    found = list(items)
    texts = [item.data["text"] for item in found if item is not None and hasattr(item, "data")]
    assert "".join(texts) == "ab"
    answered = calls.answer(job_id)
    assert answered is not None
    assert answered.result == {"response": "ab"}
