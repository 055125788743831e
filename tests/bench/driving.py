"""A peer's driver as a child process: one JSON request in, JSON answers out."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from llm_mcp import config
from llm_mcp.child import follow_owner

from .environments import ROOT, command, python_of
from .roster import Peer

_TAIL = 5


class Broken(Exception):
    """A driver did not do what was asked; the message has its last words."""


class Driving:
    """One driver process, killed at the end: what it did is known by then. A context manager.

    Parameters: `asked`, the command (`setup`, `submit`, `pickup`, `work`); `request`, its line; `log`, the file its
    standard error goes to. Raises Skipped when the peer has no environment here.
    """

    def __init__(self, peer: Peer, asked: str, request: dict[str, Any], *, log: Path) -> None:
        self._name = f"{peer.name} {asked}"
        self._log = log
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [*command(peer, python_of(peer)), asked],
                env=_environment(log.parent),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=follow_owner(signal.SIGKILL),  # noqa: PLW1509 - prctl must run in the child; it takes no lock
            )
        threading.Thread(target=self._listen, daemon=True).start()
        self._say(json.dumps({**request, "options": dict(peer.options)}))

    def __enter__(self) -> Driving:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def answer(self, *, timeout_s: float) -> dict[str, Any]:
        """Return its next answer. Raises Broken when there is none within `timeout_s` seconds."""
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise Broken(f"{self._name}: no answer within {timeout_s:g} s{self._last_words()}") from None
        if answer is None:
            raise Broken(f"{self._name}: ended with {self._process.wait()}{self._last_words()}")
        return answer

    def go(self) -> None:
        """Let a worker that said it is ready begin."""
        self._say("go")

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is told by `answer`
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as said:
            for line in said:
                with contextlib.suppress(ValueError):  # a banner
                    self._answers.put(json.loads(line))
        self._answers.put(None)

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()[-_TAIL:]
        return "".join(f"\n    | {line}" for line in lines)


def _environment(scratch: Path) -> dict[str, str]:
    """Return an environment in which no setting of this machine reaches a driver."""
    settings = config.load(data_dir=scratch / "none", log_level="WARNING", log_format="json")
    unset = {"db_dsn": None, "db_direct_dsn": None}
    environment = config.child_environment(settings.model_copy(update=unset))
    environment.update(LLM_MCP_ENV_FILE="", PYTHONWARNINGS="ignore", PYTHONDONTWRITEBYTECODE="1")
    environment.pop("PYTHONPATH", None)
    return environment
