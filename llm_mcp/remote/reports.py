"""What workers that come by a door report beside their jobs: their machine's figures, and the speed of models there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llm_mcp.errors import InvalidInput
from llm_mcp.runtime import Runtime
from llm_mcp.store import reports as rows
from llm_mcp.store.reports import Measured

from . import words

MOST = 200
"""Measurements that are told at once."""
_INT4_MAX = 2**31 - 1


def metrics(runtime: Runtime, device_id: str, figures: Mapping[str, Any]) -> None:
    """Write down what a registered machine measured of itself."""
    text, _ = words.lossy(figures, "metrics", limit_bytes=words.MAX_FIGURES_BYTES)
    rows.metrics(runtime.db, device_id, text)


def benchmark(runtime: Runtime, measured: Measured, *, meta: Any) -> None:
    """Write down how fast a model was on a machine.

    Raises InvalidInput naming the field, NotFound for a machine we do not know.
    """
    for name in ("device_id", "model_id"):
        if not getattr(measured, name).strip():
            raise InvalidInput("must not be blank", field=f"benchmark.{name}")
    for name in ("device_id", "model_id", "task_type"):
        words.check_text(f"benchmark.{name}", getattr(measured, name))
    for name in ("tokens_in", "tokens_out", "latency_ms"):
        if not 0 <= getattr(measured, name) <= _INT4_MAX:
            raise InvalidInput("must not be negative", field=f"benchmark.{name}")
    if not (math.isfinite(measured.tps) and measured.tps >= 0):
        raise InvalidInput("must be a number from 0", field="benchmark.tps")
    text, _ = words.lossy(meta, "benchmark.meta_json", limit_bytes=words.MAX_FIGURES_BYTES)
    rows.benchmark(runtime.db, replace(measured, task_type=measured.task_type or "generate", meta=text))


def benchmarks(runtime: Runtime, *, limit: int, model_id: str = "", device_id: str = "") -> list[Measured]:
    """Return up to `limit` measurements, newest first; "": of any model, of any machine.

    Raises InvalidInput naming the field.
    """
    if not 1 <= limit <= MOST:
        raise InvalidInput(f"must be 1 to {MOST}", field="limit")
    for name, text in (("model_id", model_id), ("device_id", device_id)):
        words.check_text(name, text)
    return rows.benchmarks(runtime.db, n=limit, model_id=model_id or None, device_id=device_id or None)
