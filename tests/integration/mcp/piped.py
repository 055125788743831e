"""`llm-mcp mcp --stdio` as a process of its own, spoken to line by line."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from llm_mcp.config import Settings, child_environment

_START_S = 30.0
_HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}


class Piped:
    """A running bridge, which knows its client. `log` is what it said on standard error."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.log = log
        self._answers: dict[Any, dict[str, Any]] = {}
        with log.open("w") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "llm_mcp", "mcp", "--stdio"],
                env=child_environment(settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                bufsize=0,
            )
        self.ask(0, "initialize", _HELLO)
        assert self.answer(0)["result"]["serverInfo"]["name"] == "llm-mcp"
        self.tell("notifications/initialized")

    def __enter__(self) -> Piped:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def write(self, data: bytes) -> None:
        """Write bytes to it, all of them."""
        assert self._process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._process.stdin.fileno(), view) :]

    def ask(self, number: int, method: str, params: dict[str, Any]) -> None:
        """Send a request."""
        self._send({"id": number, "method": method, "params": params})

    def call(self, number: int, tool: str, **arguments: Any) -> None:
        """Send a call of a tool."""
        self.ask(number, "tools/call", {"name": tool, "arguments": arguments})

    def tell(self, method: str, **params: Any) -> None:
        """Send a notification."""
        self._send({"method": method, "params": params})

    def answer(self, number: int) -> dict[str, Any]:
        """Return the answer to a request, once it is there."""
        assert self._process.stdout is not None
        while number not in self._answers:
            line = self._process.stdout.readline()
            assert line, f"it ended: {self.log.read_text()}"
            message = dict(json.loads(line))
            if "method" not in message:
                self._answers[message.get("id")] = message
        return self._answers.pop(number)

    @property
    def untaken(self) -> int:
        """How many bytes it wrote that were not read here."""
        assert self._process.stdout is not None
        told = fcntl.ioctl(self._process.stdout.fileno(), termios.FIONREAD, bytes(4))
        return int.from_bytes(told, sys.byteorder)

    def close(self) -> None:
        """Close its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def hang_up(self) -> None:
        """Close its input and its output, as a client that is killed does."""
        for pipe in (self._process.stdout, self._process.stdin):
            assert pipe is not None
            pipe.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def ended(self) -> tuple[int, float]:
        """Return its exit code, and how long it took from now, s."""
        began_at = time.monotonic()
        return self._process.wait(timeout=_START_S), time.monotonic() - began_at

    def kill(self) -> None:
        """End it with kill -9."""
        self._process.kill()
        self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
