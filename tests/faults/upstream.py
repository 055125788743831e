"""The one who is called by `faults.call`: it sees who calls, and for how long."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType


@dataclass
class Call:
    """One call; instants are monotonic, s. `ended_at` is infinite while it goes on."""

    job_id: str
    attempt: int
    began_at: float
    ended_at: float = float("inf")
    answered: bool = False


class Upstream:
    """A context manager: listens on a Unix socket at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[Call] = []

    def __enter__(self) -> Upstream:
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.path))
        self._listening.listen(256)
        threading.Thread(target=self._accept, name="upstream", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def overlap_s(self) -> float:
        """Return the longest time for which two calls of one job went on together, s; negative when there was none."""
        by_job: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            by_job[call.job_id].append(call)
        return max(
            (
                earlier.ended_at - later.began_at
                for calls in by_job.values()
                for earlier, later in pairwise(sorted(calls, key=lambda call: call.began_at))
            ),
            default=float("-inf"),
        )

    def repeated(self) -> int:
        """Return how many calls were not the first of their job."""
        return len(self.calls) - len({call.job_id for call in self.calls})

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with line, contextlib.suppress(OSError):
            asked = json.loads(line.makefile().readline() or "null")
            if asked is None:
                return
            call = Call(asked["job"], asked["attempt"], time.monotonic())
            self.calls.append(call)
            try:
                gone, _, _ = select.select([line], [], [], asked["s"])
                if not gone:
                    line.sendall(b"x")
                    call.answered = True
            finally:
                call.ended_at = time.monotonic()
