"""The plain paths: submit a job, read it, watch it, for clients that speak neither MCP nor gRPC."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llm_mcp import strictjson
from llm_mcp.errors import InvalidInput, LlmMcpError
from llm_mcp.events import Cursor
from llm_mcp.rpc import llm_pb2 as pb

from .core import Core
from .door import answers_here
from .principal import CLOUD, READ, SUBMIT, current
from .replies import answer, of_error, require
from .telling import Telling

Handler = Callable[[Request], Awaitable[Response]]

_ECHO, _CHAT = "echo", "chat"
_AUTO = "auto"
_CLOUD_KINDS = ("openai.", "openrouter.")
# What a submission says of its job; without a kind all else is what is asked of the model.
_OF_THE_JOB = frozenset({"kind", "payload", "model", "device", "priority", "source", "max_attempts", "deadline_at"})
_INT4 = 2**31
_MAX_KEY_CHARS = 255


def routes(core: Core, *, limit_bytes: int) -> list[Route]:
    """Return the paths. Parameters: `core`, which answers; `limit_bytes`, the largest body, bytes."""
    paths = _Paths(core, limit_bytes)
    return [
        Route("/health", health),
        Route("/healthz", health),
        Route("/submit", answering(paths.submit), methods=["POST"]),
        Route("/jobs/{job_id}", answering(paths.job)),
        Route("/jobs/{job_id}/stream", answering(paths.stream)),
    ]


def answering(handler: Handler) -> Handler:
    """Have what a handler raises answered in our way."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except LlmMcpError as error:
            return of_error(error)

    return answered


async def health(_request: Request) -> Response:
    """Say that this process serves; whether the core does is said where it is asked."""
    return answer({"status": "ok"})


class _Paths:
    """Parameters: `core`, which answers; `limit_bytes`, the largest body, bytes."""

    def __init__(self, core: Core, limit_bytes: int) -> None:
        self._core = core
        self._limit_bytes = limit_bytes

    async def submit(self, request: Request) -> Response:
        """Accept a job: 202 with its id. Without a kind, `{model, prompt, …}` asks a model."""
        require(SUBMIT)
        body = strictjson.loads(await request.body(), limit_bytes=self._limit_bytes)
        if not isinstance(body, dict):
            raise InvalidInput("must be an object", code="invalid_json")
        kind, model, payload = await self._asked(body)
        job, _ = await self._core.submit(
            kind,
            payload,
            model=model,
            principal=current().name,
            priority=_integer(body, "priority"),
            source=_text(body, "source", "mcp"),
            max_attempts=_integer(body, "max_attempts"),
            deadline_at=_text(body, "deadline_at", ""),
            idempotency_key=_key(request.headers.get("idempotency-key")),
            local_only=CLOUD not in current().scopes,
        )
        return answer({"job_id": job.id}, 202, {"location": f"/jobs/{job.id}"})

    async def job(self, request: Request) -> Response:
        """Return a job with all its fields; payload and result are texts, "" where there is none."""
        require(READ)
        job, _ = await self._core.job(request.path_params["job_id"], principal=current().name)
        return answer(job_object(job))

    async def stream(self, request: Request) -> Response:
        """Return a job's life as server-sent events."""
        require(READ)
        after = request.headers.get("last-event-id", "")
        if after:
            after = str(Cursor.parse(after))
        return Telling(self._core.events(request.path_params["job_id"], principal=current().name, after=after))

    async def _asked(self, body: Mapping[str, Any]) -> tuple[str, str, Any]:
        """Return kind, model and payload of a submission; no model where the kind says who answers.

        Raises InvalidInput, ScopeMissing.
        """
        kind, model, device = _text(body, "kind", ""), _text(body, "model", ""), _text(body, "device", "")
        if kind or "payload" in body or not ("prompt" in body or "messages" in body):
            kind = kind or _ECHO
            if kind.startswith(_CLOUD_KINDS):
                require(CLOUD)
            return kind, "", body.get("payload", {})
        payload = {name: value for name, value in body.items() if name not in _OF_THE_JOB}
        if device:
            payload |= {"device_id": await self._device(device), **({"model": model} if model != _AUTO else {})}
            return "ollama.chat", "", {name: value for name, value in payload.items() if value != ""}
        if CLOUD not in current().scopes and not await self._stays_here(model or _AUTO):
            require(CLOUD)
        return _CHAT, model or _AUTO, payload

    async def _device(self, wanted: str) -> str:
        """Return the id of the device of this id or name. Raises InvalidInput when none serves models."""
        serving = [device for device in await self._core.devices() if device.provider]
        for device in serving:
            if wanted in (device.id, device.name):
                return str(device.id)
        known = ", ".join(device.id for device in serving[:10]) or "none"
        raise InvalidInput(f"no such device; there are: {known}", field="device")

    async def _stays_here(self, model: str) -> bool:
        """Say whether a machine of ours has the model, or any that talks when it is ours to choose."""
        return any(answers_here(offer, model, _CHAT) for offer in await self._core.models())


def job_object(job: pb.Job) -> dict[str, Any]:
    """Return a job with all fields of the message, by their names there."""
    return MessageToDict(job, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _text(body: Mapping[str, Any], name: str, default: str) -> str:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise InvalidInput("must be text", field=name)
    return value


def _integer(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not -_INT4 <= value < _INT4:
        raise InvalidInput("must be an integer of 32 bits", field=name)
    return value


def _key(key: str | None) -> str:
    if key is None:
        return ""
    if not (1 <= len(key) <= _MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        raise InvalidInput(f"must be 1 to {_MAX_KEY_CHARS} printable ASCII characters", field="Idempotency-Key")
    return key
