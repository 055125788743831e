"""What is missing, in plain words, and how to mend it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from . import local_models, schema
from .config import Settings, installed_version
from .embedded import cluster, postgres
from .errors import LlmMcpError
from .jobs import Jobs
from .local_models import Source, serves_models
from .runtime import Runtime

_LITTLE_DISK = 2**30


class Verdict(StrEnum):
    """How one thing stands: fine, worth knowing, or in the way of running jobs."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: how it stands, and what to do when it does not stand well."""

    verdict: Verdict
    what: str
    remedy: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each part, the database before what needs it. Changes nothing."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(Verdict.OK, f"llm-mcp {installed_version()}, Python {python}")
    runtime = Runtime(settings)
    try:
        yield from _database(settings, runtime)
        yield from _models(settings)
        yield from _keys(settings)
    finally:
        runtime.close()


def _database(settings: Settings, runtime: Runtime) -> Iterator[Finding]:
    if settings.db_dsn is None:
        yield from _embedded_postgres(settings.data_dir)
        if postgres.running_dsn(settings.data_dir) is None:
            yield Finding(
                Verdict.WARN, "the embedded Postgres does not run", "start everything: llm-mcp up; or set DB_DSN"
            )
            return
    try:
        lacking = schema.missing(runtime)
    except LlmMcpError as error:
        yield Finding(Verdict.BAD, str(error), "check DB_DSN and that the server runs")
        return
    yield Finding(Verdict.OK, "Postgres answers")
    if lacking:
        yield Finding(Verdict.BAD, f"{len(lacking)} migrations are missing", "run: llm-mcp migrate")
        return
    yield Finding(Verdict.OK, "the schema is up to date")
    yield from _work(Jobs(runtime))


def _embedded_postgres(data_dir: Path) -> Iterator[Finding]:
    reason = cluster.unavailable_reason()
    if reason is not None:
        yield Finding(Verdict.BAD, *_split(reason))
        return
    nearest = next(folder for folder in (data_dir, *data_dir.absolute().parents) if folder.exists())
    if not os.access(nearest, os.W_OK):
        yield Finding(
            Verdict.BAD, f"{nearest} is not writable", "set --data-dir (LLM_MCP_DATA_DIR) to a folder of yours"
        )
        return
    free = shutil.disk_usage(nearest).free
    if free < _LITTLE_DISK:
        yield Finding(Verdict.WARN, f"{free // 2**20} MiB of disk left at {nearest}", "make room")
    else:
        yield Finding(Verdict.OK, f"data dir {data_dir}, {free // 2**30} GiB free")


def _work(jobs: Jobs) -> Iterator[Finding]:
    workers = jobs.workers()
    if workers:
        threads = sum(worker.threads for worker in workers)
        count = f"{len(workers)} worker{'' if len(workers) == 1 else 's'}"
        yield Finding(Verdict.OK, f"{count}, {threads} jobs at once")
    else:
        yield Finding(Verdict.WARN, "no worker is alive: jobs wait", "run: llm-mcp worker")
    for kind, waiting in jobs.unserved().items():
        if workers:
            yield Finding(
                Verdict.WARN,
                f"{waiting} jobs of kind {kind!r} wait, and no live worker serves it",
                "start a worker that does (LLM_MCP_MODULES names modules with kinds of yours), or cancel them",
            )


def _models(settings: Settings) -> Iterator[Finding]:
    found = local_models.find(settings)
    reason = local_models.no_embedded_reason(settings)
    match found:
        case (Source.SET, url) if not serves_models(url):
            remedy = "check OLLAMA_BASE_URL, and that the machine is up and has a model"
            yield Finding(Verdict.WARN, f"no Ollama with a model answers at {url}", remedy)
        case (Source.EMBEDDED, url):
            yield Finding(Verdict.OK, f"the embedded model answers at {url}")
        case (_, url):
            yield Finding(Verdict.OK, f"Ollama at {url} has models")
        case None if reason is None:
            yield Finding(Verdict.OK, "no Ollama here; llm-mcp up serves the embedded model")
        case None:
            yield Finding(Verdict.WARN, *_split(str(reason)))


def _keys(settings: Settings) -> Iterator[Finding]:
    for name, key, kinds in (
        ("OPENAI_API_KEY", settings.openai_api_key, "openai.*"),
        ("OPENROUTER_API_KEY", settings.openrouter_api_key, "openrouter.*"),
    ):
        if key is None:
            yield Finding(Verdict.OK, f"{name} is not set; only jobs of {kinds} need it")
        else:
            yield Finding(Verdict.OK, f"{name} is set")


def _split(reason: str) -> tuple[str, str]:
    what, _, remedy = reason.partition(": ")
    return what, remedy
