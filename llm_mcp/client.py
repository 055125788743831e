"""The core from afar: jobs over gRPC, for services that do not talk to its database.

    from llm_mcp import Client

    with Client("127.0.0.1:9090") as core:
        handle = core.submit("chat", model="auto", prompt="Why is the sky blue?")
        for event in handle.stream(): ...
        handle.wait(timeout=60)["response"]

Handles are those of local actors, and errors too. What a call costs is one call: nothing is kept here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

import grpc

from . import strictjson
from .checks import check_principal
from .client_words import PRINCIPAL, event_of, instant, job_of, ours, status_job
from .errors import Unavailable, WaitTimeout
from .events import Cursor, Event
from .fleet import Device
from .handle import JobHandle
from .job import Job, Status
from .kind_actor import merged
from .remote import Measured
from .routing import Offer
from .rpc import llm_pb2 as pb
from .rpc.llm_pb2_grpc import CoreStub

_CALL_S = 30.0
_WAIT_S = 30.0
_PATIENCE_S = 30.0
_AGAIN_S = 0.5
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.keepalive_time_ms", 30_000)]


class Client:
    """A connection to a core. Safe for threads; nothing connects before the first call.

    Parameters: `target`, HOST:PORT; `certificate`, the file with the authority to trust: with it the connection is
    encrypted; `timeout_s`, how long a call may take, s; `patience_s`, how long a core that is away is waited for while
    a job is watched, s; `principal`, in whose name it asks (1 to 128 printable ASCII characters): only that one's jobs
    are then seen, and idempotency keys are that one's own; None: all jobs are. Raises InvalidInput for no such name.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:9090",
        *,
        certificate: Path | None = None,
        timeout_s: float = _CALL_S,
        patience_s: float = _PATIENCE_S,
        principal: str | None = None,
    ) -> None:
        if principal is not None:
            check_principal(principal)
        self._metadata = None if principal is None else ((PRINCIPAL, principal),)
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        if certificate is None:
            self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        else:
            trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
            self._channel = grpc.secure_channel(target, trusted, options=_OPTIONS)
        self._core = CoreStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def submit(
        self,
        kind: str,
        payload: Any = None,
        *,
        model: str = "",
        priority: int = 0,
        source: str = "python",
        max_attempts: int = 0,
        deadline_at: datetime | None = None,
        delay_s: float = 0.0,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> JobHandle:
        """Submit a job and return its handle.

        The payload is `payload`, any JSON value, or the keyword arguments that are not options; both are merged when
        `payload` is an object. With `model`, a model's name or `auto`, the core chooses who answers: `kind` is then
        `chat`, `generate` or `embed`. The other options are those of an actor's `submit`. Raises InvalidInput naming
        the field, TooLarge, KeyReused, QueueFull, NotFound for no such model, Unavailable.
        """
        value = merged(payload, fields)
        strictjson.check(value, root="payload")
        request = pb.SubmitJobRequest(
            kind=kind,
            payload_json=strictjson.dumps(value),
            priority=priority,
            source=source,
            max_attempts=max_attempts,
            deadline_at="" if deadline_at is None else deadline_at.isoformat(),
            delay_s=delay_s,
            idempotency_key=idempotency_key or "",
            model=model,
        )
        return self.handle(UUID(self._call(self._core.SubmitJob, request).job_id))

    def handle(self, job_id: UUID) -> JobHandle:
        """Return the handle of a job that was submitted before."""
        return JobHandle(self, job_id)

    def get(self, job_id: UUID) -> Job:
        """Return one job whole. Raises NotFound, Unavailable."""
        return job_of(self._call(self._core.GetJob, pb.GetJobRequest(job_id=str(job_id))).job)

    def said(self, job_id: UUID) -> str:
        """Return what a job has said so far: its answer's text once it is done. Raises NotFound, Unavailable."""
        text: str = self._call(self._core.GetJob, pb.GetJobRequest(job_id=str(job_id), text=True)).text
        return text

    def wait(self, job_id: UUID, *, timeout_s: float | None = None) -> Job:
        """Return the job once it is finished. Raises as `Jobs.wait`."""
        end_at = None if timeout_s is None else time.monotonic() + timeout_s
        there_at = time.monotonic()
        while True:
            left_s = _WAIT_S if end_at is None else max(0.0, min(_WAIT_S, end_at - time.monotonic()))
            request = pb.GetJobRequest(job_id=str(job_id), wait_s=left_s)
            try:
                job = job_of(self._call(self._core.GetJob, request, more_s=left_s).job)
                there_at = time.monotonic()
                if job.status.final:
                    return job
            except Unavailable:
                if time.monotonic() - there_at >= self._patience_s:
                    raise
                time.sleep(_AGAIN_S)
            if end_at is not None and time.monotonic() >= end_at:
                raise WaitTimeout(f"job {job_id} is not finished after {timeout_s:g} s")

    def follow(self, job_id: UUID, after: Cursor | None = None) -> Iterator[Job | Event | None]:
        """Yield a job's life as it happens, as `Jobs.follow` does; a core that is away is waited for."""
        there_at, place = time.monotonic(), after or Cursor()
        status: Status | None = None
        while True:
            request = pb.StreamJobRequest(job_id=str(job_id), after=str(place) if place.seq else "", events=True)
            try:
                for event in self._stream(request):
                    there_at = time.monotonic()
                    if event.type == "status":
                        if event.message != status:
                            status = Status(event.message)
                            yield status_job(event)
                        if status.final:
                            return
                        continue
                    item = event_of(event, place)
                    place = item.cursor
                    yield item
            except Unavailable:
                if time.monotonic() - there_at >= self._patience_s:
                    raise
                time.sleep(_AGAIN_S)

    def cancel(self, job_id: UUID) -> Job:
        """End a job that is not finished and return it. Raises NotFound, Conflict, Unavailable."""
        return job_of(self._call(self._core.CancelJob, pb.CancelJobRequest(job_id=str(job_id))).job)

    def page(
        self,
        *,
        limit: int = 50,
        before: UUID | None = None,
        status: Status | None = None,
        kind: str = "",
        source: str = "",
    ) -> list[Job]:
        """Return up to `limit` jobs (200 at most), newest first, older than the job `before`."""
        request = pb.ListJobsRequest(
            limit=limit, cursor=str(before or ""), status=status or "", kind=kind, source=source
        )
        return [job_of(job) for job in self._call(self._core.ListJobs, request).jobs]

    def models(self) -> Sequence[Offer]:
        """Return the models that can be named now."""
        found = self._call(self._core.ListModels, pb.ListModelsRequest()).models
        return [
            Offer(
                name=model.name,
                provider=model.provider,
                device_id=model.device_id or None,
                loaded=model.loaded,
                away=model.away,
                capabilities=frozenset(model.capabilities),
            )
            for model in found
        ]

    def devices(self) -> Sequence[Device]:
        """Return the machines that serve models, then those of workers, the one seen last first."""
        return [_device(told) for told in self._call(self._core.ListDevices, pb.ListDevicesRequest()).devices]

    def benchmarks(self, *, limit: int = 20, model_id: str = "", device_id: str = "") -> Sequence[Measured]:
        """Return up to `limit` measurements of workers (200 at most), newest first; "": of any model, any device.

        Raises InvalidInput naming the field.
        """
        request = pb.ListBenchmarksRequest(limit=limit, model_id=model_id, device_id=device_id)
        return [_measured(told) for told in self._call(self._core.ListBenchmarks, request).benchmarks]

    def _call(self, method: Any, request: Any, *, more_s: float = 0.0) -> Any:
        try:
            return method(request, timeout=self._timeout_s + more_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise ours(error) from None

    def _stream(self, request: pb.StreamJobRequest) -> Iterator[pb.JobEvent]:
        call = self._core.StreamJob(request, metadata=self._metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise ours(error) from None
        finally:
            call.cancel()


def _device(told: pb.Device) -> Device:
    return Device(
        id=told.id,
        name=told.name,
        platform=told.platform,
        arch=told.arch,
        status=told.status,
        provider=told.provider,
        models=tuple(told.models),
        loaded=tuple(told.loaded),
        last_seen=instant(told.last_seen),
    )


def _measured(told: pb.Benchmark) -> Measured:
    return Measured(
        device_id=told.device_id,
        model_id=told.model_id,
        task_type=told.task_type,
        tokens_in=told.tokens_in,
        tokens_out=told.tokens_out,
        latency_ms=told.latency_ms,
        tps=told.tps,
        meta=told.meta_json,
        created_at=instant(told.created_at),
    )
