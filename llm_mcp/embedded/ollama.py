"""The embedded device: llama.cpp behind Ollama's HTTP interface, for machines where no Ollama is installed.

    python -m llm_mcp.embedded.ollama --data-dir FOLDER --model NAME=FILE.gguf

It is a process of its own, so that a model that crashes takes nothing else with it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from .catalog import ModelFile, as_arguments
from .state import running_url

__all__ = ["command", "running_url"]


def command(
    data_dir: Path, models: Mapping[str, ModelFile], *, host: str = "127.0.0.1", port: int = 0, context: int = 2048
) -> list[str]:
    """Return the argv that starts the device.

    Parameters: `data_dir`, where its state file goes; `models`, what it serves, by name; `host` and `port`, where
    it listens (0: any free port, told in its `ready` line and state file); `context`, tokens a model is loaded
    with unless a request says `num_ctx`.
    """
    return [
        sys.executable,
        "-m",
        "llm_mcp.embedded.ollama",
        "--data-dir",
        str(data_dir),
        "--host",
        host,
        "--port",
        str(port),
        "--context",
        str(context),
        *as_arguments(models),
    ]
