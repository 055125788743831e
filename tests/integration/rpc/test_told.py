"""What the core tells beside jobs: what one has said so far, which machines there are, and how fast they were."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
import pytest

from llm_mcp.client import Client
from llm_mcp.config import Settings
from llm_mcp.errors import InvalidInput, KeyReused
from llm_mcp.rpc import llm_pb2 as pb
from llm_mcp.rpc.llm_pb2_grpc import CoreStub
from tests.contract.provider_peer import Line, Peer, answer
from tests.integration.web.played import Player


@pytest.fixture(scope="module")
def own() -> Iterator[Peer]:
    """An Ollama with two models, one of them loaded."""

    def listing(line: Line) -> None:
        loaded = "/api/ps" in line.peer.requests[-1].head
        answer(200, {"models": [{"name": "b:latest"}, *([] if loaded else [{"name": "a:latest"}])]})(line)

    with Peer(listing) as peer:
        yield peer


@pytest.fixture(scope="module")
def rpc_settings(rpc_settings: Settings, own: Peer) -> Settings:
    """Settings of a door with that Ollama, and one that is away."""
    return rpc_settings.model_copy(update={"ollama_base_url": own.url, "ollama_extra_endpoints": "127.0.0.1:1"})


def said(core: CoreStub, job_id: Any, **asked: Any) -> str:
    return str(core.GetJob(pb.GetJobRequest(job_id=str(job_id), **{"text": True, **asked})).text)


# — what a job has said —


def test_a_running_job_has_said_what_its_attempt_did(core: CoreStub, player: Player, kind: str) -> None:
    job_id = core.SubmitJob(pb.SubmitJobRequest(kind=kind)).job_id
    assert said(core, job_id) == ""
    first = player.claim(job_id, kind)
    assert said(core, job_id) == ""
    first.say("a", 'b"\n😀')
    first.add(("delta", {"thinking": "hm"}), ("progress", {"fraction": 0.5}), ("delta", {"text": "c"}))
    assert said(core, job_id) == 'ab"\n😀c'
    assert said(core, job_id, text=False) == "", "nobody asked"
    first.fail("no")
    assert said(core, job_id) == "", "it waits: what was said is void"
    second = player.claim(job_id, kind)
    second.say("d")
    assert said(core, job_id) == "d"
    core.CancelJob(pb.CancelJobRequest(job_id=job_id))
    assert said(core, job_id) == "d", "what it had said when it ended"


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"response": "whole", "data": {"message": {"role": "assistant", "content": "whole"}}}, "whole"),
        ({"data": {"choices": [{"message": {"content": "of openai"}, "finish_reason": "stop"}]}}, "of openai"),
        ({"data": {"embedding": [0.5, 1.0]}, "model": "m"}, ""),
        ({"echo": {"hello": "world"}}, ""),
        ("a text", ""),
        (None, ""),
    ],
)
def test_a_finished_job_has_said_its_answer(core: CoreStub, player: Player, kind: str, result: Any, text: str) -> None:
    job_id = core.SubmitJob(pb.SubmitJobRequest(kind=kind)).job_id
    attempt = player.claim(job_id, kind)
    attempt.say("a piece")
    attempt.done(result)
    assert said(core, job_id) == text
    assert said(core, job_id, wait_s=60) == text


def test_a_long_text_is_whole(core: CoreStub, player: Player, kind: str) -> None:
    job_id = core.SubmitJob(pb.SubmitJobRequest(kind=kind)).job_id
    attempt = player.claim(job_id, kind)
    pieces = [f"{n} " for n in range(3000)]
    attempt.say(*pieces)
    assert said(core, job_id) == "".join(pieces)


def test_an_odd_piece_of_a_foreign_worker_spoils_nothing(core: CoreStub, kind: str) -> None:
    job_id = core.SubmitJob(pb.SubmitJobRequest(kind=kind)).job_id
    job = core.ClaimJob(pb.ClaimJobRequest(worker_id="w", kinds=[kind])).job
    odd = ['{"text":"a\\u0000b"}', '{"text":"\\ud800"}', '{"text":"c"}']
    events = [pb.NewEvent(seq=n, type="delta", data_json=data) for n, data in enumerate(odd, 1)]
    core.AppendEvents(pb.AppendEventsRequest(worker_id="w", job_id=job_id, lease_token=job.lease_token, events=events))
    text = said(core, job_id)
    assert (text[0], text[-1]) == ("a", "c")
    assert text.isprintable()


# — machines —


def test_machines_are_told_without_their_addresses(core: CoreStub, remote: Client, kind: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    worker = pb.WorkerInfo(id=f"w-{kind}", name="gpu", platform="linux", arch="arm64", host="10.9.8.7")
    core.RegisterWorker(pb.RegisterWorkerRequest(worker=worker))
    own, away, *others = remote.devices()
    assert (own.id, own.status, own.provider, own.loaded) == ("local", "online", "ollama", ("b:latest",))
    assert sorted(own.models) == ["a:latest", "b:latest"]
    assert own.last_seen is None
    assert (away.id, away.status, away.models) == ("extra:127.0.0.1:1", "offline", ())
    seen = others[0]
    assert (seen.id, seen.name, seen.platform, seen.arch) == (f"w-{kind}", "gpu", "linux", "arm64")
    assert (seen.status, seen.provider, seen.models, seen.loaded) == ("online", "", (), ())
    assert seen.last_seen is not None
    assert before <= seen.last_seen <= datetime.now(UTC)
    assert "10.9.8.7" not in str(core.ListDevices(pb.ListDevicesRequest()))


def test_a_machine_that_serves_and_works_is_one(core: CoreStub, remote: Client) -> None:
    core.RegisterWorker(pb.RegisterWorkerRequest(worker=pb.WorkerInfo(id="local", name="mine", arch="x86_64")))
    found = [device for device in remote.devices() if device.id == "local"]
    assert [(device.name, device.arch, device.loaded) for device in found] == [("mine", "x86_64", ("b:latest",))]
    assert found[0].last_seen is not None


def test_a_submit_that_would_go_elsewhere_today_is_the_same_one(remote: Client, dsn: str, kind: str) -> None:
    asked: dict[str, Any] = {"model": "a", "prompt": kind, "idempotency_key": kind}
    first = remote.submit("generate", **asked)
    assert '"device_id":"local"' in (first.job().payload or "")
    with psycopg.connect(dsn) as conn:
        conn.execute(
            "UPDATE llm.jobs SET payload = replace(payload, '\"local\"', '\"extra:gone\"') WHERE id = %s", (first.id,)
        )
    assert remote.submit("generate", **asked).id == first.id
    with pytest.raises(KeyReused):
        remote.submit("generate", **{**asked, "prompt": "another"})


# — measurements —


def test_measurements_are_told_newest_first(core: CoreStub, remote: Client, kind: str) -> None:
    machines = [f"{kind}-{n}" for n in range(2)]
    for n, machine in enumerate(machines):
        core.RegisterWorker(pb.RegisterWorkerRequest(worker=pb.WorkerInfo(id=machine)))
        for model in (kind, "another"):
            measured = pb.Benchmark(device_id=machine, model_id=model, tokens_in=1, tokens_out=2, latency_ms=n)
            measured.tps, measured.meta_json = 4.5, '{"note": 1}'
            core.ReportBenchmark(pb.ReportBenchmarkRequest(benchmark=measured))
    found = remote.benchmarks(model_id=kind)
    assert [one.device_id for one in found] == machines[::-1]
    newest = found[0]
    assert (newest.model_id, newest.task_type, newest.tokens_in, newest.tokens_out) == (kind, "generate", 1, 2)
    assert (newest.latency_ms, newest.tps, orjson.loads(newest.meta)) == (1, 4.5, {"note": 1})
    assert newest.created_at is not None
    assert timedelta(seconds=-1) < datetime.now(UTC) - newest.created_at < timedelta(minutes=5)
    assert [one.model_id for one in remote.benchmarks(device_id=machines[0])] == ["another", kind]
    assert [one.latency_ms for one in remote.benchmarks(device_id=machines[0], model_id=kind)] == [0]
    assert [one.device_id for one in remote.benchmarks(limit=1)] == machines[1:]
    assert remote.benchmarks(model_id="none such") == []


def test_twenty_are_told_when_nobody_says_how_many(core: CoreStub, remote: Client, kind: str) -> None:
    core.RegisterWorker(pb.RegisterWorkerRequest(worker=pb.WorkerInfo(id=kind)))
    for n in range(21):
        measured = pb.Benchmark(device_id=kind, model_id=kind, latency_ms=n)
        core.ReportBenchmark(pb.ReportBenchmarkRequest(benchmark=measured))
    told = core.ListBenchmarks(pb.ListBenchmarksRequest(model_id=kind)).benchmarks
    assert [one.latency_ms for one in told] == list(range(20, 0, -1))
    assert len(remote.benchmarks(limit=200, model_id=kind)) == 21


@pytest.mark.parametrize(
    ("asked", "field"),
    [({"limit": 201}, "limit"), ({"limit": -1}, "limit"), ({"model_id": "\x00"}, "model_id")],
)
def test_a_bad_question_is_told_so(remote: Client, asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        remote.benchmarks(**asked)
    assert caught.value.field == field
