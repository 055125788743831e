"""A door as a process of its own: `llm-mcp rpc`, `llm-mcp mcp`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from llm_mcp.config import Settings, child_environment

_START_S = 30.0


class Serving:
    """A running `llm-mcp COMMAND`. `line` is what it said when it was ready; `log`, its standard error."""

    def __init__(self, command: str, settings: Settings, log: Path) -> None:
        self.log = log
        with log.open("w") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "llm_mcp", command],
                env=child_environment(settings),
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
            )
        assert self._process.stdout is not None
        self.line = self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def stop(self) -> tuple[int, float]:
        """Tell it to stop; return its exit code and how long it took, s."""
        began_at = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=_START_S), time.monotonic() - began_at

    def kill(self) -> None:
        """End it with kill -9."""
        self._process.kill()
        self._process.wait()

    @property
    def ended(self) -> int:
        """Its exit code, once it has ended."""
        return self._process.wait(timeout=_START_S)
