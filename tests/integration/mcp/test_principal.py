"""On whose behalf a tool runs: that of the request that called it, in both eras of the protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from llm_mcp import config
from llm_mcp.mcp_bridge.app import create_app
from llm_mcp.mcp_bridge.core import Core
from llm_mcp.mcp_bridge.principal import current
from llm_mcp.mcp_bridge.tokens import new
from tests.integration.mcp.served import Place, Told, in_thread

_BOTH = "application/json, text/event-stream"
_NEWEST = "2026-07-28"
_WHO = {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "who", "arguments": {}}}
_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
}


def _named() -> str:
    """Return on whose behalf this runs, and what that one may do."""
    asked = current()
    return f"{asked.name} {','.join(sorted(asked.scopes))}"


def _who(ctx: Context[Any, Any]) -> str:
    """Say on whose behalf this runs, unless the token came all the way."""
    return "a token" if "authorization" in (ctx.headers or {}) else _named()


def _text(told: Told) -> str:
    """Return what a tool said: of an answer, or of the one in a stream."""
    assert told.status == 200, told
    lines = told.body.decode().splitlines()
    body = next((line.removeprefix("data: ") for line in lines if line.startswith("data: {")), told.body)
    return str(json.loads(body)["result"]["content"][0]["text"])


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    """The header values of two callers whose tokens are in `tokens`."""
    made = {}
    with (tmp_path / "tokens").open("w") as file:
        for name, scope in (("ann", "llm:read"), ("bob", "llm:admin")):
            token, line = new(name, [scope])
            file.write(line + "\n")
            made[name] = f"Bearer {token}"
    return made


@pytest.fixture
def place(tokens: dict[str, str], tmp_path: Path) -> Iterator[Place]:
    """A server with a tool that says who asks; its core is away."""
    settings = config.load(mcp_tokens=tmp_path / "tokens", grpc_addr="127.0.0.1:1", data_dir=tmp_path)
    server = MCPServer("who")
    server.add_tool(_who, name="who", structured_output=False)
    with in_thread(create_app(settings, core=Core(settings), server=server)) as place:
        yield place


def _by_turns(ask: Callable[[str, int], Told]) -> list[str]:
    """Have both ask five times each, by an id of its own, all at once, and return what they were told."""
    with ThreadPoolExecutor(10) as pool:
        return [_text(told) for told in pool.map(ask, ("ann", "bob") * 5, range(10))]


def test_it_is_the_requests_in_a_session(place: Place, tokens: dict[str, str]) -> None:
    said: dict[str, dict[str, str]] = {}
    for name, token in tokens.items():
        opened = place.ask("POST", "/mcp", _INITIALIZE, Authorization=token, Accept=_BOTH)
        said[name] = {"Authorization": token, "Accept": _BOTH, "Mcp_Session_Id": opened.headers["mcp-session-id"]}
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert place.ask("POST", "/mcp", ready, **said[name]).status == 202
    told = _by_turns(lambda name, number: place.ask("POST", "/mcp", {**_WHO, "id": number}, **said[name]))
    assert told == ["ann llm:read", "bob llm:admin"] * 5


def test_it_is_the_requests_without_sessions(place: Place, tokens: dict[str, str]) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": _NEWEST,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "0"},
    }
    call = {**_WHO, "params": {"name": "who", "arguments": {}, "_meta": meta}}
    head = {"Accept": _BOTH, "Mcp_Protocol_Version": _NEWEST, "Mcp_Method": "tools/call", "Mcp_Name": "who"}
    told = _by_turns(
        lambda name, number: place.ask("POST", "/mcp", {**call, "id": number}, Authorization=tokens[name], **head)
    )
    assert told == ["ann llm:read", "bob llm:admin"] * 5


def test_without_tokens_it_is_the_user_of_this_machine() -> None:
    assert _named() == "local llm:admin,llm:cloud,llm:read,llm:submit"
