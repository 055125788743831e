"""A kind of a user's own, for tests: it says one numbered word for each permit the test gives."""

from __future__ import annotations

import threading
from typing import Any

from pydantic import BaseModel

from llm_mcp import Run, actor

KIND = "test.paced"
permits = threading.Semaphore(0)


class Paced(BaseModel):
    """How many words to say."""

    count: int


@actor(KIND, payload=Paced)
def paced(payload: Paced, run: Run) -> dict[str, Any]:
    """Say the words, each as an event of its own, and return them joined."""
    words = []
    for number in range(payload.count):
        while not permits.acquire(timeout=0.05):
            run.check()
        words.append(f"word{number} ")
        run.text(words[-1])
        run.flush()
    return {"ok": True, "response": "".join(words)}
