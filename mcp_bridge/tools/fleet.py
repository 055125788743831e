"""The tools that tell what can be reached: models, the machines that serve them, and how fast they were."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from llm_mcp.rpc import llm_pb2 as pb

from ..door import Door
from ..principal import READ
from ..schema import BridgeTool, tool
from ..untrusted import line

Query = Annotated[str, Field(max_length=200, description="Part of a name")]
Sort = Annotated[Literal["", "chat", "embed"], Field(description="Only these")]
Limit = Annotated[int, Field(ge=1, le=200)]
Cursor = Annotated[str, Field(max_length=1000, description="next_cursor of the last answer")]
Name = Annotated[str, Field(max_length=300, description="Only this one")]


class ModelLine(BaseModel):
    """A model that can be named; on a machine of the user's, or in the cloud (device empty)."""

    name: str
    kind: Literal["chat", "embed"]
    provider: str
    device: str
    loaded: bool
    away: Annotated[bool, Field(description="Its machine does not answer just now")]
    capabilities: list[str]


class ModelLines(BaseModel):
    """Models by name."""

    models: list[ModelLine]
    next_cursor: Annotated[str, Field(description="Empty: these are all")]


class DeviceLine(BaseModel):
    """A machine."""

    device_id: str
    name: str
    platform: str
    arch: str
    status: str
    provider: str
    models: list[str]
    loaded: list[str]
    last_seen: str


class DeviceLines(BaseModel):
    """Machines."""

    devices: list[DeviceLine]


class BenchmarkLine(BaseModel):
    """How fast a model was on a machine."""

    model: str
    device: str
    task: str
    tokens_in: int
    tokens_out: int
    latency_ms: int
    tokens_per_s: float


class BenchmarkLines(BaseModel):
    """Measurements, newest first."""

    benchmarks: list[BenchmarkLine]


def tools(door: Door) -> list[BridgeTool]:
    """Return the tools."""

    async def llm_models(
        query: Query = "",
        kind: Sort = "",
        include_cloud: bool = False,
        limit: Limit = 50,
        cursor: Cursor = "",
    ) -> Annotated[CallToolResult, ModelLines]:
        after = _place(cursor)
        found = sorted((model_line(model) for model in await door.models()), key=_key)
        wanted = [
            one
            for one in found
            if query.lower() in one.name.lower()
            and (not kind or one.kind == kind)
            and (include_cloud or one.device)
            and _key(one) > after
        ]
        told = ModelLines(models=wanted[:limit], next_cursor=_cursor(wanted[limit - 1]) if wanted[limit:] else "")
        return _result(told, told.models, told.next_cursor)

    async def llm_devices(online_only: bool = True) -> Annotated[CallToolResult, DeviceLines]:
        found = [device_line(device) for device in await door.core().devices()]
        told = DeviceLines(devices=[one for one in found if not online_only or one.status == "online"])
        return _result(told, told.devices)

    async def llm_benchmarks(
        model: Name = "", device: Name = "", limit: Limit = 20
    ) -> Annotated[CallToolResult, BenchmarkLines]:
        found = await door.core().benchmarks(model=model, device=device, limit=limit)
        told = BenchmarkLines(benchmarks=[benchmark_line(one) for one in found])
        return _result(told, told.benchmarks)

    def reading(work: Any, title: str, description: str) -> BridgeTool:
        return tool(work, title=title, description=description, scope=READ, reads=True, repeats=True)

    return [
        reading(llm_models, "List models", "Models that can be named, on the user's machines and in the cloud."),
        reading(llm_devices, "List machines", "Machines that serve models, and what they have loaded."),
        reading(llm_benchmarks, "Measured speeds", "How fast models were on which machine, newest first."),
    ]


def model_line(model: pb.Model) -> ModelLine:
    """Return a model as it is told."""
    return ModelLine(
        name=line(model.name),
        kind="embed" if model.embeds else "chat",
        provider=line(model.provider),
        device=line(model.device_id),
        loaded=model.loaded,
        away=model.away,
        capabilities=[line(each) for each in model.capabilities],
    )


def device_line(device: pb.Device) -> DeviceLine:
    """Return a machine as it is told."""
    return DeviceLine(
        device_id=line(device.id),
        name=line(device.name),
        platform=line(device.platform),
        arch=line(device.arch),
        status=line(device.status),
        provider=line(device.provider),
        models=[line(each) for each in device.models],
        loaded=[line(each) for each in device.loaded],
        last_seen=device.last_seen,
    )


def benchmark_line(measured: pb.Benchmark) -> BenchmarkLine:
    """Return a measurement as it is told."""
    return BenchmarkLine(
        model=line(measured.model_id),
        device=line(measured.device_id),
        task=line(measured.task_type),
        tokens_in=measured.tokens_in,
        tokens_out=measured.tokens_out,
        latency_ms=measured.latency_ms,
        tokens_per_s=measured.tps,
    )


def _result(told: BaseModel, items: Sequence[BaseModel], next_cursor: str = "") -> CallToolResult:
    lines = [" ".join(_facts(item)) for item in items]
    rest = f"next_cursor={next_cursor}" if next_cursor else f"{len(lines)} in all"
    text = "\n".join([*lines, rest])
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=told.model_dump())


def _facts(item: BaseModel) -> Iterable[str]:
    """Yield what there is to say of an item; its first field needs no name."""
    for place, (name, value) in enumerate(item.model_dump().items()):
        if value in ("", False, []):
            continue
        words = ",".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)
        yield words if place == 0 else name if value is True else f"{name}={words}"


def _key(one: ModelLine) -> tuple[str, str, str]:
    return (one.name, one.device, one.provider)


def _cursor(one: ModelLine) -> str:
    return base64.urlsafe_b64encode("\n".join(_key(one)).encode()).decode()


def _place(cursor: str) -> tuple[str, ...]:
    """Return the place that a cursor of ours leads to. Raises ToolError."""
    if not cursor:
        return ()
    try:
        place = tuple(base64.b64decode(cursor, altchars=b"-_", validate=True).decode().split("\n"))
    except (binascii.Error, ValueError):
        place = ()
    if len(place) != 3:
        raise ToolError("cursor: is none of ours; leave it out to begin anew")
    return place
