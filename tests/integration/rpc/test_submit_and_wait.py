"""A submission that is waited for in the same call: what it brings, and that nothing is lost when it cannot wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest

from llm_mcp.config import Settings
from llm_mcp.job import Status
from llm_mcp.jobs import Jobs
from llm_mcp.rpc import llm_pb2 as pb
from llm_mcp.rpc.llm_pb2_grpc import CoreStub
from llm_mcp.runtime import Runtime
from tests.integration.rpc.served import Served
from tests.integration.web.played import Player
from tests.waiting import until


def test_it_brings_the_result_as_soon_as_there_is_one(core: CoreStub, player: Player, kind: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(core.SubmitJob, pb.SubmitJobRequest(kind=kind, wait_s=30))
        attempt = player.claim_soon(kind)
        attempt.say("a", "b")
        assert not asked.done()
        attempt.done({"response": "abc"})
        told = asked.result(10)
    assert (told.job_id, told.kind, told.job.id) == (str(attempt.job_id), kind, told.job_id)
    assert (told.job.status, told.job.result_json, told.text) == ("done", '{"response":"abc"}', "abc")


def test_when_the_time_is_over_it_tells_how_far_the_job_is(core: CoreStub, player: Player, kind: str) -> None:
    told = core.SubmitJob(pb.SubmitJobRequest(kind=kind, wait_s=0.2))
    assert (told.job.id, told.job.status, told.text) == (told.job_id, "queued", "")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(core.SubmitJob, pb.SubmitJobRequest(kind=f"{kind}.2", wait_s=1.5))
        player.claim_soon(f"{kind}.2").say("so ", "far")
        told = asked.result(20)
    assert (told.job.status, told.text) == ("running", "so far")


def test_no_wait_brings_the_job_only_where_it_is_asked_for(core: CoreStub, kind: str) -> None:
    assert not core.SubmitJob(pb.SubmitJobRequest(kind=kind)).HasField("job")
    assert core.SubmitJob(pb.SubmitJobRequest(kind=kind, wait_s=0)).job.status == "queued"


def test_what_was_asked_before_and_is_finished_is_told_at_once(core: CoreStub, player: Player, kind: str) -> None:
    request = pb.SubmitJobRequest(kind=kind, idempotency_key=uuid4().hex, wait_s=0)
    first = core.SubmitJob(request)
    attempt = player.claim(first.job_id, kind)
    request.wait_s = 30
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(core.SubmitJob, request)
        done = threading.Timer(0.3, lambda: attempt.done({"response": "here"}))
        done.start()
        assert again.result(10).text == "here"
    began_at = time.monotonic()
    told = core.SubmitJob(request)
    assert (told.job_id, told.text) == (first.job_id, "here")
    assert time.monotonic() - began_at < 10


@pytest.mark.parametrize("wait_s", [-1.0, 60.5, float("nan")])
def test_a_wait_that_is_none_writes_nothing(core: CoreStub, runtime: Runtime, kind: str, wait_s: float) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        core.SubmitJob(pb.SubmitJobRequest(kind=kind, wait_s=wait_s))
    error: Any = caught.value
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "wait_s: must be 0 to 60")
    assert Jobs(runtime).page(kind=kind) == []


def test_who_leaves_does_not_take_the_job_along(core: CoreStub, runtime: Runtime, kind: str) -> None:
    method: Any = core.SubmitJob
    call = method.future(pb.SubmitJobRequest(kind=kind, wait_s=30))
    (job,) = until(lambda: Jobs(runtime).page(kind=kind))
    call.cancel()
    assert Jobs(runtime).get(job.id).status is Status.QUEUED


# — where there is but one place —


@pytest.fixture
def narrow(rpc_settings: Settings, log: Path) -> Iterator[CoreStub]:
    """A door with one place for those who wait."""
    with (
        Served(rpc_settings.model_copy(update={"max_streams": 1}), log) as served,
        grpc.insecure_channel(served.target) as channel,
    ):
        yield CoreStub(channel)


def test_without_a_place_to_wait_at_it_is_written_all_the_same(narrow: CoreStub, runtime: Runtime, kind: str) -> None:
    first = narrow.SubmitJob(pb.SubmitJobRequest(kind=kind)).job_id
    watch = narrow.StreamJob(pb.StreamJobRequest(job_id=first))
    assert next(watch).message == "queued"
    began_at = time.monotonic()
    told = narrow.SubmitJob(pb.SubmitJobRequest(kind=kind, wait_s=60))
    assert time.monotonic() - began_at < 20
    assert Jobs(runtime).get(UUID(told.job_id)).status is Status.QUEUED
    assert told.job.status == "queued"
    watch.cancel()
    # One who left gives its place back: the next one waits.
    until(lambda: _waits_s(narrow, kind) >= 0.3)


def _waits_s(core: CoreStub, kind: str) -> float:
    began_at = time.monotonic()
    core.SubmitJob(pb.SubmitJobRequest(kind=kind, wait_s=0.3))
    return time.monotonic() - began_at
