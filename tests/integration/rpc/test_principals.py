"""Several people behind one caller: each sees their own jobs, and nobody else's."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from llm_mcp.client import Client
from llm_mcp.client_words import PRINCIPAL
from llm_mcp.errors import InvalidInput, KeyReused, NotFound
from llm_mcp.jobs import Jobs
from llm_mcp.rpc import llm_pb2 as pb
from llm_mcp.rpc.llm_pb2_grpc import CoreStub
from llm_mcp.runtime import Runtime
from tests.integration.rpc.served import Served
from tests.integration.web.played import Player

ANN, BOB = ((PRINCIPAL, "ann"),), ((PRINCIPAL, "bob@example.org/2"),)
_SOON_S = 10.0


def submit(core: CoreStub, kind: str, metadata: Any = None, **more: Any) -> str:
    return str(core.SubmitJob(pb.SubmitJobRequest(kind=kind, **more), metadata=metadata).job_id)


def refused(call: Any, message: Any, metadata: Any) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    """Return with what a call was refused: code, words, trailers."""
    with pytest.raises(grpc.RpcError) as caught:
        call(message, metadata=metadata, timeout=_SOON_S)
    error: Any = caught.value
    return error.code(), error.details(), dict(error.trailing_metadata())


def ways(core: CoreStub, job_id: str) -> list[tuple[Any, Any]]:
    """Return every call that names a job, with its message."""
    return [
        (core.GetJob, pb.GetJobRequest(job_id=job_id, text=True)),
        (core.GetJob, pb.GetJobRequest(job_id=job_id, wait_s=60)),
        (lambda asked, **how: list(core.StreamJob(asked, **how)), pb.StreamJobRequest(job_id=job_id, events=True)),
        (core.CancelJob, pb.CancelJobRequest(job_id=job_id)),
    ]


def test_a_job_of_another_is_none(core: CoreStub, kind: str) -> None:
    for owner in (ANN, None):
        job_id = submit(core, kind, owner)
        for call, asked in ways(core, job_id):
            code, words, _ = refused(call, asked, BOB)
            assert code is grpc.StatusCode.NOT_FOUND
            assert job_id in words, "in the words for a job that is not there"
        assert core.GetJob(pb.GetJobRequest(job_id=job_id)).job.status == "queued", "and nothing happened to it"


def test_ones_own_job_is_there_and_so_it_is_for_who_has_no_name(core: CoreStub, kind: str) -> None:
    for seer in (ANN, None):
        job_id = submit(core, kind, ANN)
        watch = core.StreamJob(pb.StreamJobRequest(job_id=job_id), metadata=seer)
        assert next(watch).message == "queued"
        assert core.GetJob(pb.GetJobRequest(job_id=job_id, wait_s=0.1), metadata=seer).job.id == job_id
        assert core.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=seer).job.status == "error"
        assert [event.message for event in watch] == ["error"]
        assert core.GetJob(pb.GetJobRequest(job_id=job_id, wait_s=60), metadata=seer).job.reason == "cancelled"


def test_lists_are_ones_own(core: CoreStub, kind: str) -> None:
    mine = [submit(core, kind, ANN) for _ in range(3)]
    others = [submit(core, kind, BOB), submit(core, kind)]
    first = core.ListJobs(pb.ListJobsRequest(kind=kind, limit=2), metadata=ANN)
    second = core.ListJobs(pb.ListJobsRequest(kind=kind, limit=2, cursor=first.next_cursor), metadata=ANN)
    assert [job.id for job in (*first.jobs, *second.jobs)] == mine[::-1]
    assert second.next_cursor == ""
    assert [job.id for job in core.ListJobs(pb.ListJobsRequest(kind=kind), metadata=BOB).jobs] == others[:1]
    assert len(core.ListJobs(pb.ListJobsRequest(kind=kind)).jobs) == 5


def test_keys_are_ones_own(served: Served, kind: str) -> None:
    key = f"{kind}-key"
    with (
        Client(served.target, principal="ann") as ann,
        Client(served.target, principal="bob") as bob,
        Client(served.target) as nobody,
    ):
        found = [client.submit(kind, {"n": 1}, idempotency_key=key).id for client in (ann, bob, nobody)]
        assert len(set(found)) == 3
        assert [client.submit(kind, {"n": 1}, idempotency_key=key).id for client in (ann, bob, nobody)] == found
        with pytest.raises(KeyReused):
            bob.submit(kind, {"n": 2}, idempotency_key=key)


def test_our_client_asks_in_a_name(served: Served, player: Player, kind: str) -> None:
    with Client(served.target, principal="ann") as ann, Client(served.target, principal="bob") as bob:
        handle = ann.submit(kind)
        attempt = player.claim(handle.id, kind)
        attempt.say("a", "b")
        assert ann.said(handle.id) == "ab"
        attempt.done({"response": "abc"})
        assert [event.data["text"] for event in handle.stream()] == ["a", "b"]
        assert handle.wait(timeout=_SOON_S) == {"response": "abc"}
        assert [job.id for job in ann.page(kind=kind)] == [handle.id]
        assert bob.page(kind=kind) == []
        for ask in (bob.get, bob.said, bob.wait, bob.cancel, lambda job_id: list(bob.follow(job_id))):
            with pytest.raises(NotFound):
                ask(handle.id)
    with pytest.raises(InvalidInput) as caught:
        Client(served.target, principal="añn")
    assert caught.value.field == "principal"


@pytest.mark.parametrize("name", ["", " ", "x" * 129])
def test_what_is_no_name_never_means_everybody(core: CoreStub, runtime: Runtime, kind: str, name: str) -> None:
    metadata, job_id = ((PRINCIPAL, name),), submit(core, kind)
    wrong = [(core.SubmitJob, pb.SubmitJobRequest(kind=kind)), (core.ListJobs, pb.ListJobsRequest(kind=kind))]
    for call, asked in (*wrong, *ways(core, job_id)):
        code, words, trailers = refused(call, asked, metadata)
        assert (code, trailers["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, PRINCIPAL)
        assert words == "llm-mcp-principal: must be 1 to 128 printable ASCII characters"
    assert len(Jobs(runtime).page(kind=kind)) == 1


def test_two_names_are_none(core: CoreStub, kind: str) -> None:
    code, words, _ = refused(core.SubmitJob, pb.SubmitJobRequest(kind=kind), (*ANN, *BOB))
    assert (code, words) == (grpc.StatusCode.INVALID_ARGUMENT, "llm-mcp-principal: is given twice")


def test_workers_have_no_name(core: CoreStub, kind: str) -> None:
    job_id = submit(core, kind, ANN)
    odd = ((PRINCIPAL, ""),)
    claimed = core.ClaimJob(pb.ClaimJobRequest(worker_id="w", kinds=[kind]), metadata=odd).job
    assert claimed.id == job_id
    assert core.CompleteJob(pb.CompleteJobRequest(worker_id="w", job_id=job_id, result_json="1"), metadata=BOB).ok
    assert core.GetJob(pb.GetJobRequest(job_id=job_id), metadata=ANN).job.status == "done"
