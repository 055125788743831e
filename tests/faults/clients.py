"""Clients that want jobs, each until it is acknowledged, and remember what they were told."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

from llm_mcp import Jobs, LlmMcpError, Runtime, Submission, Unavailable, config
from tests.chaos.load import Asked
from tests.waiting import until

_AGAIN_S = 0.1


def wanted(
    key: str, kind: str = "chaos.work", *, s: float = 0.0, deaf: bool = False, pad: str = "", **fields: Any
) -> Asked:
    """Return a job that was not submitted yet; `pad` makes it large, `fields` are those of a submission."""
    fields = {"max_attempts": 10, "source": "faults", **fields}
    payload = {"n": key, "s": s, "deaf": deaf, **({"pad": pad} if pad else {})}
    return Asked(Submission(kind=kind, payload=payload, idempotency_key=key, **fields))


def submit(jobs: Jobs, new: Sequence[Asked], refused: Callable[[], None] = lambda: None) -> None:
    """Submit these as one batch, again until they are acknowledged; call `refused` whenever that could not be done."""
    while True:
        for asked in new:
            asked.calls += 1
        try:
            ids = jobs.submit_many([asked.submission for asked in new])
        except Unavailable:
            refused()
            time.sleep(_AGAIN_S)
            continue
        for asked, job_id in zip(new, ids, strict=True):
            asked.told.add(job_id)
        return


class Way(Protocol):
    """How a client submits."""

    def submit(self, asked: Asked, refused: Callable[[], None]) -> None:
        """Submit one job, again until it is acknowledged; call `refused` whenever that could not be done."""

    def close(self) -> None:
        """Be gone."""


class ByLibrary:
    """The library, with the database at this DSN."""

    def __init__(self, dsn: str) -> None:
        self._jobs = Jobs(Runtime(config.load(db_dsn=dsn, db_pool_size=2)))

    def submit(self, asked: Asked, refused: Callable[[], None]) -> None:
        """As `Way` says."""
        submit(self._jobs, [asked], refused)

    def close(self) -> None:
        """Close the database."""
        self._jobs.runtime.close()


class ByHttp:
    """The HTTP door at this URL. It may say 503 and when to come back, and nothing else."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/jobs"

    def submit(self, asked: Asked, refused: Callable[[], None]) -> None:
        """As `Way` says. Raises Unexpected."""
        given = asked.submission
        wanted_fields = {"kind": given.kind, "payload": given.payload, "max_attempts": given.max_attempts}
        request = urllib.request.Request(
            self._url,
            data=json.dumps({**wanted_fields, "source": given.source}).encode(),
            headers={"Content-Type": "application/json", "Idempotency-Key": asked.key},
        )
        while True:
            asked.calls += 1
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    asked.told.add(UUID(json.load(answer)["job_id"]))
                    return
            except urllib.error.HTTPError as error:
                with error:
                    if error.code != 503 or int(error.headers.get("Retry-After", "0")) < 1:
                        raise Unexpected(f"{error.code} {error.headers} {error.read()!r}") from None
            refused()
            time.sleep(_AGAIN_S)

    def close(self) -> None:
        """Nothing is open."""


class Unexpected(Exception):
    """A client was told what it must never be told."""


class Client(threading.Thread):
    """Submits one job after another until told to stop.

    Parameters: `name`, the first part of its keys; `way`, how it submits; `draw`, which makes its next job of a key;
     `every_s`, the pause between two; `limit`, how many it wants at most.
    """

    def __init__(
        self,
        name: str,
        way: Way,
        draw: Callable[[str], Asked],
        *,
        every_s: float = 0.1,
        limit: int | None = None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.asked: list[Asked] = []
        self.waits_s: list[float] = []
        """How long each acknowledgement took, s."""
        self.refused = 0
        """How often it was told Unavailable."""
        self.fault = ""
        """What it was told that a client must never be told."""
        self._way = way
        self._draw = draw
        self._every_s = every_s
        self._limit = limit
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Want nothing new."""
        self._stopping.set()

    def _refuse(self) -> None:
        self.refused += 1

    def run(self) -> None:
        """Be a client."""
        try:
            while not self._stopping.is_set() and len(self.asked) != self._limit:
                asked = self._draw(f"{self.name}-{len(self.asked)}")
                self.asked.append(asked)
                began_at = time.monotonic()
                self._way.submit(asked, self._refuse)
                self.waits_s.append(time.monotonic() - began_at)
                self._stopping.wait(self._every_s)
        except (LlmMcpError, Unexpected, OSError) as error:
            self.fault = f"{type(error).__name__}: {error}"
        finally:
            self._way.close()


def served(clients: Sequence[Client], more: int = 3) -> None:
    """Wait until each of these was acknowledged so many more jobs."""
    goals = [len(client.waits_s) + more for client in clients]
    until(lambda: all(len(client.waits_s) >= goal for client, goal in zip(clients, goals, strict=True)))


def refusals(clients: Sequence[Client], more: int = 1) -> Callable[[], bool]:
    """Return what says whether each of these was told Unavailable so many more times from now on."""
    goals = [client.refused + more for client in clients]
    return lambda: all(client.refused >= goal for client, goal in zip(clients, goals, strict=True))
