"""`llm-mcp limits`: how much of a kind may run, everywhere together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .options import DataDir, Dsn, Json, service

if TYPE_CHECKING:
    from pathlib import Path

    from llm_mcp import Limit, Limits

app = typer.Typer(
    help="List, set and remove limits: how many jobs of a kind run at once, and how many begin in a time.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="KIND", help="The kind, such as ollama.generate.")]


@app.command("list")
def list_limits(json: Json = False, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """List limits, by kind, and how many jobs of each run now."""
    from rich.table import Table
    from rich.text import Text

    from .terminal import clean, err, out, print_json

    found = _limits(data_dir, dsn).every()
    if json:
        print_json([_facts(one) for one in found])
        return
    if not found:
        err.print("no limits")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kind", "running", "at once", "rate", "burst"):
        table.add_column(heading, no_wrap=True)
    for one in found:
        at_once = "any" if one.max_running is None else str(one.max_running)
        burst = "" if one.rate is None else str(one.burst)
        table.add_row(Text(clean(one.kind)), str(one.running), at_once, _rate(one) or "any", burst)
    out.print(table)


@app.command("set")
def set_limit(
    kind: Name,
    running: Annotated[
        str | None, typer.Option(metavar="N", help="Jobs at once; 0: none begins; any: no limit.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="N/s", help="Jobs that begin in a time: N/s, N/m, N/h, N/d; any: no limit.")
    ] = None,
    burst: Annotated[int | None, typer.Option(help="How many of them may begin at once after a quiet time.")] = None,
    data_dir: DataDir = None,
    dsn: Dsn = None,
) -> None:
    """Limit a kind, for all workers together, from the next claim on. What is not given stays as it is."""
    from llm_mcp.errors import InvalidInput

    from .terminal import out

    at_once: int | Literal["any"] | None = None
    if running == "any":
        at_once = "any"
    elif running is not None:
        if not (running.isascii() and running.isdigit()):
            raise InvalidInput(f"must be a number or 'any', not {running!r}", field="--running")
        at_once = int(running)
    limits = _limits(data_dir, dsn)
    try:
        made = limits.set(kind, max_running=at_once, rate=rate, burst=burst)
    except InvalidInput as error:
        error.field = {"max_running": "--running", "rate": "--rate", "burst": "--burst"}.get(error.field, error.field)
        raise
    out.print(_told(made))


@app.command()
def remove(kind: Name, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """Remove a limit. One that code declares is back when the next worker starts: set it to "any" instead."""
    from .terminal import clean, out

    _limits(data_dir, dsn).remove(kind)
    out.print(f"{clean(kind)} has no limit any more")


def _limits(data_dir: Path | None, dsn: str | None) -> Limits:
    from llm_mcp.limits import Limits

    return Limits(service(data_dir=data_dir, dsn=dsn).runtime)


def _rate(one: Limit) -> str | None:
    if one.rate is None or one.per_s is None:
        return None
    unit = {1: "s", 60: "m", 3600: "h", 86400: "d"}.get(int(one.per_s), f"{one.per_s:g}s")
    return f"{one.rate}/{unit}"


def _told(one: Limit) -> str:
    from .terminal import clean

    words = [] if one.max_running is None else [f"{one.max_running} at once"]
    if rate := _rate(one):
        words.append(f"{rate} with bursts of {one.burst}")
    return f"{clean(one.kind)}: {', '.join(words) or 'no limit'}"


def _facts(one: Limit) -> dict[str, Any]:
    from dataclasses import asdict
    from datetime import UTC

    return {**asdict(one), "updated_at": one.updated_at.astimezone(UTC).isoformat()}
