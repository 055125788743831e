"""Commands that serve: `up`, `web`, `worker`, and `migrate`, which must come before them."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from .options import DataDir, Dsn, Grpc, Http, door, settings

# By their import strings: a door does not import another.
_WEB = "llm_mcp.web.server:serve"
_RPC = "llm_mcp.web.rpc:serve"


def up(
    data_dir: DataDir = None,
    dsn: Dsn = None,
    http: Http = None,
    grpc: Grpc = None,
    rpc: Annotated[bool, typer.Option("--rpc/--no-rpc", help="Serve gRPC too.")] = True,
    mcp: Annotated[bool, typer.Option("--mcp/--no-mcp", help="Serve the MCP bridge too (MCP_HTTP_ADDR).")] = True,
    workers: Annotated[int | None, typer.Option(min=0, max=64, help="Worker processes; 0: none [default: 1].")] = None,
    model: Annotated[
        bool, typer.Option("--model/--no-model", help="Serve the embedded model when there is no Ollama.")
    ] = True,
) -> None:
    """Run everything in one; Ctrl-C drains.

    Postgres, a model, workers, the HTTP door, the gRPC door and the MCP bridge. Prints one line
    `ready http://HOST:PORT` on standard output once it serves.
    """
    from llm_mcp import logs
    from llm_mcp.supervisor import Supervisor

    chosen = settings(data_dir=data_dir, dsn=dsn, http=http, grpc=grpc)
    logs.configure(chosen)
    count = chosen.worker_processes if workers is None else workers
    supervisor = Supervisor(
        chosen, workers=count, model=model, rpc=rpc, mcp=mcp, say=lambda line: print(line, file=sys.stderr)
    )
    supervisor.run(on_ready=lambda url: print(f"ready {url}", flush=True))


def web(
    data_dir: DataDir = None,
    dsn: Dsn = None,
    http: Http = None,
    processes: Annotated[int | None, typer.Option(min=1, max=64, help="Serving processes [default: 2].")] = None,
    fd: Annotated[int | None, typer.Option(hidden=True, help="An inherited listening socket.")] = None,
) -> None:
    """Run the HTTP door alone.

    The database must be migrated. Prints one line `ready http://HOST:PORT` on standard output once it serves.
    """
    chosen = settings(data_dir=data_dir, dsn=dsn, http=http)
    count = chosen.web_processes if processes is None else processes
    door(_WEB)(chosen, processes=count, fd=fd)


def rpc(data_dir: DataDir = None, dsn: Dsn = None, grpc: Grpc = None) -> None:
    """Run the gRPC door alone.

    The database must be migrated. Prints one line `ready grpc://HOST:PORT` on standard output once it serves.
    """
    door(_RPC)(settings(data_dir=data_dir, dsn=dsn, grpc=grpc))


def worker(
    data_dir: DataDir = None,
    dsn: Dsn = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=512, help="Jobs each process runs at once [default: 8].")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Worker processes, kept alive [default: 1].")
    ] = None,
    owner: Annotated[int | None, typer.Option(hidden=True, help="The parent whose end is ours.")] = None,
) -> None:
    """Run workers until SIGTERM drains them; a second one hurries.

    Claims jobs and runs their actors. One line `ready worker ID` on standard output for each process that does; one
    that is started again has a new ID.
    """
    from llm_mcp import logs

    chosen = settings(data_dir=data_dir, dsn=dsn)
    logs.configure(chosen)
    count = chosen.worker_processes if processes is None else processes
    if count == 1:
        from llm_mcp import worker as workers

        workers.main(chosen, threads=threads, owner=owner)
    else:
        from llm_mcp.crew import Crew

        Crew(chosen, processes=count, threads=threads).run(on_ready=_tell_ready)


def _tell_ready(what: str) -> None:
    with contextlib.suppress(OSError):  # who read the first lines need not be there for the later ones
        print(f"ready {what}", flush=True)


def migrate(
    data_dir: DataDir = None,
    dsn: Dsn = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 when migrations are missing.")] = False,
) -> None:
    """Bring the database's schema up to this version."""
    from llm_mcp import schema
    from llm_mcp.runtime import Runtime

    runtime = Runtime(settings(data_dir=data_dir, dsn=dsn))
    if check:
        missing = schema.missing(runtime)
        for migration in missing:
            print(f"missing {migration.version:04} {migration.name}")
        print("the schema is up to date" if not missing else "run: llm-mcp migrate")
        raise typer.Exit(1 if missing else 0)
    done = schema.migrate(runtime, on_applied=lambda made: print(f"applied {made.version:04} {made.name}", flush=True))
    print("the schema is up to date" if not done else f"{len(done)} applied")
