"""How things look on gRPC's wire: jobs, events, machines as messages, and JSON texts in their fields."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from google.protobuf.json_format import MessageToDict

from llm_mcp import strictjson
from llm_mcp.errors import InvalidInput, NotFound
from llm_mcp.events import Event
from llm_mcp.fleet import Device
from llm_mcp.job import Job, Status
from llm_mcp.remote import Measured
from llm_mcp.rpc import llm_pb2 as pb

from .. import ids


def instant(at: datetime | None) -> str:
    """Return an instant in UTC to the second, as the wire contract has it here; "" for None."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _exactly(at: datetime) -> str:
    """Return an instant in UTC to the millisecond: for fields of ours."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def job_message(job: Job) -> pb.Job:
    """Return a job as a message; what it does not have is absent."""
    served = job.status is not Status.QUEUED or job.served
    return pb.Job(
        id=str(job.id),
        kind=job.kind,
        payload_json=job.payload or "",
        status=job.status,
        attempts=job.attempts,
        max_attempts=job.max_attempts,
        lease_until=instant(job.lease_until),
        deadline_at=instant(job.deadline_at),
        result_json=job.result or "",
        error=job.error or "",
        priority=job.priority,
        queued_at=instant(job.queued_at),
        updated_at=instant(job.updated_at),
        reason=job.reason or "",
        source=job.source,
        queue=job.queue,
        worker_id=job.worker_id or "",
        finished_at="" if job.finished_at is None else _exactly(job.finished_at),
        warnings=[] if served else [f"no live worker serves the kind {job.kind!r}; the job waits until one comes"],
    )


def status_event(job: Job) -> pb.JobEvent:
    """Return the event that tells a job's status, and all of the job."""
    data = MessageToDict(job_message(job), preserving_proto_field_name=True)
    return pb.JobEvent(
        job_id=str(job.id),
        type="status",
        message=job.status,
        ts=instant(datetime.now(UTC)),
        data_json=orjson.dumps(data).decode(),
    )


def own_event(job_id: UUID, event: Event) -> pb.JobEvent:
    """Return an event of a job's own stream."""
    return pb.JobEvent(
        job_id=str(job_id),
        type=event.type,
        ts=instant(datetime.now(UTC)),
        data_json=orjson.dumps(event.data).decode(),
        id=str(event.cursor) if event.seq else "",
    )


def device_message(device: Device) -> pb.Device:
    """Return a machine as a message."""
    return pb.Device(
        id=device.id,
        name=device.name,
        platform=device.platform,
        arch=device.arch,
        status=device.status,
        provider=device.provider,
        models=device.models,
        loaded=device.loaded,
        last_seen=instant(device.last_seen),
    )


def benchmark_message(measured: Measured) -> pb.Benchmark:
    """Return a measurement as a message."""
    return pb.Benchmark(
        device_id=measured.device_id,
        model_id=measured.model_id,
        task_type=measured.task_type,
        tokens_in=measured.tokens_in,
        tokens_out=measured.tokens_out,
        latency_ms=measured.latency_ms,
        tps=measured.tps,
        meta_json=measured.meta,
        created_at=instant(measured.created_at),
    )


def job_id(text: str) -> UUID:
    """Return the id of a request. Raises NotFound for what cannot be one, InvalidInput for none."""
    if not text:
        raise InvalidInput("is required", field="job_id")
    found = ids.read(text)
    if found is None:
        raise NotFound("no such job")
    return found


def value(text: str, name: str, *, limit_bytes: int) -> Any:
    """Return the value of a field that holds JSON text, an empty object for "". Raises InvalidInput, TooLarge."""
    if not text:
        return {}
    try:
        return strictjson.loads(text, limit_bytes=limit_bytes)
    except InvalidInput as error:
        error.field = f"{name}.{error.field}" if error.field else name
        raise
