"""`llm-mcp schedules`: jobs that a clock submits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import DataDir, Dsn, Json, service

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from llm_mcp import Schedule, Schedules

app = typer.Typer(
    help="List, add, remove, pause, resume and run schedules.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
_MAX_PAYLOAD_BYTES = 64 * 2**20


@app.command("list")
def list_schedules(json: Json = False, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """List schedules, by name. Times are UTC."""
    from rich.table import Table
    from rich.text import Text

    from .terminal import clean, err, out, print_json

    found = _schedules(data_dir, dsn).every()
    if json:
        print_json([_facts(one) for one in found])
        return
    if not found:
        err.print("no schedules")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "kind", "cron", "timezone", "next", "last", "state"):
        table.add_column(heading, no_wrap=heading != "state", overflow="ellipsis")
    for one in found:
        table.add_row(
            *(Text(clean(text)) for text in (one.name, one.kind, one.cron, one.timezone)),
            "" if one.paused_at else _moment(one.next_at),
            _moment(one.last_at),
            _state(one),
        )
    out.print(table)


@app.command()
def add(
    name: Name,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="The kind of its jobs, such as ollama.generate.")],
    cron: Annotated[
        str,
        typer.Argument(
            metavar="CRON",
            help='In quotes: minute, hour, day of month, month, day of week, such as "0 7 * * MON-FRI"; '
            "six fields begin with the second.",
        ),
    ],
    timezone: Annotated[str, typer.Option("--timezone", "-z", help="The zone of its clock (IANA name).")] = "UTC",
    payload: Annotated[str, typer.Option(help="JSON: the payload of its jobs.")] = "{}",
    priority: Annotated[int, typer.Option(help="Higher goes first.")] = 0,
    max_attempts: Annotated[int, typer.Option(help="Tries of each job at most; 0: what the kind says.")] = 0,
    data_dir: DataDir = None,
    dsn: Dsn = None,
) -> None:
    """Add a schedule, or change the one of that name. The same again changes nothing."""
    from llm_mcp import strictjson
    from llm_mcp.schedules import Definition

    from .terminal import clean, out

    definition = Definition(
        name=name,
        kind=kind,
        cron=cron,
        timezone=timezone,
        payload=strictjson.loads(payload, limit_bytes=_MAX_PAYLOAD_BYTES, root="payload"),
        priority=priority,
        max_attempts=max_attempts,
    )
    schedules = _schedules(data_dir, dsn)
    outcome = schedules.put(definition)
    made = schedules.get(name)
    out.print(f"{clean(name)} {outcome}, {_state(made) if made.paused_at else f'next {_moment(made.next_at)}'}")


@app.command()
def remove(name: Name, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """Remove a schedule; its jobs stay. One that code declares is back when the next worker starts: pause that."""
    from .terminal import clean, out

    _schedules(data_dir, dsn).remove(name)
    out.print(f"{clean(name)} removed")


@app.command()
def pause(name: Name, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """Have a schedule submit nothing until it is resumed."""
    from .terminal import clean, out

    out.print(f"{clean(name)} {_state(_schedules(data_dir, dsn).pause(name))}")


@app.command()
def resume(name: Name, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """Have a paused schedule go on with its next tick; what it missed stays missed."""
    from .terminal import clean, out

    out.print(f"{clean(name)} next {_moment(_schedules(data_dir, dsn).resume(name).next_at)}")


@app.command()
def run(name: Name, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """Submit a job of a schedule now and print its id; its next tick stays."""
    from .terminal import out

    out.print(str(_schedules(data_dir, dsn).run(name)))


def _schedules(data_dir: Path | None, dsn: str | None) -> Schedules:
    from llm_mcp.schedules import Schedules

    return Schedules(service(data_dir=data_dir, dsn=dsn).runtime)


def _moment(at: datetime | None) -> str:
    from datetime import UTC

    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _state(one: Schedule) -> str:
    from .terminal import clean

    if one.paused_at is None:
        return "active"
    return f"paused: {clean(one.error)}" if one.error else "paused"


def _facts(one: Schedule) -> dict[str, Any]:
    import json
    from dataclasses import asdict
    from datetime import UTC, datetime

    told = {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(one).items()
    }
    return {**told, "payload": json.loads(one.payload)}
