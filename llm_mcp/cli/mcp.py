"""The command `mcp`: the bridge for language models, and its tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Grpc, door, settings

app = typer.Typer(help="Serve models to language models (MCP), over HTTP or standard input and output.")

# By its import strings: a door does not import another.
_SERVE = "llm_mcp.mcp_bridge.serving:serve"
_SERVE_STDIO = "llm_mcp.mcp_bridge.serving:serve_stdio"
_NEW = "llm_mcp.mcp_bridge.tokens:new"


@app.callback(invoke_without_command=True)
def mcp(
    context: typer.Context,
    stdio: Annotated[bool, typer.Option("--stdio", help="Serve the client that started this command.")] = False,
    http: Annotated[
        str | None,
        typer.Option("--http", help="HOST:PORT to serve HTTP on (MCP_HTTP_ADDR) [default: 127.0.0.1:3333]."),
    ] = None,
    grpc: Grpc = None,
    fd: Annotated[int | None, typer.Option(hidden=True, help="An inherited listening socket.")] = None,
) -> None:
    """Run the MCP bridge: over HTTP, at http://HOST:PORT/mcp, or with --stdio.

    It asks the core at CORE_GRPC_ADDR. Over HTTP one line `ready mcp http://HOST:PORT` on standard output says that it
    serves. Beyond loopback callers need tokens: `llm-mcp mcp token` makes one.
    """
    if context.invoked_subcommand is not None:
        return
    if stdio and http is not None:
        raise typer.BadParameter("--stdio and --http exclude each other")
    chosen = settings(grpc=grpc, mcp=http)
    if stdio:
        door(_SERVE_STDIO)(chosen)
    else:
        door(_SERVE)(chosen, fd=fd)


@app.command("token")
def token(
    name: Annotated[str, typer.Argument(help="Whom it stands for: that one sees the jobs it submits.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help="llm:read, llm:submit, llm:cloud or llm:admin; again for more [default: read, submit]."
        ),
    ] = None,
) -> None:
    """Make a token for a caller of the bridge: shown now and never again.

    The second line goes into the file that LLM_MCP_TOKENS names; the bridge reads it again when it changes.
    """
    made, line = door(_NEW)(name, scope or ["llm:read", "llm:submit"])
    print(f"token: {made}\nline for the file of tokens (LLM_MCP_TOKENS):\n{line}")
