"""`llm-mcp run KIND`: one job from the terminal, its answer as it comes."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from .options import DataDir, Dsn, Json, service


def run(
    kind: Annotated[str, typer.Argument(help="Such as ollama.generate, openai.chat, echo, or a kind of yours.")],
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="The prompt; - reads it from stdin.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model, by the provider's name.")] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="The system prompt.")] = None,
    payload: Annotated[str | None, typer.Option(help="JSON: the whole payload, or what the options leave out.")] = None,
    priority: Annotated[int, typer.Option(help="Higher goes first.")] = 0,
    max_attempts: Annotated[int, typer.Option(help="Tries at most; 0: what the kind says.")] = 0,
    key: Annotated[str | None, typer.Option("--key", help="Idempotency key: again returns the first job.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id and do not wait.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    dsn: Dsn = None,
) -> None:
    """Submit a job and show its answer as it comes.

    Exit code 1 when it ends in error. Ctrl-C stops watching; the job goes on, and `llm-mcp jobs tail ID` shows
    the rest.
    """
    from llm_mcp.job import Status, Submission

    from .live import summary, watch
    from .terminal import clean, err, out, print_json, status_text

    asked = _payload(payload, prompt=prompt, model=model, system=system)
    jobs = service(data_dir=data_dir, dsn=dsn)
    job_id = jobs.submit(
        Submission(
            kind=kind,
            payload=asked,
            priority=priority,
            source="cli",
            max_attempts=max_attempts,
            idempotency_key=key,
        )
    )
    if detach:
        out.print(str(job_id))
        return
    try:
        job, figures = watch(jobs, job_id, show_text=not json)
    except KeyboardInterrupt:
        err.print(f"\nthe job goes on: llm-mcp jobs tail {job_id}")
        raise
    if job.status is not Status.DONE:
        err.print(f"{status_text(job)}: {clean(job.error or '')}", style="red")
        err.print(f"see: llm-mcp jobs show {job.id}")
        raise typer.Exit(1)
    if json or not figures.shown:
        import orjson

        print_json(None if job.result is None else orjson.loads(job.result))
    err.print(summary(job, figures), style="dim")


def _payload(text: str | None, **fields: str | None) -> Any:
    from llm_mcp import strictjson
    from llm_mcp.errors import InvalidInput

    given = {name: value for name, value in fields.items() if value is not None}
    if given.get("prompt") == "-":
        given["prompt"] = sys.stdin.read()
    base = {} if text is None else strictjson.loads(text, limit_bytes=64 * 2**20, root="payload")
    if not given:
        return base
    if not isinstance(base, dict):
        raise InvalidInput("must be a JSON object when --prompt, --model or --system are given", field="payload")
    return {**base, **given}
