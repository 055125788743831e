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
    """Say what is missing, or about to go wrong, and how to mend it.

    A line each: how it stands (ok, warn, fail), what it is about, what was found, and after an arrow what to do. Exit
    code 1 when something is in the way of running jobs (fail).
    """
    from dataclasses import asdict

    from llm_mcp import logs
    from llm_mcp.doctor import Verdict, examine

    from .terminal import clean, out, print_json

    chosen = settings(data_dir=data_dir, dsn=dsn)
    logs.configure(quiet(chosen))
    styles = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
    found = []
    for finding in examine(chosen):
        found.append(finding)
        if not json:
            remedy = f" → {finding.remedy}" if finding.remedy else ""
            out.print(f"{finding.verdict:<4}", style=styles[finding.verdict], end=" ")
            out.print(clean(f"{finding.name}: {finding.what}{remedy}").replace("\n", " "))
    if json:
        print_json([asdict(finding) for finding in found])
    raise typer.Exit(1 if any(finding.verdict is Verdict.FAIL for finding in found) else 0)


def version() -> None:
    """Print the version."""
    from llm_mcp.config import installed_version

    print(installed_version())
