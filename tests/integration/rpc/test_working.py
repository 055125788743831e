"""A worker that knows the wire by its numbers alone, in its loop: register, claim, heartbeat, complete, fail."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import grpc
import orjson
import psycopg
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from llm_mcp.client import Client
from llm_mcp.errors import JobFailed
from llm_mcp.rpc import llm_pb2 as pb
from llm_mcp.rpc.llm_pb2_grpc import CoreStub
from tests.integration.rpc.served import Served
from tests.waiting import until

# Message: its fields, in the order of their numbers; text unless it says otherwise.
_WIRE = {
    "WorkerInfo": "id name platform arch host tags_json",
    "RegisterWorkerRequest": "worker:WorkerInfo",
    "RegisterWorkerResponse": "worker_id",
    "Job": "id kind payload_json status attempts:i32 max_attempts:i32 lease_until deadline_at result_json error"
    " priority:i32 queued_at updated_at",
    "ClaimJobRequest": "worker_id kinds:list lease_seconds:i32",
    "ClaimJobResponse": "job:Job",
    "HeartbeatRequest": "worker_id job_id extend_seconds:i32",
    "HeartbeatResponse": "ok:bool",
    "CompleteJobRequest": "worker_id job_id result_json metrics_json",
    "CompleteJobResponse": "ok:bool",
    "FailJobRequest": "worker_id job_id error metrics_json",
    "FailJobResponse": "ok:bool",
    "SubmitJobRequest": "kind payload_json priority:i32 source max_attempts:i32 deadline_at",
    "SubmitJobResponse": "job_id",
    "GetJobRequest": "job_id",
    "GetJobResponse": "job:Job",
    "StreamJobRequest": "job_id",
    "JobEvent": "job_id type message ts data_json",
    "Benchmark": "device_id model_id task_type tokens_in:i32 tokens_out:i32 latency_ms:i32 tps:double meta_json",
    "ReportBenchmarkRequest": "benchmark:Benchmark",
    "ReportBenchmarkResponse": "ok:bool",
    "ReportMetricsRequest": "worker:WorkerInfo metrics_json",
    "ReportMetricsResponse": "ok:bool",
}
_F = descriptor_pb2.FieldDescriptorProto


class Wire:
    """Calls of the service by names and numbers that are written down above."""

    def __init__(self, channel: grpc.Channel) -> None:
        file = descriptor_pb2.FileDescriptorProto(name=f"{uuid4().hex}.proto", package="known", syntax="proto3")
        for name, fields in _WIRE.items():
            message = file.message_type.add(name=name)
            for number, field in enumerate(fields.split(), 1):
                label, _, sort = field.partition(":")
                made = message.field.add(name=label, number=number, label=_F.LABEL_OPTIONAL)
                made.type = {"i32": _F.TYPE_INT32, "bool": _F.TYPE_BOOL, "double": _F.TYPE_DOUBLE}.get(
                    sort, _F.TYPE_STRING
                )
                if sort == "list":
                    made.label = _F.LABEL_REPEATED
                elif sort in _WIRE:
                    made.type, made.type_name = _F.TYPE_MESSAGE, f".known.{sort}"
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self._classes = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"known.{name}")) for name in _WIRE
        }
        self._channel = channel

    def call(self, method: str, **fields: Any) -> Any:
        """Make one call."""
        answer = self._classes[f"{method}Response"]
        ask: Any = self._channel.unary_unary(
            f"/llmmcp.v1.Core/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return ask(self._classes[f"{method}Request"](**fields), timeout=30)

    def stream(self, job_id: str) -> Any:
        """Watch a job."""
        watch: Any = self._channel.unary_stream(
            "/llmmcp.v1.Core/StreamJob",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self._classes["JobEvent"].FromString,
        )
        return watch(self._classes["StreamJobRequest"](job_id=job_id), timeout=30)


@pytest.fixture
def wire(served: Served) -> Any:
    with grpc.insecure_channel(served.target) as channel:
        yield Wire(channel)


def refused(call: Any, *args: Any, **fields: Any) -> tuple[grpc.StatusCode, str]:
    """Return with what a call was refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **fields)
    error: Any = caught.value
    return error.code(), error.details()


def test_the_loop_of_a_worker(wire: Wire, kind: str) -> None:
    job_id = wire.call("SubmitJob", kind=kind, payload_json='{"prompt":"hi"}', source="wire").job_id
    worker = wire.call("RegisterWorker", worker={"id": f"w-{kind}", "name": "w", "tags_json": '{"ollama":true}'})
    assert worker.worker_id == f"w-{kind}"
    assert not wire.call("ClaimJob", worker_id=worker.worker_id, kinds=["other"]).HasField("job")
    job = wire.call("ClaimJob", worker_id=worker.worker_id, kinds=[kind], lease_seconds=60).job
    assert (job.id, job.kind, job.status, job.attempts) == (job_id, kind, "running", 1)
    assert orjson.loads(job.payload_json) == {"prompt": "hi"}
    assert job.lease_until.endswith("Z")
    assert len(job.lease_until) == 20
    held = {"worker_id": worker.worker_id, "job_id": job_id}
    assert wire.call("Heartbeat", **held, extend_seconds=60).ok
    assert wire.call("CompleteJob", **held, result_json='{"response":"ho"}', metrics_json='{"ms":3}').ok
    assert wire.call("CompleteJob", **held, result_json='{"response":"ho"}').ok, "said twice"
    done = wire.call("GetJob", job_id=job_id).job
    assert (done.status, orjson.loads(done.result_json)) == ("done", {"response": "ho"})


def test_a_failure_is_tried_again_and_then_the_end(wire: Wire, kind: str, remote: Client) -> None:
    job_id = wire.call("SubmitJob", kind=kind, max_attempts=1).job_id
    wire.call("ClaimJob", worker_id="w", kinds=[kind])
    assert wire.call("FailJob", worker_id="w", job_id=job_id, error="no such model", metrics_json="{}").ok
    job = wire.call("GetJob", job_id=job_id).job
    assert (job.status, job.error) == ("error", "no such model")


def test_a_watcher_that_knows_of_statuses_only_is_told_no_more(wire: Wire, kind: str) -> None:
    job_id = wire.call("SubmitJob", kind=kind).job_id
    told: list[Any] = []
    watching = threading.Thread(target=lambda: told.extend(wire.stream(job_id)))
    watching.start()
    until(lambda: told)
    wire.call("ClaimJob", worker_id="w", kinds=[kind])
    until(lambda: len(told) == 2)
    wire.call("CompleteJob", worker_id="w", job_id=job_id, result_json="{}")
    watching.join(timeout=30)
    assert [(event.type, event.message) for event in told] == [
        ("status", "queued"),
        ("status", "running"),
        ("status", "done"),
    ]
    data = orjson.loads(told[-1].data_json)
    assert (data["id"], data["kind"], data["payload_json"], data["result_json"]) == (job_id, kind, "{}", "{}")
    assert "error" not in data


def test_a_lease_that_was_lost_changes_nothing(core: CoreStub, kind: str) -> None:
    job_id = core.SubmitJob(pb.SubmitJobRequest(kind=kind)).job_id
    job = core.ClaimJob(pb.ClaimJobRequest(worker_id="w", kinds=[kind])).job
    late = pb.CompleteJobRequest(worker_id="w", job_id=job_id, result_json="1", lease_token=job.lease_token - 1)
    assert refused(core.CompleteJob, late)[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert refused(core.Heartbeat, pb.HeartbeatRequest(worker_id="z", job_id=job_id))[0] is (
        grpc.StatusCode.FAILED_PRECONDITION
    )
    assert core.GetJob(pb.GetJobRequest(job_id=job_id)).job.status == "running"
    core.CancelJob(pb.CancelJobRequest(job_id=job_id))
    ours = pb.CompleteJobRequest(worker_id="w", job_id=job_id, result_json="1", lease_token=job.lease_token)
    assert refused(core.CompleteJob, ours)[0] is grpc.StatusCode.FAILED_PRECONDITION


def test_a_claim_waits_for_a_job(core: CoreStub, kind: str) -> None:
    asked = core.ClaimJob.future(pb.ClaimJobRequest(worker_id="w", kinds=[kind], wait_s=30))
    job_id = core.SubmitJob(pb.SubmitJobRequest(kind=kind)).job_id
    assert asked.result(timeout=20).job.id == job_id


def test_a_claimer_that_left_takes_nothing_along(core: CoreStub, kind: str) -> None:
    asked = core.ClaimJob.future(pb.ClaimJobRequest(worker_id="w", kinds=[kind], wait_s=30))
    core.GetJob(pb.GetJobRequest(job_id=core.SubmitJob(pb.SubmitJobRequest(kind="other." + kind)).job_id))
    asked.cancel()
    job_id = core.SubmitJob(pb.SubmitJobRequest(kind=kind)).job_id
    got = core.ClaimJob(pb.ClaimJobRequest(worker_id="v", kinds=[kind], wait_s=30)).job
    assert got.id == job_id


def test_a_claim_whose_answer_was_lost_is_asked_again(core: CoreStub, kind: str) -> None:
    for _ in range(2):
        core.SubmitJob(pb.SubmitJobRequest(kind=kind))
    asked = pb.ClaimJobRequest(worker_id="w", kinds=[kind], claim_id=str(uuid4()))
    first, again = core.ClaimJob(asked).job, core.ClaimJob(asked).job
    assert (first.id, first.lease_token) == (again.id, again.lease_token)


def test_a_registration_without_its_message_hurts_nobody(wire: Wire, core: CoreStub) -> None:
    for method in ("RegisterWorker", "ReportMetrics"):
        code, words = refused(wire.call, method)
        assert (code, words) == (grpc.StatusCode.INVALID_ARGUMENT, "worker: is required")
    assert wire.call("ReportBenchmark").ok
    assert core.ListJobs(pb.ListJobsRequest(limit=1))


def test_what_a_worker_says_of_its_machine_is_kept(wire: Wire, kind: str, dsn: str) -> None:
    worker = {"id": kind, "name": "gpu", "tags_json": "no json"}
    wire.call("ReportMetrics", worker=worker, metrics_json='{"cpu_pct":3}')
    measured = {"device_id": kind, "model_id": "m", "tokens_in": 1, "tokens_out": 2, "latency_ms": 3, "tps": 4.5}
    assert wire.call("ReportBenchmark", benchmark=measured).ok
    with psycopg.connect(dsn) as conn:
        found = conn.execute(
            "SELECT d.name, m.notes, b.tps, b.task_type FROM llm.devices d"
            " JOIN llm.device_metrics m ON m.device_id = d.id JOIN llm.benchmarks b ON b.device_id = d.id"
            " WHERE d.id = %s",
            (kind,),
        ).fetchall()
    assert found == [("gpu", '{"cpu_pct":3}', 4.5, "generate")]
    code, _ = refused(wire.call, "ReportBenchmark", benchmark={**measured, "device_id": "nobody"})
    assert code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("result", ['{"t":"a\\u0000b"}', '{"n":NaN}', '"\\ud800"'])
def test_a_finished_job_is_not_lost_over_its_text(core: CoreStub, kind: str, remote: Client, result: str) -> None:
    job_id = core.SubmitJob(pb.SubmitJobRequest(kind=kind)).job_id
    core.ClaimJob(pb.ClaimJobRequest(worker_id="w", kinds=[kind]))
    assert core.CompleteJob(pb.CompleteJobRequest(worker_id="w", job_id=job_id, result_json=result)).ok
    assert core.GetJob(pb.GetJobRequest(job_id=job_id)).job.status == "done"


def test_a_stream_of_a_foreign_worker(core: CoreStub, remote: Client, kind: str) -> None:
    handle = remote.submit(kind)
    job = core.ClaimJob(pb.ClaimJobRequest(worker_id="w", kinds=[kind])).job
    held = {"worker_id": "w", "job_id": job.id, "lease_token": job.lease_token}
    pieces = [
        pb.NewEvent(seq=n, type="delta", data_json=orjson.dumps({"text": t}).decode()) for n, t in ((1, "a"), (2, "b"))
    ]
    for _ in range(2):
        assert core.AppendEvents(pb.AppendEventsRequest(**held, events=pieces)).ok
    core.FailJob(pb.FailJobRequest(worker_id="w", job_id=job.id, error="enough", lease_token=job.lease_token))
    remote.cancel(handle.id)
    assert [event.data["text"] for event in handle.stream() if event.type == "delta"] == ["a", "b"]
    with pytest.raises(JobFailed, match="cancelled"):
        handle.wait(timeout=10)
