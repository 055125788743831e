"""The command line: `llm-mcp`. A door too; it starts the other doors by import string.

Commands load what they need when they are called, so that `--help` stays quick.
"""

from __future__ import annotations

import logging
import sys

import typer

from . import bench, diagnose, jobs, limits, mcp, queues, run, schedules, serve

app = typer.Typer(
    name="llm-mcp",
    help="One door to every language model you can reach: durable, leased, streamed jobs over Postgres.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(diagnose.demo)
app.command("up")(serve.up)
app.command("run")(run.run)
app.add_typer(jobs.app, name="jobs")
app.add_typer(schedules.app, name="schedules")
app.add_typer(limits.app, name="limits")
app.add_typer(queues.app, name="queues")
app.add_typer(bench.app, name="bench")
app.command("doctor")(diagnose.doctor)
app.command("web")(serve.web)
app.command("rpc")(serve.rpc)
app.add_typer(mcp.app, name="mcp")
app.command("worker")(serve.worker)
app.command("migrate")(serve.migrate)
app.command("version")(diagnose.version)


def main() -> None:
    """Run a command. What we refuse is one line on stderr and exit code 1; Ctrl-C is 130."""
    from llm_mcp.errors import InvalidInput, LlmMcpError

    try:
        app()
    except InvalidInput as error:
        where = f"{error.field}: " if error.field else ""
        sys.exit(f"llm-mcp: {where}{error}")
    except LlmMcpError as error:
        sys.exit(f"llm-mcp: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `llm-mcp jobs list | head`
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        if logging.getLogger().isEnabledFor(logging.DEBUG):
            raise
        sys.exit(f"llm-mcp: {type(error).__name__}: {error} (LLM_MCP_LOG_LEVEL=DEBUG says where)")
