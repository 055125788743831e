"""`llm-mcp rpc` as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from llm_mcp.config import Settings, child_environment

_START_S = 30.0


class Served:
    """A running gRPC door. `target` is where; `log` what it said on standard error."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.log = log
        with log.open("w") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "llm_mcp", "rpc"],
                env=child_environment(settings),
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
            )
        assert self._process.stdout is not None
        self.line = self._process.stdout.readline().strip()
        self.target = self.line.removeprefix("ready grpc://")

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

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
