"""A kind of a user's own, for tests: it streams numbered words as slowly as its payload says."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel

from llm_mcp import Run, actor


class SlowWords(BaseModel):
    """How many words, and how long to pause before each, s."""

    count: int
    pause_s: float = 0.02


@actor("test.slow_words", payload=SlowWords)
def slow_words(payload: SlowWords, run: Run) -> dict[str, Any]:
    """Stream the words and return them joined, with the attempt that made them."""
    words = []
    for number in range(payload.count):
        time.sleep(payload.pause_s)
        run.check()
        words.append(f"word{number} ")
        run.text(words[-1])
    return {"ok": True, "response": "".join(words), "attempt": run.lease.attempt}
