"""This machine: the embedded Postgres, the models and the keys."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from llm_mcp import local_models
from llm_mcp.config import Settings
from llm_mcp.embedded import cluster
from llm_mcp.local_models import Source, serves_models

from .finding import Finding, fail, ok, warn

_LITTLE_DISK = 2**30


def embedded_postgres(data_dir: Path) -> Iterator[Finding]:
    """Yield whether the embedded Postgres can run here."""
    reason = cluster.unavailable_reason()
    if reason is not None:
        yield fail("postgres", *_split(reason))
        return
    nearest = next(folder for folder in (data_dir, *data_dir.absolute().parents) if folder.exists())
    if not os.access(nearest, os.W_OK):
        yield fail("data dir", f"{nearest} is not writable", "set --data-dir (LLM_MCP_DATA_DIR) to a folder of yours")
        return
    free = shutil.disk_usage(nearest).free
    if free < _LITTLE_DISK:
        yield warn("disk", f"{free // 2**20} MiB of disk left at {nearest}", "make room")
    else:
        yield ok("disk", f"data dir {data_dir}, {free // 2**30} GiB free")


def models(settings: Settings) -> Iterator[Finding]:
    """Yield whether there is a model."""
    found = local_models.find(settings)
    reason = local_models.no_embedded_reason(settings)
    match found:
        case (Source.SET, url) if not serves_models(url):
            remedy = "check OLLAMA_BASE_URL, and that the machine is up and has a model"
            yield warn("models", f"no Ollama with a model answers at {url}", remedy)
        case (Source.EMBEDDED, url):
            yield ok("models", f"the embedded model answers at {url}")
        case (_, url):
            yield ok("models", f"Ollama at {url} has models")
        case None if reason is None:
            yield ok("models", "no Ollama here; llm-mcp up serves the embedded model")
        case None:
            yield warn("models", *_split(str(reason)))


def keys(settings: Settings) -> Iterator[Finding]:
    """Yield which keys are set."""
    for name, key, kinds in (
        ("OPENAI_API_KEY", settings.openai_api_key, "openai.*"),
        ("OPENROUTER_API_KEY", settings.openrouter_api_key, "openrouter.*"),
    ):
        if key is None:
            yield ok("keys", f"{name} is not set; only jobs of {kinds} need it")
        else:
            yield ok("keys", f"{name} is set")


def _split(reason: str) -> tuple[str, str]:
    what, _, remedy = reason.partition(": ")
    return what, remedy
