"""`llm-mcp queues`: what waits where, and queues nothing is claimed from for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .options import DataDir, Dsn, Json, service

if TYPE_CHECKING:
    from pathlib import Path

    from llm_mcp import Queues

app = typer.Typer(help="List, pause and resume queues.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name.")]


@app.command("list")
def list_queues(json: Json = False, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """List queues that have jobs or are paused, by name. Times are UTC."""
    from dataclasses import asdict
    from datetime import UTC

    from rich.table import Table
    from rich.text import Text

    from .terminal import clean, err, out, print_json

    found = _queues(data_dir, dsn).every()
    since = [None if one.paused_at is None else one.paused_at.astimezone(UTC) for one in found]
    if json:
        print_json(
            [
                {**asdict(one), "paused_at": None if at is None else at.isoformat()}
                for one, at in zip(found, since, strict=True)
            ]
        )
        return
    if not found:
        err.print("no jobs wait or run, and no queue is paused")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "queued", "running", "oldest waits", "state"):
        table.add_column(heading, no_wrap=True)
    for one, at in zip(found, since, strict=True):
        table.add_row(
            Text(clean(one.name)),
            str(one.queued),
            str(one.running),
            "" if one.oldest_s is None else f"{one.oldest_s:.0f} s",
            "active" if at is None else f"paused since {at:%Y-%m-%d %H:%M:%SZ}",
        )
    out.print(table)


@app.command()
def pause(name: Name, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """Have nothing of a queue claimed until it is resumed. Running jobs run on, and jobs may still be submitted."""
    from .terminal import clean, out

    paused = _queues(data_dir, dsn).pause(name)
    out.print(f"{clean(name)} {'paused' if paused else 'is paused already'}")


@app.command()
def resume(name: Name, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """Have a paused queue claimed from again; workers are woken at once."""
    from .terminal import clean, out

    resumed = _queues(data_dir, dsn).resume(name)
    out.print(f"{clean(name)} {'resumed' if resumed else 'is not paused'}")


def _queues(data_dir: Path | None, dsn: str | None) -> Queues:
    from llm_mcp.limits import Queues

    return Queues(service(data_dir=data_dir, dsn=dsn).runtime)
