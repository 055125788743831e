"""The methods for those who work, in any language: register, claim, heartbeat, complete, fail and append events."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

import grpc

from llm_mcp import strictjson
from llm_mcp.errors import InvalidInput, TooLarge
from llm_mcp.remote import Claimed, Described, Measured, Remote, Waiter
from llm_mcp.rpc import llm_pb2 as pb

from ..streams import Streams
from .messages import job_id, job_message
from .refusals import answering


class Working:
    """Parameters: `remote`, the service; `streams`, the places for those who wait."""

    def __init__(self, remote: Remote, streams: Streams, *, limit_bytes: int) -> None:
        self._remote = remote
        self._places = streams
        self._most_bytes = limit_bytes

    @answering
    def RegisterWorker(self, request: pb.RegisterWorkerRequest, _: grpc.ServicerContext) -> pb.RegisterWorkerResponse:
        """Write down what a worker's machine says of itself."""
        if not request.HasField("worker"):
            raise InvalidInput("is required", field="worker")
        return pb.RegisterWorkerResponse(worker_id=self._remote.register(_described(request.worker)))

    @answering
    def ClaimJob(self, request: pb.ClaimJobRequest, context: grpc.ServicerContext) -> pb.ClaimJobResponse:
        """Lease a job: at once, or when one comes."""
        waiter, claim_id = Waiter(), _claim_id(request.claim_id)
        wait_s = min(request.wait_s, context.time_remaining() or request.wait_s)
        asked: dict[str, Any] = {
            "worker_id": request.worker_id,
            "kinds": list(request.kinds),
            "lease_s": float(request.lease_seconds),
            "claim_id": claim_id,
            "waiter": waiter,
        }
        if not wait_s:
            return _claimed(self._remote.claim(**asked))
        context.add_callback(waiter.nudge)
        place = self._places.enter()
        try:
            place.watch(None, waiter.nudge)
            found = self._remote.claim(wait_s=wait_s, **asked)
        finally:
            place()
        if found is not None and claim_id is None and not context.is_active():  # with one, it will ask again
            self._remote.give_back(found)
        return _claimed(found)

    @answering
    def Heartbeat(self, request: pb.HeartbeatRequest, _context: grpc.ServicerContext) -> pb.HeartbeatResponse:
        """Prolong a lease."""
        extend_s = float(request.extend_seconds)
        self._remote.heartbeat(*_held(request), extend_s=extend_s, token=request.lease_token or None)
        return pb.HeartbeatResponse(ok=True)

    @answering
    def CompleteJob(self, request: pb.CompleteJobRequest, _context: grpc.ServicerContext) -> pb.CompleteJobResponse:
        """Hand in a result."""
        result = self._told(request.result_json, "result_json")
        metrics = self._object(request.metrics_json, "metrics_json")
        self._remote.complete(*_held(request), result=result, metrics=metrics, token=request.lease_token or None)
        return pb.CompleteJobResponse(ok=True)

    @answering
    def FailJob(self, request: pb.FailJobRequest, _context: grpc.ServicerContext) -> pb.FailJobResponse:
        """Report a failure."""
        metrics = self._object(request.metrics_json, "metrics_json")
        self._remote.fail(*_held(request), error=request.error, metrics=metrics, token=request.lease_token or None)
        return pb.FailJobResponse(ok=True)

    @answering
    def AppendEvents(self, request: pb.AppendEventsRequest, _context: grpc.ServicerContext) -> pb.AppendEventsResponse:
        """Add events to the attempt's stream."""
        items = [
            (one.seq, one.type, self._told(one.data_json, f"events[{place}].data_json"))
            for place, one in enumerate(request.events)
        ]
        self._remote.events(*_held(request), items, token=request.lease_token or None)
        return pb.AppendEventsResponse(ok=True)

    @answering
    def ReportMetrics(self, request: pb.ReportMetricsRequest, _: grpc.ServicerContext) -> pb.ReportMetricsResponse:
        """Write down a machine's figures, and what it says of itself."""
        if not request.HasField("worker"):
            raise InvalidInput("is required", field="worker")
        figures = self._object(request.metrics_json, "metrics_json")
        self._remote.metrics(_described(request.worker), figures)
        return pb.ReportMetricsResponse(ok=True)

    @answering
    def ReportBenchmark(
        self, request: pb.ReportBenchmarkRequest, _: grpc.ServicerContext
    ) -> pb.ReportBenchmarkResponse:
        """Write down how fast a model was; none is no mistake, as it always was here."""
        if request.HasField("benchmark"):
            one = request.benchmark
            measured = Measured(
                device_id=one.device_id,
                model_id=one.model_id,
                task_type=one.task_type,
                tokens_in=one.tokens_in,
                tokens_out=one.tokens_out,
                latency_ms=one.latency_ms,
                tps=one.tps,
            )
            self._remote.benchmark(measured, meta=self._told(one.meta_json, "benchmark.meta_json"))
        return pb.ReportBenchmarkResponse(ok=True)

    def _told(self, text: str, name: str) -> Any:
        """Return the value of a JSON text as a worker wrote it: a finished job is not lost over what is odd in it."""
        if not text:
            return {}
        try:
            return strictjson.loads_tolerant(text, limit_bytes=self._most_bytes)
        except TooLarge as error:
            raise TooLarge(str(error), field=name, code="body_too_large") from None
        except InvalidInput as error:
            raise InvalidInput(str(error), field=name, code="invalid_json") from None

    def _object(self, text: str, name: str) -> dict[str, Any]:
        found = self._told(text, name)
        if not isinstance(found, dict):
            raise InvalidInput("must be an object", field=name, code="invalid_json")
        return found


def _described(worker: pb.WorkerInfo) -> Described:
    """Return a worker's description; tags that are no JSON object are none, as they always were here."""
    tags: Any = {}
    with suppress(InvalidInput):
        tags = strictjson.loads(worker.tags_json, limit_bytes=len(worker.tags_json) * 4) if worker.tags_json else {}
    return Described(
        id=worker.id,
        name=worker.name,
        platform=worker.platform,
        arch=worker.arch,
        host=worker.host,
        tags=strictjson.dumps(tags if isinstance(tags, dict) else {}),
    )


def _claimed(found: Claimed | None) -> pb.ClaimJobResponse:
    if found is None:
        return pb.ClaimJobResponse()
    job = job_message(found.job)
    job.lease_token = found.token
    return pb.ClaimJobResponse(job=job)


def _held(request: Any) -> tuple[str, UUID]:
    """Return the worker and the job a request speaks of."""
    if not request.worker_id.strip():
        raise InvalidInput("must not be blank", field="worker_id", code="worker_id_job_id_required")
    return request.worker_id, job_id(request.job_id)


def _claim_id(text: str) -> UUID | None:
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput("must be a UUID", field="claim_id") from None
