"""The clients of our dialects: the server they are run against, and the page that tells of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llm_mcp.embedded.device.catalog import ModelFile
from tests.acceptance.running import Scratch
from tests.contract.device import running
from tests.contract.device_models import TINY, TINY_EMBED, write_talkers

from .roster import CHECKS, CLIENTS
from .trying import Matrix, Served

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
def serving() -> Iterator[Served]:
    """Run a device with small models, and the whole product in front of it; a script is told its URL."""
    scratch = Scratch()
    try:
        folder = scratch.path / "device"
        folder.mkdir()
        models = {"tiny": ModelFile(TINY), "tiny-embed": ModelFile(TINY_EMBED)}
        models |= {name: ModelFile(file) for name, file in write_talkers(folder).items()}
        with running(folder, models) as device:
            up = scratch.up(
                ollama_base_url=device.url, embedded_model=None, modules="", lease_s=30.0, log_level="WARNING"
            )
            yield Served(up.url)
    finally:
        scratch.close()


MATRIX = Matrix("tests.contract.clients", CLIENTS, CHECKS, "docs/clients.md", _WORDS, serving)
