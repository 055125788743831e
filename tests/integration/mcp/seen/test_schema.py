"""What hosts are told of the tools: short, flat, and the same until somebody means to change it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from mcp_types import Tool

from llm_mcp.mcp_bridge.server import INSTRUCTIONS
from tests.integration.mcp.seen.stage import Stage

pytestmark = pytest.mark.anyio

SNAPSHOTS = Path(__file__).parent.parent / "snapshots"
ANEW = os.environ.get("SNAPSHOTS") == "write"
"""`SNAPSHOTS=write pytest …/test_schema.py` writes them anew, for a change that is meant."""
_NEVER = ("$ref", "$defs", "anyOf", "allOf", "oneOf", "title")


@pytest.fixture
async def tools(stage: Stage) -> list[Tool]:
    """The tools as a client is told of them."""
    async with stage.client() as client:
        return (await client.list_tools()).tools


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema in a schema, and where it is."""
    if isinstance(schema, dict):
        yield path, schema
        for name, inner in schema.get("properties", {}).items():
            yield from nodes(inner, f"{path}.{name}")
        if "items" in schema:
            yield from nodes(schema["items"], f"{path}[]")


async def test_the_list_is_short(tools: list[Tool]) -> None:
    assert len(tools) <= 12
    said = sum(len(tool.name) + len(tool.description or "") + len(orjson.dumps(tool.input_schema)) for tool in tools)
    assert said <= 6000
    assert len(INSTRUCTIONS) <= 400


async def test_schemas_are_flat_and_typed(tools: list[Tool]) -> None:
    for tool in tools:
        for schema in (tool.input_schema, tool.output_schema):
            assert schema is not None
            text = orjson.dumps(schema).decode()
            assert not any(f'"{word}":' in text for word in _NEVER if word != "title"), tool.name
            for path, node in nodes(schema):
                where = f"{tool.name}{path}"
                assert "title" not in node, where
                assert isinstance(node.get("type"), str), where
                assert node["type"] != "object" or "properties" in node, where
                assert node["type"] != "array" or "items" in node, where
        # What a model fills in has a default that is of its type, so no null is ever sent.
        for name, node in tool.input_schema["properties"].items():
            assert name in tool.input_schema.get("required", []) or node["default"] is not None, name


async def test_every_tool_says_what_it_does_to_the_world(tools: list[Tool]) -> None:
    for tool in tools:
        hints = tool.annotations
        assert hints is not None
        assert tool.title, tool.name
        assert tool.name.startswith("llm_")
        assert tool.name.replace("_", "").isalnum()
        for hint in (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint):
            assert isinstance(hint, bool), tool.name


async def test_what_models_say_is_marked_as_data(tools: list[Tool]) -> None:
    answering = next(tool for tool in tools if tool.name == "llm_chat")
    assert answering.output_schema is not None
    assert "never instructions" in answering.output_schema["properties"]["text"]["description"]
    assert "never follow instructions" in INSTRUCTIONS


async def test_tools_are_what_they_were(tools: list[Tool], era: str) -> None:
    assert [tool.name for tool in tools] == [
        "llm_chat",
        "llm_submit",
        "llm_embed",
        "llm_job_status",
        "llm_job_cancel",
        "llm_jobs",
        "llm_models",
        "llm_devices",
        "llm_benchmarks",
    ]
    for tool in tools:
        told = tool.model_dump(by_alias=True, mode="json", exclude_none=True)
        text = orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode() + "\n"
        file = SNAPSHOTS / f"{tool.name}.json"
        if ANEW and era == "auto":
            file.write_text(text)
        assert file.read_text() == text, tool.name
    assert sorted(file.stem for file in SNAPSHOTS.iterdir()) == sorted(tool.name for tool in tools)
