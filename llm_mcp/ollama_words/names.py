"""What things are called on Ollama's wire: which Ollama it is, models, instants."""

from __future__ import annotations

from datetime import UTC, datetime

OLLAMA_VERSION = "0.33.0"
"""The Ollama whose answers ours are like."""

LIBRARY = "registry.ollama.ai/library/"
"""Where models without a place of their own come from; a name may say so."""


def full_name(name: str) -> str:
    """Return the name with its tag: `tiny` means `tiny:latest`."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def timestamp(moment: datetime) -> str:
    """Return the instant as Ollama writes it, nine digits and Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
