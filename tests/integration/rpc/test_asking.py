"""Submitting, reading, watching and cancelling over gRPC: the messages, and the handles of our own client."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest

from llm_mcp.client import Client
from llm_mcp.errors import Conflict, InvalidInput, JobFailed, KeyReused, ModelNotFound, NotFound, TooLarge, WaitTimeout
from llm_mcp.events import Event
from llm_mcp.job import Job, Status
from llm_mcp.jobs import Jobs
from llm_mcp.rpc import llm_pb2 as pb
from llm_mcp.rpc.llm_pb2_grpc import CoreStub
from llm_mcp.runtime import Runtime
from tests.integration.web.played import Player
from tests.waiting import until


def refused(call: Any, message: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """Return with what a call was refused: code, words, trailers."""
    with pytest.raises(grpc.RpcError) as caught:
        call(message)
    error: Any = caught.value
    return error.code(), error.details(), dict(error.trailing_metadata())


def test_a_handle_is_that_of_a_local_job(remote: Client, runtime: Runtime, kind: str) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    handle = remote.submit(kind, {"a": 1}, b="zwei", priority=3, source="afar", max_attempts=2, deadline_at=at)
    local, told = Jobs(runtime).get(handle.id), handle.job()
    assert (local.payload, local.deadline_at) == ('{"a":1,"b":"zwei"}', at)
    for name in (
        "id",
        "kind",
        "queue",
        "status",
        "reason",
        "attempts",
        "max_attempts",
        "priority",
        "source",
        "payload",
    ):
        assert getattr(told, name) == getattr(local, name), name
    assert (told.deadline_at, told.served) == (at, False)
    assert told.queued_at == local.queued_at.replace(microsecond=0)
    assert handle.cancel().status is Status.ERROR
    with pytest.raises(Conflict, match="error") as caught:
        handle.cancel()
    assert caught.value.code == "already_finished"
    with pytest.raises(JobFailed) as failed:
        handle.wait(timeout=5)
    assert failed.value.reason == "cancelled"
    ended, known = handle.job().finished_at, Jobs(runtime).get(handle.id).finished_at
    assert ended is not None
    assert known is not None
    assert timedelta(0) <= known - ended < timedelta(milliseconds=1)


def test_a_result_is_waited_for(remote: Client, player: Player, kind: str) -> None:
    handle = remote.submit(kind)
    with pytest.raises(WaitTimeout):
        handle.wait(timeout=0.2)
    attempt = player.claim(None, kind)
    timer = threading.Timer(0.3, lambda: attempt.done({"response": "ja"}))
    timer.start()
    assert handle.wait(timeout=20) == {"response": "ja"}
    timer.join()


def test_a_life_is_told_from_any_place(remote: Client, player: Player, kind: str) -> None:
    handle = remote.submit(kind)
    attempt = player.claim(None, kind)
    attempt.say("a", "b", "c")
    attempt.done({"response": "abc"})
    told = [event for event in handle.stream() if event.type == "delta"]
    assert [event.data["text"] for event in told] == ["a", "b", "c"]
    items = list(remote.follow(handle.id, told[0].cursor))
    assert [item.data["text"] for item in items if isinstance(item, Event) and item.type == "delta"] == ["b", "c"]
    last = items[-1]
    assert isinstance(last, Job)
    assert last.status is Status.DONE


def test_a_watcher_that_leaves_frees_its_place(core: CoreStub, kind: str) -> None:
    job_id = core.SubmitJob(pb.SubmitJobRequest(kind=kind)).job_id
    for _ in range(3):
        watch = core.StreamJob(pb.StreamJobRequest(job_id=job_id))
        assert next(watch).message == "queued"
        watch.cancel()
    assert core.GetJob(pb.GetJobRequest(job_id=job_id)).job.id == job_id


def test_a_deadline_ends_a_wait(core: CoreStub, kind: str) -> None:
    job_id = core.SubmitJob(pb.SubmitJobRequest(kind=kind)).job_id
    method: Any = core.GetJob
    call = method.future(pb.GetJobRequest(job_id=job_id, wait_s=60), timeout=0.3)
    error = call.exception(timeout=10)
    if error is None:  # the core wakes at the same instant, and may be the first
        assert call.result().job.status == "queued"
    else:
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_submit_can_be_repeated(remote: Client, kind: str) -> None:
    key = uuid4().hex
    assert (
        remote.submit(kind, {"n": 1}, idempotency_key=key).id == remote.submit(kind, {"n": 1}, idempotency_key=key).id
    )
    with pytest.raises(KeyReused):
        remote.submit(kind, {"n": 2}, idempotency_key=key)


def test_pages(remote: Client, kind: str) -> None:
    ids = [remote.submit(kind).id for _ in range(3)]
    first = remote.page(limit=2, kind=kind)
    assert [job.id for job in first] == ids[:0:-1]
    assert [job.id for job in remote.page(limit=2, kind=kind, before=first[-1].id)] == ids[:1]
    assert remote.page(kind=kind, status=Status.DONE) == []
    assert first[0].payload is None


def test_a_models_name_that_nobody_knows(remote: Client) -> None:
    with pytest.raises((ModelNotFound, Exception)) as caught:
        remote.submit("chat", model="no/such model", prompt="x")
    assert getattr(caught.value, "code", "") in ("no_api_key", "model_not_found")
    with pytest.raises(InvalidInput) as wrong:
        remote.submit("paint", model="auto", prompt="x")
    assert wrong.value.field == "kind"


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (pb.SubmitJobRequest(), grpc.StatusCode.INVALID_ARGUMENT, "kind"),
        (pb.SubmitJobRequest(kind="k", payload_json="{"), grpc.StatusCode.INVALID_ARGUMENT, "payload_json"),
        (pb.SubmitJobRequest(kind="k", payload_json='"\\ud800"'), grpc.StatusCode.INVALID_ARGUMENT, "payload_json"),
        (pb.SubmitJobRequest(kind="k", payload_json="[" * 999), grpc.StatusCode.INVALID_ARGUMENT, "payload_json"),
        (pb.SubmitJobRequest(kind="k", deadline_at="tomorrow"), grpc.StatusCode.INVALID_ARGUMENT, "deadline_at"),
        (pb.SubmitJobRequest(kind="k", delay_s=float("nan")), grpc.StatusCode.INVALID_ARGUMENT, "delay_s"),
        (pb.SubmitJobRequest(kind="k", source="\x00"), grpc.StatusCode.INVALID_ARGUMENT, "source"),
        (pb.SubmitJobRequest(kind="ollama.chat"), grpc.StatusCode.INVALID_ARGUMENT, "payload"),
    ],
)
def test_bad_submits_leave_nothing(core: CoreStub, runtime: Runtime, request_: Any, code: Any, field: str) -> None:
    before = len(Jobs(runtime).page(limit=200))
    found, words, trailers = refused(core.SubmitJob, request_)
    assert found is code
    assert trailers["field"].split(".")[0] == field
    assert words.startswith(trailers["field"])
    assert len(Jobs(runtime).page(limit=200)) == before


@pytest.mark.parametrize("job_id", ["", "x", "0" * 36, "../etc", str(UUID(int=7)).upper() + "A", str(UUID(int=7))])
def test_no_such_job(core: CoreStub, job_id: str) -> None:
    expected = grpc.StatusCode.NOT_FOUND if job_id else grpc.StatusCode.INVALID_ARGUMENT
    assert refused(core.GetJob, pb.GetJobRequest(job_id=job_id))[0] is expected
    assert refused(core.CancelJob, pb.CancelJobRequest(job_id=job_id))[0] is expected
    assert refused(lambda asked: list(core.StreamJob(asked)), pb.StreamJobRequest(job_id=job_id))[0] is expected


@pytest.mark.parametrize(
    ("call", "request_", "field"),
    [
        ("GetJob", pb.GetJobRequest(job_id=str(UUID(int=7)), wait_s=61), "wait_s"),
        ("GetJob", pb.GetJobRequest(job_id=str(UUID(int=7)), wait_s=float("nan")), "wait_s"),
        ("ListJobs", pb.ListJobsRequest(limit=-1), "limit"),
        ("ListJobs", pb.ListJobsRequest(limit=201), "limit"),
        ("ListJobs", pb.ListJobsRequest(status="late"), "status"),
        ("ListJobs", pb.ListJobsRequest(cursor="x"), "cursor"),
        ("ListJobs", pb.ListJobsRequest(kind="\x00"), "kind"),
        ("ClaimJob", pb.ClaimJobRequest(), "worker_id"),
        ("ClaimJob", pb.ClaimJobRequest(worker_id="w", claim_id="x"), "claim_id"),
        ("ClaimJob", pb.ClaimJobRequest(worker_id="w", wait_s=-1), "wait_s"),
        ("Heartbeat", pb.HeartbeatRequest(worker_id="w"), "job_id"),
    ],
)
def test_bad_fields_are_named(core: CoreStub, call: str, request_: Any, field: str) -> None:
    code, _, trailers = refused(getattr(core, call), request_)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert trailers["field"] == field


def test_what_is_too_large_is_told_so(core: CoreStub, remote: Client, kind: str) -> None:
    with pytest.raises(TooLarge) as caught:
        remote.submit(kind, {"a": "x" * 2**20})
    assert caught.value.field == "payload_json"
    code, _, _ = refused(core.SubmitJob, pb.SubmitJobRequest(kind=kind, payload_json='"' + "x" * 2**22 + '"'))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert remote.page(kind=kind) == []
    with pytest.raises(NotFound):
        remote.get(UUID(int=7))


def test_hundreds_wait_at_once(remote: Client, player: Player, kind: str) -> None:
    handle = remote.submit(kind)
    attempt = player.claim(None, kind)
    found: list[Any] = []
    waiting = [threading.Thread(target=lambda: found.append(handle.wait(timeout=60))) for _ in range(200)]
    for thread in waiting:
        thread.start()
    attempt.done(7)
    for thread in waiting:
        thread.join()
    until(lambda: len(found) == 200)
    assert set(found) == {7}
