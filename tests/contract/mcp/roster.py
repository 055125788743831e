"""Which MCP clients are tried, what each is to show, and how a user points it at us."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.contract.clients.roster import Client

CHECKS = {
    "era": "the version of the protocol that it is to speak",
    "tools": "the tools, and what they take",
    "strict": "its strict reading of the tools complains of nothing",
    "chat": "`llm_chat`: the words of a real model",
    "job": "`llm_submit`, then `llm_job_status` until it is done",
    "task": "an answer that is a task, asked after until it is completed",
    "progress": "how far a long answer is, while it is made",
    "cancelled": "`llm_job_cancel` ends a job",
    "left": "a caller that gives up, or goes: its job is cancelled",
    "late": "a caller whose own time is over: its job is cancelled",
    "task_left": "a task whose caller gives up is cancelled",
    "errors": "a model that is not there, and a wrong argument: errors that a model can read",
    "unknown": "a tool that is not there: an error of the protocol",
    "agent": "an agent is offered the tools, in its own strict form where it has one, and calls one",
    "resources": "the models and a job's result as resources",
    "prompts": "a prompt, filled in",
}
"""What may be checked, in the words of the page."""

_ROOM = Path(__file__).parent
_URL = "http://127.0.0.1:3333/mcp"
_COMMAND = "`llm-mcp mcp --stdio`"
_TOOLS = ("tools", "chat", "job", "cancelled", "errors")
_READ = ("resources", "prompts")
_ALL = (*_TOOLS, "progress", "left", *_READ)
_WAYS = ("http", "stdio")


def _client(
    name: str,
    label: str,
    script: str,
    shown: str | tuple[str, ...],
    checks: tuple[str, ...],
    use: str,
    *words: str,
    pins: str,
) -> Client:
    packages = (shown,) if isinstance(shown, str) else shown
    return Client(
        "-".join((name, *words)), ", ".join((label, *words)), script, pins, packages, checks, use, words, _ROOM
    )


def _by(way: str, http: str, stdio: str) -> str:
    """Return how a user points it at us: by the bridge's address, or by the command that starts it."""
    if way == "http":
        return f"`{http}`"
    return f"`{stdio}`" if "llm-mcp" in stdio else f"`{stdio}`, with {_COMMAND}"


def _python(way: str) -> Iterator[Client]:
    """Yield the clients that come from the Python package index."""
    use = _by(way, f'streamablehttp_client("{_URL}")', "stdio_client(StdioServerParameters(…))")
    yield _client("mcp1", "mcp 1 (Python)", "mcp1_py.py", "mcp", _ALL, use, way, pins="mcp1.txt")
    use = _by(way, f'Client("{_URL}")', "Client(StdioServerParameters(…))")
    checks = ("era", *_ALL, "unknown")
    tasks = (*checks, "task", "task_left")
    yield _client("mcp2", "mcp 2 (Python)", "mcp2_py.py", "mcp", tasks, use, "auto", way, pins="mcp2.txt")
    yield _client("mcp2", "mcp 2 (Python)", "mcp2_py.py", "mcp", checks, use, "legacy", way, pins="mcp2.txt")
    use = _by(way, f'fastmcp.Client("{_URL}")', 'fastmcp.Client({"mcpServers": {"llm": …}})')
    for major in (2, 3, 4):
        label, shown, pins = f"FastMCP {major}", ("fastmcp", "mcp"), f"fastmcp{major}.txt"
        yield _client(f"fastmcp{major}", label, "fastmcp_py.py", shown, _ALL, use, way, pins=pins)


def _npm(way: str) -> Iterator[Client]:
    """Yield the clients that come from npm."""
    use = _by(way, f'new StreamableHTTPClientTransport(new URL("{_URL}"))', "new StdioClientTransport({…})")
    shown, pins = "@modelcontextprotocol/sdk", "sdk/package-lock.json"
    yield _client("sdk", "TypeScript SDK 1", "sdk_npm.mjs", shown, (*_ALL, "late"), use, way, pins=pins)
    shown, pins = "@modelcontextprotocol/client", "client/package-lock.json"
    checks: tuple[str, ...] = ("era", *_ALL, "late")
    yield _client("client", "TypeScript client 2", "client_npm.mjs", shown, checks, use, "default", way, pins=pins)
    auto = f'{use}, given to `new Client(…, {{ versionNegotiation: {{ mode: "auto" }} }})`'
    yield _client("client", "TypeScript client 2", "client_npm.mjs", shown, checks, auto, "auto", way, pins=pins)
    use = _by(
        way,
        f"mcp-inspector --cli {_URL} --method tools/list",
        "mcp-inspector --cli llm-mcp mcp --stdio --method tools/list",
    )
    shown, pins = "@modelcontextprotocol/inspector", "inspector/package-lock.json"
    checks = (*_TOOLS, "strict", *_READ)
    yield _client("inspector", "Inspector", "inspector_npm.mjs", shown, checks, use, "legacy", way, pins=pins)
    checks = (*checks, "task") if way == "http" else checks
    use = use.replace("--method", "--protocol-era modern --method")
    yield _client("inspector", "Inspector", "inspector_npm.mjs", shown, checks, use, "modern", way, pins=pins)


def _frameworks(way: str) -> Iterator[Client]:
    """Yield the frameworks whose agents are given our tools."""
    shown: tuple[str, ...] = ("langchain-mcp-adapters", "mcp")
    use = _by(
        way, f'MultiServerMCPClient({{"llm": {{"transport": "http", "url": "{_URL}"}}}})', "MultiServerMCPClient(…)"
    )
    yield _client(
        "langchain", "LangChain adapters", "langchain_py.py", shown, (*_TOOLS, *_READ), use, way, pins="langchain.txt"
    )
    shown = ("openai-agents", "mcp")
    long = "client_session_timeout_seconds=60"
    use = _by(way, f'MCPServerStreamableHttp({{"url": "{_URL}"}}, {long})', f"MCPServerStdio({{…}}, {long})")
    yield _client(
        "openai-agents",
        "OpenAI Agents SDK",
        "openai_agents_py.py",
        shown,
        (*_TOOLS, "left", "agent", *_READ),
        f"{use}; five seconds, its default, are too few for a chat",
        way,
        pins="openai_agents.txt",
    )
    shown = ("llama-index-tools-mcp", "mcp")
    use = _by(way, f'McpToolSpec(BasicMCPClient("{_URL}", timeout=60))', "McpToolSpec(BasicMCPClient(…))")
    checks = (*_TOOLS, *_READ)
    yield _client("llama-index", "LlamaIndex", "llama_index_py.py", shown, checks, use, way, pins="llama_index.txt")
    shown = ("smolagents", "mcp")
    use = _by(
        way,
        f'MCPClient({{"url": "{_URL}", "transport": "streamable-http"}}, structured_output=True)',
        "MCPClient(StdioServerParameters(…), structured_output=True)",
    )
    use += '; it needs `"mcp<2"` beside it'
    yield _client("smolagents", "smolagents", "smolagents_py.py", shown, _TOOLS, use, way, pins="smolagents.txt")


def _bridges() -> Iterator[Client]:
    """Yield what stands between us and clients of other sorts."""
    yield Client(
        "mcp-remote",
        "mcp-remote",
        "sdk_npm.mjs",
        "remote/package-lock.json",
        ("mcp-remote", "@modelcontextprotocol/sdk"),
        (*_ALL, "late"),
        f"`npx mcp-remote {_URL}` as the command of a client that knows only stdio",
        ("remote",),
        _ROOM,
    )
    shown = ("mcpo", "mcp", "fastapi")
    for way in _WAYS:
        use = f"`mcpo --server-type streamable-http -- {_URL}`" if way == "http" else "`mcpo -- llm-mcp mcp --stdio`"
        use += '; it needs `"mcp<2"` and `"fastapi==0.115.*"` beside it'
        yield _client("mcpo", "mcpo", "mcpo_py.py", shown, _TOOLS, use, way, pins="mcpo.txt")


def _both_ways(kind: Callable[[str], Iterator[Client]]) -> Iterator[Client]:
    """Yield these clients, each by HTTP and then by stdio."""
    http, stdio = (kind(way) for way in _WAYS)
    for one, other in zip(http, stdio, strict=True):
        yield from (one, other)


CLIENTS = (
    *_both_ways(_python),
    *_both_ways(_npm),
    *_both_ways(_frameworks),
    _client(
        "pydantic-ai",
        "Pydantic AI",
        "pydantic_ai_py.py",
        ("pydantic-ai-slim", "mcp"),
        (*_TOOLS, "agent", "resources"),
        f'`Agent(…, toolsets=[MCPToolset("{_URL}")])`',
        pins="pydantic_ai.txt",
    ),
    *_bridges(),
)
