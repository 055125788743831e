"""Commands that show how things are: `demo`, `doctor`, `version`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DataDir, Dsn, Json, quiet, settings


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scratch folder, with its logs.")] = False,
) -> None:
    """See it work: a real model, a killed worker.

    Starts everything in a scratch folder, runs two jobs, kills the worker of the second one, and cleans up.
    """
    from .demo import run

    run(keep=keep)


def doctor(json: Json = False, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """Say what is missing and how to mend it.

    Exit code 1 when something is in the way of running jobs.
    """
    from dataclasses import asdict

    from llm_mcp import logs
    from llm_mcp.doctor import Verdict, examine

    from .terminal import clean, out, print_json

    chosen = settings(data_dir=data_dir, dsn=dsn)
    logs.configure(quiet(chosen))
    marks = {Verdict.OK: ("✓", "green"), Verdict.WARN: ("!", "yellow"), Verdict.BAD: ("✗", "red")}
    found = []
    for finding in examine(chosen):
        found.append(finding)
        if not json:
            mark, style = marks[finding.verdict]
            out.print(mark, style=style, end=" ")
            out.print(clean(finding.what))
            if finding.remedy:
                out.print(f"  → {clean(finding.remedy)}")
    if json:
        print_json([asdict(finding) for finding in found])
    raise typer.Exit(1 if any(finding.verdict is Verdict.BAD for finding in found) else 0)


def version() -> None:
    """Print the version."""
    from llm_mcp.config import installed_version

    print(installed_version())
