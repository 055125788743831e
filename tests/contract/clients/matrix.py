"""Running the clients' scripts against a server: what each says, and the page that keeps it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from llm_mcp.config import Settings
from llm_mcp.embedded.device.catalog import ModelFile
from tests.acceptance.running import Scratch
from tests.contract.device import running
from tests.contract.device_models import TINY, TINY_EMBED, write_talkers

from . import environments
from .roster import CHECKS, Client

ROOT = Path(__file__).parents[3]
PAGE = "docs/clients.md"
_RUN_S = 400.0

Outcome = Mapping[str, str]
"""By check: "" when it passed, else what went wrong."""

_WORDS = """\
# Clients

Programs that speak OpenAI's API or Ollama's are clients of `llm-mcp` as they are: all they need is its address. Each
of these is run unmodified, in an environment of its own, against a running server with a worker and a real model
behind it. `make clients` does it here; generated on {when} with Python {python} and node {node}.

{table}

✓ works · ✗ does not · – the client has no such thing, or it is not checked with it.

## What is checked

{checks}

## How they are pointed at us

{uses}
{faults}"""


@contextmanager
def serving() -> Iterator[str]:
    """Run a device with small models, and the whole product in front of it; give its URL."""
    scratch = Scratch()
    try:
        folder = scratch.path / "device"
        folder.mkdir()
        models = {"tiny": ModelFile(TINY), "tiny-embed": ModelFile(TINY_EMBED)}
        models |= {name: ModelFile(file) for name, file in write_talkers(folder).items()}
        with running(folder, models) as device:
            yield scratch.up(
                ollama_base_url=device.url, embedded_model=None, modules="", lease_s=30.0, log_level="WARNING"
            ).url
    finally:
        scratch.close()


def run(client: Client, words: Sequence[str]) -> Outcome:
    """Run a client's script, `words`, to its end, and return what it said of each of the client's checks.

    A check of which it said nothing, or of which we know nothing, has failed.
    """
    with tempfile.TemporaryDirectory() as home:
        try:
            done = subprocess.run(
                list(words),
                env=_environment(home),
                cwd=home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_RUN_S,
                check=False,
            )
            said, complained = done.stdout, f"ended with {done.returncode}: {done.stderr.strip()[-300:]}"
        except subprocess.TimeoutExpired as late:
            said, complained = (late.stdout or b"").decode(errors="replace"), f"took over {_RUN_S:g} s"
    found = dict(_told(said))
    return {name: found.get(name, f"not told: {complained}") for name in (*client.checks, *found)} | {
        name: "is not to be checked" for name in found if name not in client.checks
    }


def page(found: Mapping[str, Outcome], clients: Sequence[Client], node: str) -> str:
    """Return the page."""
    names = [name for name in CHECKS if any(name in client.checks for client in clients)]
    head = f"| client | versions | {' | '.join(names)} |"
    rule = f"|---|---|{':-:|' * len(names)}"
    rows = [
        f"| {one.label} | {environments.versions(one)} | {' | '.join(_mark(found[one.name], name) for name in names)} |"
        for one in clients
    ]
    faults = [
        f"* {client.label}, {name}: {told}" for client in clients for name, told in found[client.name].items() if told
    ]
    return _WORDS.format(
        when=f"{datetime.now(UTC):%Y-%m-%d}",
        python=platform.python_version(),
        node=node,
        table="\n".join([head, rule, *rows]),
        checks="\n".join(f"* **{name}**: {CHECKS[name]}" for name in names),
        uses="\n".join(f"* {client.label}: {client.use}" for client in clients),
        faults="\n## What does not work\n\n" + "\n".join(faults) + "\n" if faults else "",
    )


def own(client: Client, url: str) -> list[str]:
    """Return how a Python client's script is run in our own environment, which has the client too."""
    return [sys.executable, str(environments.SCRIPTS / client.script), url]


def _told(said: str) -> Iterator[tuple[str, str]]:
    for line in said.splitlines():
        if line.startswith('{"check"'):
            told = json.loads(line)
            yield told["check"], "" if told["ok"] else told["told"] or "failed"


def _mark(found: Outcome, name: str) -> str:
    return "–" if name not in found else "✗" if found[name] else "✓"


def _environment(home: str) -> dict[str, str]:
    """Return an environment without any setting of this machine's that a client would heed."""
    ours = {
        str(name) for one in Settings.model_fields.values() for name in getattr(one.validation_alias, "choices", [])
    }
    heeded = ("OPENAI_", "OLLAMA_", "LANGCHAIN_", "LANGSMITH_", "LLM_", "NODE_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith(heeded)}
    return {**kept, "HOME": home, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": "1"}
