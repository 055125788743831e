"""Which MCP clients are tried, what each is to show, and how a user points it at us."""

from __future__ import annotations

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
_ALL = ("tools", "chat", "job", "progress", "cancelled", "left", "errors", "resources", "prompts")
_COMMAND = "the command `llm-mcp mcp --stdio`"
_TOOLS = ("tools", "chat", "job", "cancelled", "errors")


def _client(
    name: str,
    label: str,
    script: str,
    pins: str,
    shown: tuple[str, ...],
    checks: tuple[str, ...],
    use: str,
    words: tuple[str, ...] = (),
) -> Client:
    return Client(name, label, script, pins, shown, checks, use, words, _ROOM)


def _python2(mode: str, way: str) -> Client:
    modern = mode == "auto"
    return _client(
        f"mcp2-{mode}-{way}",
        f"mcp 2 (Python), {mode}, {way}",
        "mcp2_py.py",
        "mcp2.txt",
        ("mcp",),
        ("era", *_ALL, "unknown", *(("task", "task_left") if modern else ())),
        f'`Client("{_URL}")`' if way == "http" else f"`Client(StdioServerParameters(…))`: {_COMMAND}",
        (mode, way),
    )


def _fastmcp(major: int, way: str) -> Client:
    return _client(
        f"fastmcp{major}-{way}",
        f"FastMCP {major}, {way}",
        "fastmcp_py.py",
        f"fastmcp{major}.txt",
        ("fastmcp", "mcp"),
        _ALL,
        f'`fastmcp.Client("{_URL}")`' if way == "http" else f"`fastmcp.Client({{…}})`: {_COMMAND}",
        (way,),
    )


_SDK = "TypeScript SDK 1"
CLIENTS = (
    *(
        _client(
            f"mcp1-{way}",
            f"mcp 1 (Python), {way}",
            "mcp1_py.py",
            "mcp1.txt",
            ("mcp",),
            _ALL,
            f'`streamablehttp_client("{_URL}")`' if way == "http" else f"`stdio_client(…)`: {_COMMAND}",
            (way,),
        )
        for way in ("http", "stdio")
    ),
    *(_python2(mode, way) for mode in ("auto", "legacy") for way in ("http", "stdio")),
    _fastmcp(2, "http"),
    _fastmcp(3, "http"),
    _fastmcp(4, "http"),
    _fastmcp(4, "stdio"),
    *(
        _client(
            f"sdk-{way}",
            f"{_SDK}, {way}",
            "sdk_npm.mjs",
            "sdk/package-lock.json",
            ("@modelcontextprotocol/sdk",),
            (*_ALL, "late"),
            f'`new StreamableHTTPClientTransport(new URL("{_URL}"))`'
            if way == "http"
            else f"`new StdioClientTransport({{…}})`: {_COMMAND}",
            (way,),
        )
        for way in ("http", "stdio")
    ),
    *(
        _client(
            f"client-{mode}-{way}",
            f"TypeScript client 2, {mode}, {way}",
            "client_npm.mjs",
            "client/package-lock.json",
            ("@modelcontextprotocol/client",),
            ("era", *_ALL, "late"),
            f'`new StreamableHTTPClientTransport(new URL("{_URL}"))`'
            if way == "http"
            else f"`new StdioClientTransport({{…}})`: {_COMMAND}",
            (mode, way),
        )
        for mode, way in (("default", "http"), ("auto", "http"), ("auto", "stdio"))
    ),
    *(
        _client(
            f"inspector-{era}-{way}",
            f"Inspector, {era}, {way}",
            "inspector_npm.mjs",
            "inspector/package-lock.json",
            ("@modelcontextprotocol/inspector",),
            (*_TOOLS, "strict", *(("task",) if era == "modern" else ()), "resources", "prompts"),
            f"`mcp-inspector --cli {_URL} --protocol-era {era} --method tools/list`"
            if way == "http"
            else "`mcp-inspector --cli llm-mcp mcp --stdio`",
            (era, way),
        )
        for era, way in (("legacy", "http"), ("modern", "http"), ("legacy", "stdio"))
    ),
    _client(
        "langchain",
        "LangChain adapters",
        "langchain_py.py",
        "langchain.txt",
        ("langchain-mcp-adapters", "mcp"),
        (*_TOOLS, "resources", "prompts"),
        f'`MultiServerMCPClient({{"llm": {{"transport": "http", "url": "{_URL}"}}}})`',
        ("http",),
    ),
    _client(
        "openai-agents",
        "OpenAI Agents SDK",
        "openai_agents_py.py",
        "openai_agents.txt",
        ("openai-agents", "mcp"),
        (*_TOOLS, "left", "agent", "resources", "prompts"),
        f'`MCPServerStreamableHttp({{"url": "{_URL}"}}, client_session_timeout_seconds=60)`: five seconds, its '
        "default, are too few for a chat",
        ("http",),
    ),
    _client(
        "pydantic-ai",
        "Pydantic AI",
        "pydantic_ai_py.py",
        "pydantic_ai.txt",
        ("pydantic-ai-slim", "mcp"),
        (*_TOOLS, "agent", "resources"),
        f'`Agent(…, toolsets=[MCPToolset("{_URL}")])`',
    ),
    _client(
        "llama-index",
        "LlamaIndex",
        "llama_index_py.py",
        "llama_index.txt",
        ("llama-index-tools-mcp", "mcp"),
        (*_TOOLS, "resources", "prompts"),
        f'`McpToolSpec(BasicMCPClient("{_URL}", timeout=60))`',
        ("http",),
    ),
    _client(
        "smolagents",
        "smolagents",
        "smolagents_py.py",
        "smolagents.txt",
        ("smolagents", "mcp"),
        _TOOLS,
        f'`MCPClient({{"url": "{_URL}", "transport": "streamable-http"}}, structured_output=True)`',
        ("http",),
    ),
    _client(
        "mcp-remote",
        "mcp-remote",
        "sdk_npm.mjs",
        "remote/package-lock.json",
        ("mcp-remote", "@modelcontextprotocol/sdk"),
        (*_ALL, "late"),
        f"`npx mcp-remote {_URL}` as the command of a client that knows only stdio",
        ("remote",),
    ),
    _client(
        "mcpo",
        "mcpo",
        "mcpo_py.py",
        "mcpo.txt",
        ("mcpo", "mcp", "fastapi"),
        _TOOLS,
        f'`mcpo --server-type streamable-http -- {_URL}`; it needs `"mcp<2"` and `"fastapi==0.115.*"` beside it',
    ),
)
