"""Clients of a chaos run: they submit and cancel, and keep a history of what they asked and what they were told."""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from llm_mcp import Conflict, Jobs, LlmMcpError, Runtime, Submission, Unavailable, config

_AGAIN_S = 0.2
_PAUSE_S = (0.0, 0.8)
_MOST_IN_A_BATCH = 6
_CANCELLED_SHARE = 0.06
# A pill costs three workers; the rest must get something done in between.
_PILL_EVERY_S = 20.0


@dataclass
class Asked:
    """One job that a client wanted: what it is, and what it was told of it."""

    submission: Submission
    told: set[UUID] = field(default_factory=set)
    """Ids it was given, over all its calls: one."""
    calls: int = 0
    cancelling: bool = False
    """Whether a cancel was sent."""
    cancelled: bool = False
    """Whether it was told that its cancel ended the job."""

    @property
    def key(self) -> str:
        """The client's own name of it."""
        return str(self.submission.idempotency_key)


class Client(threading.Thread):
    """Submits jobs until told to stop, each until it is acknowledged; then sees its cancels through.

    Parameters: `name`, its source; `dsn`, its way to the database; `rng`, its taste; `pills`, whether it sends
    jobs that kill their worker.
    """

    def __init__(self, name: str, dsn: str, rng: random.Random, *, pills: bool) -> None:
        super().__init__(name=name, daemon=True)
        self.asked: list[Asked] = []
        self.fault = ""
        """What it was told that a client must never be told."""
        self._rng = rng
        self._jobs = Jobs(Runtime(config.load(db_dsn=dsn, db_pool_size=2)))
        self._stopping = threading.Event()
        self._cancels: list[tuple[float, int]] = []
        self._pill_at = time.monotonic() + 1.0 if pills else float("inf")

    def stop(self) -> None:
        """Want nothing new."""
        self._stopping.set()

    def run(self) -> None:
        """Be a client."""
        try:
            while not self._stopping.is_set():
                new = [self._draw() for _ in range(self._size())]
                self._submit(new)
                self._cancel_due(time.monotonic())
                self._stopping.wait(self._rng.uniform(*_PAUSE_S) * len(new) ** 0.5)
            self._cancel_due(float("inf"))
        except LlmMcpError as error:
            self.fault = f"{type(error).__name__}: {error}"
        finally:
            self._jobs.runtime.close()

    def _size(self) -> int:
        return 1 if self._rng.random() < 0.8 else self._rng.randint(2, _MOST_IN_A_BATCH)

    def _draw(self) -> Asked:
        key = f"{self.name}-{len(self.asked)}"
        asked = Asked(submission(key, self.name, self._rng, pill=time.monotonic() >= self._pill_at))
        if asked.submission.kind == "chaos.pill":
            self._pill_at = time.monotonic() + _PILL_EVERY_S
        elif self._rng.random() < _CANCELLED_SHARE:
            heapq.heappush(self._cancels, (time.monotonic() + self._rng.uniform(0.0, 2.0), len(self.asked)))
        self.asked.append(asked)
        return asked

    def _submit(self, new: Sequence[Asked]) -> None:
        while True:
            for asked in new:
                asked.calls += 1
            try:
                if len(new) == 1:
                    ids = [self._jobs.submit(new[0].submission)]
                else:
                    ids = self._jobs.submit_many([asked.submission for asked in new])
            except Unavailable:
                # It may have been written all the same: the keys make sure that it is not written twice.
                time.sleep(_AGAIN_S)
                continue
            for asked, job_id in zip(new, ids, strict=True):
                asked.told.add(job_id)
            return

    def _cancel_due(self, now: float) -> None:
        while self._cancels and self._cancels[0][0] <= now:
            asked = self.asked[heapq.heappop(self._cancels)[1]]
            (job_id,) = asked.told
            asked.cancelling = True
            while True:
                try:
                    asked.cancelled = self._jobs.cancel(job_id).status.final
                except Conflict:
                    pass  # it had ended, by an earlier call of ours perhaps
                except Unavailable:
                    time.sleep(_AGAIN_S)
                    continue
                break


def submission(key: str, source: str, rng: random.Random, *, pill: bool = False) -> Submission:
    """Draw one job: mostly short ones, some longer than a lease, some that fail, wait, hurry or go before others."""
    if pill:
        return Submission(
            kind="chaos.pill", payload={"n": key}, source=source, max_attempts=10, priority=9, idempotency_key=key
        )
    payload: dict[str, Any] = {"n": key, "deaf": rng.random() < 0.3, "silent": rng.random() < 0.5}
    payload["s"] = rng.uniform(*rng.choice([(0.0, 0.3), (0.0, 0.3), (0.0, 0.3), (0.3, 2.0), (1.0, 4.0)]))
    kind, attempts = "chaos.work", 10
    if rng.random() < 0.15:
        kind, attempts = "chaos.fail", 3
        payload |= {"fails": rng.randint(1, 3), "hopeless": rng.random() < 0.2, "s": rng.uniform(0.2, 2.0)}
    return Submission(
        kind=kind,
        payload=payload,
        source=source,
        max_attempts=attempts,
        priority=rng.choice([0, 0, 0, 0, 5, -5]),
        delay_s=rng.uniform(0.2, 3.0) if rng.random() < 0.15 else 0.0,
        deadline_at=datetime.now(UTC) + timedelta(seconds=rng.uniform(0.5, 5.0)) if rng.random() < 0.08 else None,
        idempotency_key=key,
    )
