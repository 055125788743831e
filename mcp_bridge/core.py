"""The core from afar, for an event loop: jobs over gRPC, each call in the name of a principal.

A core that is away is told at once, and found again by itself; what it refuses is raised as the errors we have for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
import anyio.lowlevel
import grpc

from llm_mcp import strictjson
from llm_mcp.client_words import PRINCIPAL, event_of, ours
from llm_mcp.config import Settings
from llm_mcp.errors import LlmMcpError, SetupError, Unavailable
from llm_mcp.events import Cursor
from llm_mcp.rpc import llm_pb2 as pb
from llm_mcp.rpc.llm_pb2_grpc import CoreStub

from .principal import LOCAL

_CALL_S = 20.0
_LONGEST_WAIT_S = 60.0
# What waits for less than this ends by itself when the bridge stops, s.
_CUT_FROM_S = 1.0
# A core that went away while a job is watched is waited for so long, asked again so often, s.
_PATIENCE_S, _AGAIN_S = 30.0, 0.5
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    # One that is back is found within a second or two, however long it was away.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


class Stopping(Unavailable):
    """The bridge is about to stop, so the wait ends; the job goes on in the core."""

    code = "stopping"


class Core:
    """A connection to the core at `settings.grpc_addr`, open while entered; entered in the loop that uses it.

    `principal` is in every call the name of who asks: the core then shows that one's jobs only. The user of this
    machine, `local`, sees all of them. All methods raise Unavailable when the core does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._target = _target(settings)
        self._certificate = settings.core_certificate or settings.grpc_certificate
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self._waiting: set[Any] = set()
        self._stopping = False

    async def __aenter__(self) -> Core:
        if self._certificate is None:
            self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        else:
            trusted = grpc.ssl_channel_credentials(_read(self._certificate))
            self._channel = grpc.aio.secure_channel(self._target, trusted, options=_OPTIONS)
        self._stub = CoreStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel is not None:
            self._stub = None
            await self._channel.close()

    def stop(self) -> None:
        """End what waits for a job or watches one, now and from now on, with Stopping. For the loop's own thread."""
        self._stopping = True
        for call in list(self._waiting):
            call.cancel()

    async def submit(
        self,
        kind: str,
        payload: Any,
        *,
        principal: str,
        model: str = "",
        priority: int = 0,
        source: str = "mcp",
        max_attempts: int = 0,
        deadline_s: float | None = None,
        deadline_at: str = "",
        idempotency_key: str = "",
        local_only: bool = False,
        wait_s: float | None = None,
    ) -> tuple[pb.Job, str]:
        """Submit a job, whose payload is any JSON value; return it and what it has said so far.

        With `model`, a name or `auto`, the core chooses who answers: `kind` is then `chat`, `generate` or `embed`;
        `local_only`: no cloud. The deadline is an instant, RFC 3339, or `deadline_s` seconds from now; 0 attempts are
        as many as usual. The answer waits up to `wait_s` seconds for the job to finish. Without it there is only id and
        kind, and also when the job could not be read any more. Raises InvalidInput naming the field, TooLarge,
        KeyReused, QueueFull, ModelNotFound, NoProvider.
        """
        strictjson.check(payload, root="payload")
        if not deadline_at and deadline_s is not None:
            deadline_at = (datetime.now(UTC) + timedelta(seconds=deadline_s)).isoformat()
        request = pb.SubmitJobRequest(
            kind=kind,
            payload_json=strictjson.dumps(payload),
            priority=priority,
            source=source,
            max_attempts=max_attempts,
            deadline_at=deadline_at,
            idempotency_key=idempotency_key,
            model=model,
            local_only=local_only,
            wait_s=wait_s,
        )
        told = await self._call("SubmitJob", request, principal)
        return (told.job if told.HasField("job") else pb.Job(id=told.job_id, kind=told.kind)), str(told.text)

    async def job(self, job_id: str, *, principal: str, wait_s: float = 0.0, text: bool = False) -> tuple[pb.Job, str]:
        """Return a job and, with `text`, what it has said so far.

        The answer waits up to `wait_s` seconds, 60 at most, for the job to finish. Raises NotFound, Stopping.
        """
        wait_s = max(0.0, min(wait_s, _LONGEST_WAIT_S))
        request = pb.GetJobRequest(job_id=job_id, wait_s=wait_s, text=text)
        told = await self._call("GetJob", request, principal, more_s=wait_s)
        return told.job, str(told.text)

    async def events(self, job_id: str, *, principal: str, after: str = "") -> AsyncGenerator[pb.JobEvent]:
        """Yield a job's life as it happens, from behind the event `after` on, until its final status.

        A status is told at once and at each change. A core that goes away meanwhile is waited for, half a minute at
        most; nothing is told twice. Close the iteration (`contextlib.aclosing`) to end the call. Raises NotFound,
        InvalidInput, Stopping.
        """
        place = Cursor.parse(after, field="after") if after else Cursor()
        status, there_at = "", anyio.current_time()
        while True:
            request = pb.StreamJobRequest(job_id=job_id, after=str(place) if place.seq else "", events=True)
            call = self._ready().StreamJob(request, metadata=_metadata(principal))
            try:
                async with aclosing(self._cuttable(call)) as told:
                    async for event in told:
                        there_at = anyio.current_time()
                        if event.type != "status":
                            place = event_of(event, place).cursor
                            yield event
                        elif event.message != status:
                            status = event.message
                            yield event
                return
            except Stopping:
                raise
            except Unavailable:
                if not status or anyio.current_time() - there_at >= _PATIENCE_S:
                    raise
            await anyio.sleep(_AGAIN_S)

    async def cancel(self, job_id: str, *, principal: str) -> pb.Job:
        """End a job that is not finished and return it. Raises NotFound, Conflict."""
        told: pb.CancelJobResponse = await self._call("CancelJob", pb.CancelJobRequest(job_id=job_id), principal)
        return told.job

    def attend(self) -> Any:
        """Open a call that says for which jobs somebody waits here: write AttendRequests to it.

        It is in nobody's name, for jobs of all: their ids are the core's own. It waits for a core that is away.
        """
        return self._ready().Attend(wait_for_ready=True)

    async def jobs(
        self, *, principal: str, status: str = "", kind: str = "", limit: int = 50, cursor: str = ""
    ) -> tuple[list[pb.Job], str]:
        """Return up to `limit` jobs (200 at most), newest first, without payload and result, and a cursor.

        The cursor leads to the next page; it is "" when there are no more. Raises InvalidInput.
        """
        request = pb.ListJobsRequest(status=status, kind=kind, limit=limit, cursor=cursor)
        told = await self._call("ListJobs", request, principal)
        return list(told.jobs), str(told.next_cursor)

    async def models(self) -> list[pb.Model]:
        """Return the models that can be named now."""
        return list((await self._call("ListModels", pb.ListModelsRequest(), LOCAL.name)).models)

    async def devices(self) -> list[pb.Device]:
        """Return the machines that serve models, and those of workers."""
        return list((await self._call("ListDevices", pb.ListDevicesRequest(), LOCAL.name)).devices)

    async def benchmarks(self, *, model: str = "", device: str = "", limit: int = 0) -> list[pb.Benchmark]:
        """Return what workers measured of a model, on a device ("": of all), newest first; 200 at most, 0: 20.

        Raises InvalidInput.
        """
        request = pb.ListBenchmarksRequest(model_id=model, device_id=device, limit=limit)
        return list((await self._call("ListBenchmarks", request, LOCAL.name)).benchmarks)

    def _ready(self) -> Any:
        if self._stub is None:
            raise Unavailable("the bridge is starting or about to stop")
        return self._stub

    async def _call(self, method: str, request: Any, principal: str, *, more_s: float = 0.0) -> Any:
        call = getattr(self._ready(), method)(request, timeout=_CALL_S + more_s, metadata=_metadata(principal))
        if more_s >= _CUT_FROM_S:
            self._enter(call)
        try:
            return await call
        except grpc.RpcError as error:
            raise _ours(error) from None
        except asyncio.CancelledError:
            await self._check_cancelled(call)
            raise
        finally:
            self._waiting.discard(call)

    async def _cuttable(self, call: Any) -> AsyncGenerator[pb.JobEvent]:
        """Yield what a call streams; it ends with us."""
        self._enter(call)
        try:
            async for event in call:
                yield event
        except grpc.RpcError as error:
            raise _ours(error) from None
        except asyncio.CancelledError:
            await self._check_cancelled(call)
            raise
        finally:
            self._waiting.discard(call)
            call.cancel()

    def _enter(self, call: Any) -> None:
        """Have `stop` end this call."""
        self._waiting.add(call)
        if self._stopping:
            call.cancel()

    async def _check_cancelled(self, call: Any) -> None:
        """Raise Stopping when it was `stop` that ended this call; when a scope cancelled who waits, in its own words.

        gRPC's own error for that no scope takes for its cancelling: it would go up to the end of the session.
        """
        task = asyncio.current_task()
        if self._stopping and call.cancelled() and (task is None or not task.cancelling()):
            raise Stopping("the bridge is about to stop; the job goes on") from None
        await anyio.lowlevel.checkpoint_if_cancelled()


def _ours(error: grpc.RpcError) -> LlmMcpError:
    """Return our error for a call that failed; of a core that is away without its address, and what gRPC says of it."""
    raised = ours(error)
    trailers: Any = error.trailing_metadata() or ()
    if type(raised) is not Unavailable or any(name == "error" for name, _ in trailers):
        return raised
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable("the core did not answer in time", retry_after_s=5.0)
    return Unavailable("the core does not answer: is it running? `llm-mcp up` starts it", retry_after_s=5.0)


def _metadata(principal: str) -> tuple[tuple[str, str], ...]:
    return () if principal == LOCAL.name else ((PRINCIPAL, principal),)


def _target(settings: Settings) -> str:
    """Return where the core is called: what listens on every address is called on loopback."""
    host, port = settings.grpc_host_port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound, called
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _read(certificate: Path) -> bytes:
    try:
        return certificate.read_bytes()
    except OSError as error:
        raise SetupError(f"LLM_MCP_CORE_CERTIFICATE: cannot read {certificate}: {error.strerror}") from None
