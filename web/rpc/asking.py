"""The methods for those who ask: submit, read, watch, cancel and list jobs, and what there is to answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import grpc

from llm_mcp.calls import Calls, Stop
from llm_mcp.errors import InvalidInput
from llm_mcp.events import Cursor, Event
from llm_mcp.fleet import Fleet, Verb
from llm_mcp.job import Job, Status, Submission
from llm_mcp.jobs import Jobs
from llm_mcp.remote import Remote
from llm_mcp.rpc import llm_pb2 as pb

from .. import ids
from ..body import instant
from ..errors import Full
from ..streams import Streams
from .messages import benchmark_message, device_message, job_id, job_message, own_event, status_event, value
from .principals import principal
from .refusals import answering, streaming

_MAX_WAIT_S = 60.0
_PAGE, _MAX_PAGE = 50, 200
_BENCHMARKS = 20
# What a submission by a model's name may say it is for.
_VERBS: tuple[Verb, ...] = ("chat", "generate", "embed")


class Asking:
    """Parameters: `jobs`, the service; `streams`, the places for those who wait or watch."""

    def __init__(self, jobs: Jobs, streams: Streams) -> None:
        self._jobs = jobs
        self._streams = streams
        self._limit_bytes = jobs.runtime.settings.max_body_bytes

    @answering
    def SubmitJob(self, request: pb.SubmitJobRequest, context: grpc.ServicerContext) -> pb.SubmitJobResponse:
        """Write a job and return its id."""
        submission = Submission(
            kind=request.kind,
            payload=value(request.payload_json, "payload_json", limit_bytes=self._limit_bytes),
            priority=request.priority,
            source=request.source,
            max_attempts=request.max_attempts,
            deadline_at=instant(request.deadline_at, "deadline_at"),
            delay_s=request.delay_s,
            idempotency_key=request.idempotency_key or None,
            principal=principal(context),
        )
        wait_s = _seconds("wait_s", request.wait_s)
        if request.model:
            submission = self._routed(submission, request.model, local_only=request.local_only)
        calls, job, stop = Calls(self._jobs), None, Stop()
        submit = calls.submit if request.model else self._jobs.submit
        with ExitStack() as waiting:
            if wait_s:
                try:
                    wait_s = waiting.enter_context(self._waiting(stop, wait_s, context))
                except Full:  # it is written all the same, and may be asked for later
                    wait_s = 0.0
            if request.HasField("wait_s"):
                new, job = calls.run(submission, submit=submit, wait_s=wait_s, stop=stop)
            else:
                new = submit(submission)
        told = pb.SubmitJobResponse(job_id=str(new), kind=submission.kind)
        if job is not None:
            told.job.CopyFrom(job_message(job))
            told.text = self._jobs.said(job)
        return told

    @answering
    def GetJob(self, request: pb.GetJobRequest, context: grpc.ServicerContext) -> pb.GetJobResponse:
        """Return a job: at once, or as soon as it is finished."""
        wanted, wait_s, owner = job_id(request.job_id), _seconds("wait_s", request.wait_s), principal(context)
        if wait_s:
            self._jobs.check_owner(wanted, owner)
            waiter = self._jobs.waiter(wanted)
            with self._waiting(waiter.nudge, wait_s, context) as most_s:
                waiter.final(timeout_s=most_s)
        job = self._jobs.get(wanted, principal=owner)
        return pb.GetJobResponse(job=job_message(job), text=self._jobs.said(job) if request.text else "")

    @contextmanager
    def _waiting(self, end: Callable[[], None], wait_s: float, context: grpc.ServicerContext) -> Iterator[float]:
        """Take a place for a wait, of which `end` is the end when nobody waits any more; yields how long it may be, s.

        Raises Full.
        """
        place = self._streams.enter()
        try:
            context.add_callback(end)
            place.watch(None, end)
            yield min(wait_s, context.time_remaining() or wait_s)
        finally:
            place()

    @streaming
    def StreamJob(self, request: pb.StreamJobRequest, context: grpc.ServicerContext) -> Iterator[pb.JobEvent]:
        """Tell a job's life until it is finished, its watcher left, or this process is about to stop."""
        wanted = job_id(request.job_id)
        after = Cursor.parse(request.after, field="after") if request.after else None
        self._jobs.check_owner(wanted, principal(context))
        place = self._streams.enter()
        try:
            watch = self._jobs.watch(wanted, after, line=request.events)
            context.add_callback(watch.nudge)
            place.watch(None, watch.nudge)
            told: Status | None = None
            for item in watch.items(quiet_s=_MAX_WAIT_S):
                if isinstance(item, Job) and item.status is not told:
                    told = item.status
                    yield status_event(item)
                elif isinstance(item, Event) and request.events:
                    yield own_event(wanted, item)
                if not context.is_active():
                    return
                if place.draining:
                    context.set_code(grpc.StatusCode.UNAVAILABLE)
                    context.set_details("this process is about to stop: come again, with `after`")
                    return
        finally:
            place()

    @answering
    def CancelJob(self, request: pb.CancelJobRequest, context: grpc.ServicerContext) -> pb.CancelJobResponse:
        """End a job that is not finished."""
        wanted = job_id(request.job_id)
        self._jobs.check_owner(wanted, principal(context))
        return pb.CancelJobResponse(job=job_message(self._jobs.cancel(wanted)))

    @answering
    def ListJobs(self, request: pb.ListJobsRequest, context: grpc.ServicerContext) -> pb.ListJobsResponse:
        """List jobs, newest first."""
        limit = request.limit or _PAGE
        if not 1 <= limit <= _MAX_PAGE:
            raise InvalidInput(f"must be 1 to {_MAX_PAGE}", field="limit")
        if request.status and request.status not in set(Status):
            raise InvalidInput(f"must be one of {', '.join(Status)}", field="status")
        before = ids.read(request.cursor) if request.cursor else None
        if request.cursor and before is None:
            raise InvalidInput("not a cursor of ours", field="cursor")
        for name, text in (("kind", request.kind), ("source", request.source)):
            if not text.isprintable():
                raise InvalidInput("holds a control character", field=name)
        jobs = self._jobs.page(
            limit=limit + 1,
            before=before,
            status=Status(request.status) if request.status else None,
            kind=request.kind or None,
            source=request.source or None,
            principal=principal(context),
        )
        more = len(jobs) > limit
        return pb.ListJobsResponse(
            jobs=[job_message(job) for job in jobs[:limit]], next_cursor=str(jobs[limit - 1].id) if more else ""
        )

    @answering
    def ListModels(self, _request: pb.ListModelsRequest, _context: grpc.ServicerContext) -> pb.ListModelsResponse:
        """List the models that can be named now."""
        return pb.ListModelsResponse(
            models=[
                pb.Model(
                    name=offer.name,
                    provider=offer.provider,
                    device_id=offer.device_id or "",
                    loaded=offer.loaded,
                    away=offer.away,
                    embeds=offer.embeds,
                    capabilities=sorted(offer.capabilities),
                )
                for offer in Fleet.of(self._jobs.runtime).models()
            ]
        )

    @answering
    def ListDevices(self, _request: pb.ListDevicesRequest, _context: grpc.ServicerContext) -> pb.ListDevicesResponse:
        """List the machines that serve models, and those of workers."""
        devices = Fleet.of(self._jobs.runtime).devices()
        return pb.ListDevicesResponse(devices=[device_message(device) for device in devices])

    @answering
    def ListBenchmarks(
        self, request: pb.ListBenchmarksRequest, _context: grpc.ServicerContext
    ) -> pb.ListBenchmarksResponse:
        """List what workers measured, newest first."""
        found = Remote.of(self._jobs.runtime).benchmarks(
            limit=request.limit or _BENCHMARKS, model_id=request.model_id, device_id=request.device_id
        )
        return pb.ListBenchmarksResponse(benchmarks=[benchmark_message(measured) for measured in found])

    def _routed(self, submission: Submission, model: str, *, local_only: bool) -> Submission:
        """Return a submission by a model's name as one of the kind that answers it."""
        verb = next((verb for verb in _VERBS if verb == submission.kind), None)
        if verb is None:
            raise InvalidInput(f"must be one of {', '.join(_VERBS)} where a model is named", field="kind")
        if not isinstance(submission.payload, dict):
            raise InvalidInput("must be an object", field="payload_json")
        route = Fleet.of(self._jobs.runtime).route(model, verb, local_only=local_only)
        return replace(submission, kind=route.kind, payload={**submission.payload, **route.payload})


def _seconds(name: str, seconds: float) -> float:
    if not 0 <= seconds <= _MAX_WAIT_S:
        raise InvalidInput(f"must be 0 to {_MAX_WAIT_S:g}", field=name)
    return seconds
