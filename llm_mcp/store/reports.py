"""What workers report of machines and models, as rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from llm_mcp.errors import NotFound

from .pool import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How fast a model was on a machine: tokens read and written, ms in all, tokens/s; `meta` is JSON text.

    `created_at`: when it was written down; None for one that is not.
    """

    device_id: str
    model_id: str
    task_type: str = "generate"
    tokens_in: int = 0
    tokens_out: int = 0
    latency_ms: int = 0
    tps: float = 0.0
    meta: str = "{}"
    created_at: datetime | None = None


def metrics(db: Database, device_id: str, notes: str) -> None:
    """Add what a machine, which is registered, measured of itself: the JSON text of an object."""
    db.run("report_metrics", {"device_id": device_id, "notes": notes})


def benchmark(db: Database, measured: Measured) -> None:
    """Add a measurement. Raises NotFound for a machine we do not know."""
    if not db.run("report_benchmark", asdict(measured)):
        raise NotFound(f"no device {measured.device_id!r}")


def benchmarks(db: Database, *, n: int, model_id: str | None = None, device_id: str | None = None) -> list[Measured]:
    """Return up to `n` measurements, newest first; None: of any model, of any machine."""
    params = {"n": n, "model_id": model_id, "device_id": device_id}
    # Planned for its values: else no index of one model, or of one machine, is of use.
    return [Measured(**row) for row in db.run("benchmarks", params, prepare=False)]
