"""What a GGUF file says about itself, read from its header alone.

Format facts: ggml's docs/gguf.md, versions 2 and 3, little-endian. The weights are never read, and arrays (the
vocabulary is one) are stepped over, so a header of megabytes takes milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_mcp.errors import SetupError

_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"
}  # fmt: skip
# llama.cpp's enum llama_ftype, the words Ollama shows as quantization_level.
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip
# ggml's enum ggml_type, for the tensors list of /api/show.
_TENSOR_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K",
    11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS",
    19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0",
    35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
_MAX_PAIRS = 100_000
_MAX_TENSORS = 1_000_000
_MAX_TEXT = 16 * 2**20
_SAMPLES = 64
_SAMPLE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file: its name, type word and shape (innermost dimension first)."""

    name: str
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gguf:
    """The header of one file.

    `metadata` holds every key; the value of an array is None. `identity` is a stable sha256 in hex, see `read`.
    """

    size: int
    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]
    identity: str

    @property
    def architecture(self) -> str:
        """Name of the architecture, such as `llama`."""
        return str(self.metadata.get("general.architecture", "unknown"))

    @property
    def context_length(self) -> int:
        """Context the model was trained with, tokens; 0 when the file does not say."""
        return self._whole("context_length")

    @property
    def embedding_length(self) -> int:
        """Width of the model; 0 when the file does not say."""
        return self._whole("embedding_length")

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def quantisation(self) -> str:
        """The word for how weights are stored, `unknown` when the file does not say."""
        return _FILE_TYPES.get(self.metadata.get("general.file_type", -1), "unknown")

    @property
    def chat_template(self) -> str:
        """The chat template inside, "" without one."""
        return str(self.metadata.get("tokenizer.chat_template") or "")

    @property
    def pools(self) -> bool:
        """Whether the file declares a pooling, which makes it an embedding model."""
        return self._whole("pooling_type") > 0

    def _whole(self, key: str) -> int:
        value = self.metadata.get(f"{self.architecture}.{key}", 0)
        return int(value) if isinstance(value, int) else 0


class _Reader:
    def __init__(self, raw: mmap.mmap) -> None:
        self.raw = raw
        self.at = 0

    def take(self, pattern: str) -> Any:
        (value,) = struct.unpack_from(pattern, self.raw, self.at)
        self.at += struct.calcsize(pattern)
        return value

    def skip(self, count: int) -> None:
        if count > len(self.raw) - self.at:
            raise ValueError("a length points past the end")
        self.at += count

    def text(self) -> str:
        length = self.take("<Q")
        if length > _MAX_TEXT:
            raise ValueError("a text of unlikely length")
        start = self.at
        self.skip(length)
        return self.raw[start : self.at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.take("<I"), self.take("<Q")
            if inner == _STRING:
                for _ in range(count):
                    self.skip(self.take("<Q"))
            elif inner in _SCALARS:
                self.skip(count * struct.calcsize(_SCALARS[inner]))
            else:
                raise ValueError(f"an array of kind {inner}")
            return None
        if kind not in _SCALARS:
            raise ValueError(f"a value of kind {kind}")
        return self.take(_SCALARS[kind])


def read(path: Path) -> Gguf:
    """Return what the file's header says.

    `identity` is the sha256 of the file's size, its whole header (every key and every tensor's name, type and
    place) and 64 pages spread over the weights: the same file gives the same 64 hex digits, another training or
    another quantisation gives others, and a file of many gigabytes costs milliseconds. It is an identity, not a
    checksum: damage between the sampled pages does not change it.
    Raises SetupError, naming the file, when it cannot be read or is no GGUF.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            return _parse(raw)
    except OSError as error:
        raise SetupError(f"model {path}: {error.strerror}") from None
    except (ValueError, struct.error) as error:
        raise SetupError(f"model {path} is not a readable GGUF file: {error}") from None


def _parse(raw: mmap.mmap) -> Gguf:
    if raw[:4] != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    reader = _Reader(raw)
    reader.skip(4)
    version = reader.take("<I")
    if version not in (2, 3):
        raise ValueError(f"version {version}")
    count, pairs = reader.take("<Q"), reader.take("<Q")
    if count > _MAX_TENSORS or pairs > _MAX_PAIRS:
        raise ValueError("unlikely counts")
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key = reader.text()
        metadata[key] = reader.value(reader.take("<I"))
    tensors = []
    for _ in range(count):
        name = reader.text()
        dimensions = reader.take("<I")
        if dimensions > 8:
            raise ValueError("a tensor of unlikely shape")
        shape = tuple(reader.take("<Q") for _ in range(dimensions))
        kind = reader.take("<I")
        reader.skip(8)
        tensors.append(Tensor(name, _TENSOR_TYPES.get(kind, f"type {kind}"), shape))
    return Gguf(len(raw), metadata, tuple(tensors), _identity(raw, reader.at))


def _identity(raw: mmap.mmap, header: int) -> str:
    mark = hashlib.sha256(json.dumps({"size": len(raw), "header": header}).encode())
    mark.update(raw[:header])
    step = max(_SAMPLE_BYTES, (len(raw) - header) // _SAMPLES)
    for start in range(header, len(raw), step):
        mark.update(raw[start : start + _SAMPLE_BYTES])
    mark.update(raw[-_SAMPLE_BYTES:])
    return mark.hexdigest()
