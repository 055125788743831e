"""Processes of ours that have done all their imports before they are wanted: half of what a start takes."""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from llm_mcp.child import Child

_ROOT = Path(__file__).parent.parent.parent
_READY = 3


class Spares:
    """A few of them, each of which waits to be told what it is. Used by the main thread."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Child, int]] = []

    def prepare(self) -> None:
        """Have as many as may soon be wanted."""
        while len(self._waiting) < _READY:
            hears, tells = os.pipe()
            child = Child(
                "spare",
                [sys.executable, "-P", "-m", "tests.faults.spares", str(hears)],
                environment={"PYTHONPATH": str(_ROOT)},
                pass_fds=[hears],
            )
            child.start()
            os.close(hears)
            self._waiting.append((child, tells))

    def take(self, words: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> Child | None:
        """Have one of them be `llm-mcp` with these words, and return it; None when there is none."""
        while self._waiting:
            child, tells = self._waiting.pop(0)
            told = {"words": list(words), "environment": dict(environment), "log": log.name}
            with os.fdopen(tells, "w") as pipe:
                json.dump(told, pipe)
            if child.pid is not None:
                return child
        return None

    def close(self) -> None:
        """End those that were never wanted."""
        for child, tells in self._waiting:
            os.close(tells)
            child.kill()
        self._waiting.clear()


def main() -> None:
    """Import all that a worker does but for the kinds, wait, and become what we are told."""
    import llm_mcp.cli
    import llm_mcp.worker  # noqa: F401 - that is all that is wanted of it

    with os.fdopen(int(sys.argv[1])) as pipe:
        told = json.loads(pipe.read() or "null")
    if told is None:  # nobody wants us any more
        return
    os.dup2(os.open(told["log"], os.O_WRONLY | os.O_APPEND), 2)
    os.environ.clear()
    os.environ.update(told["environment"])
    sys.argv = ["llm-mcp", *told["words"]]
    runpy.run_module("llm_mcp", run_name="__main__")


if __name__ == "__main__":
    main()
