"""A kind whose jobs take as long as the test wants, and that leaves word of when and where each began."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

from pydantic import BaseModel

from llm_mcp import Run, actor

_LOOK_S = 0.03


class Gated(BaseModel):
    """The job's name, and the folder where it tells and is told."""

    folder: Path
    name: str
    deaf: bool = False


@actor("test.gated", payload=Gated)
def gated(payload: Gated, run: Run) -> str:
    """Say that it began; return once the folder holds a file `open-NAME`, or stop when told to, unless it is deaf."""
    word = payload.folder / f"{payload.name}.draft"
    word.write_text(json.dumps({"at": time.time(), "pid": os.getpid(), "attempt": run.lease.attempt}))
    word.rename(payload.folder / f"begun-{payload.name}")
    cut = threading.Event()
    if not payload.deaf:
        run.when_cut(cut.set)
    while not (payload.folder / f"open-{payload.name}").exists():
        cut.wait(_LOOK_S)
        if not payload.deaf:
            run.check()
    return payload.name
