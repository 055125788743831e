"""Vectors: those of a job's result, whoever handed it in, and the list that clients of this dialect get."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from typing import Any

from llm_mcp.errors import LlmMcpError


class Mangled(LlmMcpError):
    """The provider's answer holds no vectors."""

    code = "embed_failed"


def vectors_in(result: Any) -> list[list[float]] | None:
    """Return the vectors of a result, Ollama's or OpenAI's, in the order of the texts; None where there are none."""
    data = result.get("data") if isinstance(result, dict) else None
    fields = data if isinstance(data, dict) else {}
    found = fields.get("embeddings")
    if found is None and isinstance(fields.get("data"), list):
        items = [item for item in fields["data"] if isinstance(item, dict)]
        found = [item.get("embedding") for item in sorted(items, key=lambda item: item.get("index", 0))]
    if found is None:
        found = [fields.get("embedding")]
    return found if isinstance(found, list) and all(isinstance(vector, list) for vector in found) else None


def vectors_of(result: Any, wanted: int) -> list[list[float]]:
    """Return the vectors of a result, as many as texts were asked for. Raises Mangled."""
    found = vectors_in(result)
    if found is None or len(found) != wanted:
        raise Mangled(f"the provider sent no vectors, or not {wanted}")
    return found


def embedding_list(
    result: Any, wanted: int, *, model: str | None, dimensions: int | None, packed: bool
) -> dict[str, Any]:
    """Return the list of a finished job's vectors.

    Parameters: `wanted`, how many there must be; `model`, its name where the provider does not say; `dimensions`, to
    how many numbers they are cut; `packed`, whether as base64. Raises Mangled.
    """
    vectors = [_cut(vector, dimensions) for vector in vectors_of(result, wanted)]
    read = result.get("tokens_in")
    count = read if isinstance(read, int) else 0
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
            for index, vector in enumerate(vectors)
        ],
        "model": result.get("model") or model,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


def _cut(vector: list[float], dimensions: int | None) -> list[float]:
    """Return a vector of so many numbers, of length one again; one that is as short already stays as it is."""
    if dimensions is None or len(vector) <= dimensions:
        return vector
    kept = vector[:dimensions]
    length = math.hypot(*kept)
    return [number / length for number in kept] if length else kept


def _packed(vector: Sequence[float]) -> str:
    """Return a vector as base64 of 32-bit floats, lowest byte first."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
