"""`llm-mcp demo`: the whole thing in a scratch folder, a real model, and a worker killed on the way."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from rich.table import Table
from rich.text import Text

from llm_mcp import config, local_models
from llm_mcp.child import Child
from llm_mcp.config import Settings
from llm_mcp.errors import SetupError
from llm_mcp.events import DELTA, Event
from llm_mcp.job import Attempt, Job, Status
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime

from .live import Figures, watch
from .terminal import err, out

_WORKERS = 2
_START_S = 120.0
_STOP_S = 40.0
_PIECES_BEFORE_KILL = 3
_TRIES = 3
_FIRST = {"prompt": "Write two sentences about the sea.", "options": {"num_predict": 64, "temperature": 0.3}}
_SECOND = {
    "prompt": "Tell a long story about the keeper of a lighthouse, with many details.",
    "options": {"num_predict": 200, "temperature": 0.3},
}


@dataclass(frozen=True, slots=True)
class Story:
    """How one job went: the finished job, its attempts, what a watcher measured, seconds from the kill to the end."""

    job: Job
    tries: list[Attempt]
    figures: Figures
    recovered_s: float | None = None


def run(*, keep: bool = False) -> None:
    """Run the demonstration; its scratch folder goes at the end unless `keep`.

    Raises SetupError when something is missing, or when an answer did not arrive as promised.
    """
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="llm-mcp-demo-"))
    scratch.chmod(0o711)  # as root, Postgres runs as somebody else, who must get through
    try:
        settings = _settings(scratch)
        with _everything(settings, scratch / "log") as url:
            err.print(f"serving at {url} after {time.monotonic() - began:.1f} s\n")
            runtime = Runtime(settings)
            try:
                jobs = Jobs(runtime)
                err.print("1. A job goes in by REST; its tokens come back as they are made.", style="bold")
                first = _tell(jobs, _post(url, _FIRST))
                err.print("\n2. Another one, and its worker dies by kill -9 in the middle of it.", style="bold")
                second = _interrupted(jobs, url)
                device = runtime.ollama_url()
            finally:
                runtime.close()
    finally:
        if keep:
            err.print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    err.print()
    out.print(_summary(device, first, second, time.monotonic() - began))


def _settings(scratch: Path) -> Settings:
    """The user's settings where they say which model; scratch for all that keeps something."""
    chosen = config.load(
        data_dir=scratch / "data",
        http_addr="127.0.0.1:0",
        grpc_addr="127.0.0.1:0",
        log_level="WARNING",
        local_ollama=local_models.no_embedded_reason(config.load()) is not None,
    )
    return chosen.model_copy(update={"db_dsn": None, "db_direct_dsn": None, "ollama_base_url": None, "modules": ""})


@contextmanager
def _everything(settings: Settings, log: Path) -> Iterator[str]:
    """Run `llm-mcp up` and yield its base URL."""
    argv = [sys.executable, "-m", "llm_mcp", "up", "--no-mcp", "--workers", str(_WORKERS)]
    with log.open("wb") as said:
        up = Child("llm-mcp up", argv, environment=config.child_environment(settings), log=said)
        up.start()
        try:
            with err.status("starting Postgres, the model, two workers and the HTTP door"):
                end = time.monotonic() + _START_S
                while not up.says_ready():
                    if up.ended() is not None or time.monotonic() > end:
                        raise SetupError(f"it did not start: {_last_line(log)}")
                    time.sleep(0.02)  # the child says it on a pipe we only look into
            yield up.line
        finally:
            up.signal(signal.SIGTERM)
            if not up.wait(_STOP_S):
                up.kill()


def _post(url: str, payload: dict[str, Any]) -> UUID:
    body = orjson.dumps({"kind": "ollama.generate", "payload": payload, "source": "demo"})
    with urllib.request.urlopen(f"{url}/v1/jobs", data=body, timeout=10) as answer:  # noqa: S310 - our own, on loopback
        status, told = answer.status, orjson.loads(answer.read())
    err.print(f"POST /v1/jobs → {status} {told['job_id']}", style="dim")
    err.print(Status.QUEUED, style="cyan")
    return UUID(told["job_id"])


def _tell(jobs: Jobs, job_id: UUID, *, kill: bool = False) -> Story:
    """Watch a job to its end, saying each status; with `kill`, end its worker's process after a few pieces."""
    pieces, killed_at = 0, None
    worker: str | None = None

    def on_item(item: Job | Event) -> None:
        nonlocal pieces, killed_at, worker
        if isinstance(item, Job):
            if item.status is Status.QUEUED and item.attempts == 0:
                return  # said when it was accepted
            err.print(f"{item.status}{f' on {item.worker_id}' if item.worker_id else ''}", style="cyan")
            worker = item.worker_id
        elif item.type == DELTA and kill and killed_at is None:
            pieces += 1
            if pieces >= _PIECES_BEFORE_KILL:
                killed_at = _kill(jobs, worker)

    job, figures = watch(jobs, job_id, on_item=on_item)
    recovered_s = None if killed_at is None else time.monotonic() - killed_at
    if job.status is not Status.DONE:
        raise SetupError(f"the job ended in {job.reason}: {job.error}")
    return Story(job, jobs.attempts(job_id), figures, recovered_s)


def _kill(jobs: Jobs, worker_id: str | None) -> float | None:
    for worker in jobs.workers():
        if worker.id == worker_id and worker.pid is not None:
            os.kill(worker.pid, signal.SIGKILL)
            err.print(f"\nkill -9 {worker.pid}: {worker.id} is gone", style="bold red")
            return time.monotonic()
    return None


def _interrupted(jobs: Jobs, url: str) -> Story:
    """Run a job whose worker is killed on the way; again when the model was done before the kill."""
    for _ in range(_TRIES):
        story = _tell(jobs, _post(url, _SECOND), kill=True)
        fates = [(attempt.status, attempt.reason) for attempt in story.tries]
        if fates == [("error", "lease_expired"), ("done", None)]:
            return story
        if len(fates) > 1:
            raise SetupError(f"the tries ended as {fates}, not as promised")
    raise SetupError("the model was done before its worker could be killed")


def _summary(device: str, first: Story, second: Story, took_s: float) -> Table:
    table = Table(box=None, show_header=True, header_style="bold", pad_edge=False)
    for heading in ("", "a job", "its worker killed"):
        table.add_column(heading)
    stories = (first, second)
    results = [orjson.loads(story.job.result or "{}") for story in stories]
    rows = {
        "device": [device] * 2,
        "model": [result.get("model", "") for result in results],
        "tokens": [str(result.get("tokens_out", "")) for result in results],
        "tokens/s": [_speed(result.get("data", {})) for result in results],
        "first token": [_seconds(story.figures.first_token_s) for story in stories],
        "attempts": [", ".join(a.reason or a.status for a in story.tries) for story in stories],
        "answer after the kill": ["", _seconds(second.recovered_s)],
        "all of this took": [f"{took_s:.1f} s", ""],
    }
    for name, values in rows.items():
        table.add_row(Text(name, style="dim"), *(Text(value) for value in values))
    return table


def _speed(data: dict[str, Any]) -> str:
    """Tokens per second by the device's own clock (Ollama counts in ns)."""
    count, took_ns = data.get("eval_count"), data.get("eval_duration")
    return f"{count / took_ns * 1e9:.0f}" if count and took_ns else ""


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def _last_line(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or ["no word why"])[-1][:300]
