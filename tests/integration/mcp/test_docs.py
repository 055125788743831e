"""What docs/mcp.md says of tools, scopes, resources and settings is what there is, and its examples can be read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from llm_mcp import config
from llm_mcp.config import Settings
from llm_mcp.mcp_bridge.aliases import ALIASES
from llm_mcp.mcp_bridge.core import Core
from llm_mcp.mcp_bridge.passing import _PATHS
from llm_mcp.mcp_bridge.principal import SCOPES
from llm_mcp.mcp_bridge.server import create_server

PAGE = (Path(__file__).parents[3] / "docs" / "mcp.md").read_text()
_ENTRY = re.compile(r"^\| `([a-z_]+)` \| .* \| (\d+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything the server lists, as it travels; of tools what a host's model is shown."""
    settings = config.load(data_dir=tmp_path_factory.mktemp("docs"))

    async def listed() -> dict[str, Any]:
        async with Core(settings) as core, Client(create_server(lambda: core, settings)) as client:
            tools = (await client.list_tools()).tools
            return {
                "tools": [tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in tools],
                "resources": [str(one.uri) for one in (await client.list_resources()).resources],
                "templates": [one.uri_template for one in (await client.list_resource_templates()).resource_templates],
                "prompts": [one.name for one in (await client.list_prompts()).prompts],
            }

    return anyio.run(listed)


def size(tool: dict[str, Any]) -> int:
    """Return what a tool takes of a host's context, bytes."""
    told = {name: tool[name] for name in ("name", "description", "inputSchema")}
    return len(json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode())


def test_the_table_has_every_tool_and_what_it_costs(shown: dict[str, Any]) -> None:
    assert dict(_ENTRY.findall(PAGE)) == {tool["name"]: str(size(tool)) for tool in shown["tools"]}
    whole = sum(map(size, shown["tools"]))
    assert f"{whole / 1000:.1f} kB" in PAGE
    assert whole <= 6000
    assert all(f"`{old}` is `{new}`" in PAGE for old, new in ALIASES.items())
    [chat] = [tool for tool in shown["tools"] if tool["name"] == "llm_chat"]
    assert f"`{' '.join(chat['outputSchema']['properties'])}`" in PAGE


def test_resources_and_prompts_are_named(shown: dict[str, Any]) -> None:
    for name in (*shown["resources"], *shown["templates"], *shown["prompts"]):
        assert f"`{name}`" in PAGE, name


def test_scopes_and_paths_are_those_there_are() -> None:
    assert set(re.findall(r"^\| `(llm:[a-z]+)` \|", PAGE, re.MULTILINE)) == SCOPES
    assert all(f"`{path}`" in PAGE for path, *_ in _PATHS)


def test_settings_are_ours_and_their_defaults_true() -> None:
    known = {
        str(name)
        for field in Settings.model_fields.values()
        for name in getattr(field.validation_alias, "choices", [field.validation_alias])
    }
    named = set(re.findall(r"\b(?:LLM_MCP|MCP|CORE)_[A-Z_]+\b", PAGE)) - {"LLM_MCP_AUTH"}  # a host's own
    assert named <= known
    made = Settings.model_fields
    assert f"`LLM_MCP_MAX_WAIT_S`, {made['mcp_max_wait_s'].default:g} s" in PAGE
    assert f"`LLM_MCP_ABANDON_GRACE_S` ({made['mcp_abandon_grace_s'].default:g} s)" in PAGE
    assert made["mcp_addr"].default in PAGE


def test_what_hosts_are_given_is_json_and_names_our_command() -> None:
    found = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    assert len(found) == 4
    for entry in (one for block in found for servers in block.values() for one in servers.values()):
        ours = entry.get("url", "") or " ".join([entry["command"], *entry["args"]])
        assert "http://127.0.0.1:3333/mcp" in ours or ours == "llm-mcp mcp --stdio"
