"""/api/embed and /api/embeddings."""

from __future__ import annotations

import json
import math
import time
from typing import Any

from llm_mcp.ollama_words.duration import keep_alive
from llm_mcp.ollama_words.wire import Fields, Refusal, decode

from . import options
from .call import Call
from .catalog import CatalogModel
from .residents import Held, Residents
from .runner import EngineGone, EngineRefused

_NO_VECTORS = "This server does not support embeddings. Start it with `--embeddings`"
_TOO_LONG = "the input length exceeds the context length"


def embed(residents: Residents, raw: bytes, call: Call) -> dict[str, Any]:
    """Answer a body of /api/embed: one vector of length 1 for each text. Raises Refusal, Cancelled."""
    began = time.perf_counter_ns()
    fields = Fields(decode(raw, "EmbedRequest"), "EmbedRequest")
    name, texts = fields.text("model"), _texts(fields.values.get("input"))
    cut, dimensions = fields.flag("truncate", True), fields.whole("dimensions")
    keep_s = keep_alive(fields.values.get("keep_alive"))
    wanted = fields.table("options")
    if not name:
        raise Refusal(404, "model '' not found")
    model = _found(residents, name)
    if not model.embedding:
        raise Refusal(501, _NO_VECTORS)
    try:
        with residents.turn(model, call, keep_s=keep_s, context=options.read(wanted).num_ctx) as held:
            if not texts:
                return {"model": name, "embeddings": []}
            count, vectors = 0, []
            for text in texts:
                call.check()
                tokens = _tokens(held, text, cut=cut)
                count += len(tokens)
                vectors.append(_sized(held.runner.vector(tokens, call), dimensions))
            return {
                "model": name,
                "embeddings": vectors,
                "total_duration": time.perf_counter_ns() - began,
                "load_duration": held.load_ns,
                "prompt_eval_count": count,
            }
    except EngineRefused as error:
        raise Refusal(error.status, error.message) from None
    except EngineGone as error:
        raise Refusal(500, str(error)) from None


def embeddings(residents: Residents, raw: bytes, call: Call) -> dict[str, Any]:
    """Answer a body of /api/embeddings, the older form: one text, one vector. Raises Refusal, Cancelled."""
    fields = Fields(decode(raw, "EmbeddingRequest"), "EmbeddingRequest")
    name, text = fields.text("model"), fields.text("prompt")
    keep_s = keep_alive(fields.values.get("keep_alive"))
    wanted = fields.table("options")
    if not name:
        raise Refusal(400, "model is required")
    model = _found(residents, name)
    if not model.embedding:
        raise Refusal(500, _NO_VECTORS)
    try:
        with residents.turn(model, call, keep_s=keep_s, context=options.read(wanted).num_ctx) as held:
            # A text that is too long is an error here; only /api/embed cuts.
            return {"embedding": held.runner.vector(_tokens(held, text, cut=False), call) if text else []}
    except (EngineRefused, EngineGone) as error:
        raise Refusal(500, getattr(error, "message", str(error))) from None


def _found(residents: Residents, name: str) -> CatalogModel:
    model = residents.find(name)
    if model is None:
        raise Refusal(404, f"model {json.dumps(name, ensure_ascii=False)} not found, try pulling it first")
    return model


def _texts(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, "invalid input type")
    return texts


def _tokens(held: Held, text: str, *, cut: bool) -> list[int]:
    tokens = held.runner.tokens(text, special=True)
    if len(tokens) > held.runner.context:
        if not cut:
            raise Refusal(400, _TOO_LONG)
        del tokens[held.runner.context :]
    return tokens


def _sized(vector: list[float], dimensions: int) -> list[float]:
    """Return the vector, or its first numbers made a vector of length 1 again."""
    if not 0 < dimensions < len(vector):
        return vector
    short = vector[:dimensions]
    length = math.sqrt(sum(number * number for number in short))
    return [number / max(length, 1e-12) for number in short]
