"""The steps that drive batches."""

from __future__ import annotations

from typing import Any

from llm_mcp.batch_steps import work
from llm_mcp.batches import KIND, MAX_ATTEMPTS, Step
from llm_mcp.kind_actor import actor
from llm_mcp.run import Run


@actor(KIND, payload=Step, max_attempts=MAX_ATTEMPTS)
def run(payload: Step, run: Run) -> dict[str, Any]:
    """Make one step of a batch."""
    return work(run, payload)
