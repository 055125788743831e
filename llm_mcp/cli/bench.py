"""`llm-mcp bench`: what it costs here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .options import DataDir, Dsn, Json, quiet, settings

if TYPE_CHECKING:
    from rich.table import Table

    from llm_mcp.selftest import Figures

app = typer.Typer(help="Measure this set-up.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def bench() -> None:
    """Measure this set-up."""


@app.command()
def queue(
    jobs: Annotated[int, typer.Option(help="Jobs to drain.")] = 10_000,
    threads: Annotated[int, typer.Option(help="Jobs each worker process runs at once.")] = 8,
    processes: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    json: Json = False,
    data_dir: DataDir = None,
    dsn: Dsn = None,
) -> None:
    """Measure the queue on your Postgres with jobs that do nothing.

    How fast jobs are submitted, drained by real worker processes, and picked up by idle ones; beside it Dramatiq's
    own in-memory broker, which keeps nothing.

    It works in a schema of its own, llm_bench_ and a random number, which is dropped in the end, also after Ctrl-C;
    your jobs and workers are not touched. The Postgres is the one that is set (--dsn), else the embedded one if it
    runs, else one that is started for the moment. It needs the right to create schemas. Other work on the machine
    or the server makes the figures worse, and the test is load for that work.
    """
    from llm_mcp import logs
    from llm_mcp.selftest import measure

    from .terminal import clean, err, out, print_json

    chosen = settings(data_dir=data_dir, dsn=dsn)
    logs.configure(quiet(chosen))
    found = measure(
        chosen,
        jobs=jobs,
        threads=threads,
        processes=processes,
        say=lambda line: err.print(clean(line), style="dim"),
    )
    if json:
        print_json(found.as_json())
        return
    err.print()
    out.print(_figures(found))
    out.print()
    out.print(_advice(found))


def _figures(found: Figures) -> Table:
    from rich.table import Table
    from rich.text import Text

    threads = f"{found.threads} thread{'' if found.threads == 1 else 's'}"
    workers = f"{found.processes} process{'' if found.processes == 1 else 'es'} x {threads}"
    rows = [
        ("submit, one by one", f"{found.submit_per_s:,.0f}", "jobs/s", "one thread"),
        (
            "submit, in batches",
            f"{found.batch_submit_per_s:,.0f}",
            "jobs/s",
            f"one thread, {found.batch_size} at a time",
        ),
        ("drain, first start to last", f"{found.drain_per_s:,.0f}", "jobs/s", workers),
        ("drain, claim to result", f"{found.drain_committed_per_s:,.0f}", "jobs/s", "the same, as recorded"),
        ("pick-up, median", f"{found.pickup_ms_p50:.1f}", "ms", f"{found.pickups} jobs, to idle workers"),
        ("pick-up, 99 of 100 within", f"{found.pickup_ms_p99:.1f}", "ms", ""),
        ("round trip to Postgres", f"{found.round_trip_ms:.2f}", "ms", "median"),
        ("Dramatiq in memory, drain", f"{found.stub_drain_per_s:,.0f}", "jobs/s", f"1 process x {threads}"),
    ]
    table = Table(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "right", "left", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for what, figure, unit, how in rows:
        table.add_row(what, Text(figure, style="bold"), unit, Text(how, style="dim"))
    return table


def _advice(found: Figures) -> Table:
    from rich.table import Table

    from .terminal import clean

    ran = (
        f"{found.jobs:,} jobs that do nothing, 200 bytes each; Postgres {found.postgres} ({found.server}),"
        f" llm-mcp {found.version}, {found.cpus} CPUs."
    )
    table = Table.grid(padding=(0, 1))
    for sentence in (ran, *found.advice):
        table.add_row("*", clean(sentence))
    return table
