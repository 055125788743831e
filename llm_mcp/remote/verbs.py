"""What workers do that come by a door, in any language: the same jobs and leases as those of our own.

A worker is known by its id and, once it has claimed, a lease by its token. Who gives no token speaks for the lease that
worker holds *now* on that job. What is written under a lease that ended changes nothing, and is told so. A worker by a
door has no session: that it lives is seen by its calls, and its leases tell when it is gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from llm_mcp import backoff, needs
from llm_mcp.config import LONGEST_LEASE_S
from llm_mcp.errors import InvalidInput, LeaseLost, TooLarge
from llm_mcp.job import Status
from llm_mcp.runtime import Runtime
from llm_mcp.store import devices
from llm_mcp.store import leases as rows
from llm_mcp.store import remote as leases
from llm_mcp.store.devices import Described
from llm_mcp.store.leases import Finished
from llm_mcp.store.listen import JOB_QUEUED
from llm_mcp.store.remote import Standing
from llm_mcp.store.reports import Measured

from . import reports, words
from .claims import Asked, Claimed, Claims
from .desk import Waiter
from .presence import Presence
from .streams import Appended, RemoteStreams

log = logging.getLogger(__name__)

CLAIM_S = 60.0
"""Length of a lease that was asked for without one, s."""
EXTEND_S = 30.0
"""The same of a heartbeat, s."""
LONGEST_WAIT_S = 60.0
"""How long a claim may wait for a job, s."""
_INT8 = 2**63
_NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Failed:
    """Where a job stands after a failure was told. `stale`: that changed nothing, for the lease had ended."""

    status: Status
    stale: bool = False


class Remote:
    """The verbs of workers that come by a door; one for a process. Safe for threads.

    Each raises InvalidInput naming the field, Unavailable, and where it names a job NotFound and LeaseLost.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._presence = Presence(runtime)
        self._streams = RemoteStreams(runtime)
        self._claims = Claims(runtime, self._presence)

    @classmethod
    def of(cls, runtime: Runtime) -> Remote:
        """Return that of a runtime."""
        return runtime.part("remote", cls)

    def register(self, device: Described) -> str:
        """Write down what a worker's machine says of itself and return its id: a new one when it has none.

        `device.tags` is the JSON text of an object.
        """
        worker_id = device.id if device.id.strip() else f"worker-{time.time_ns()}"
        for name in ("id", "name", "platform", "arch", "host"):
            words.check_text(f"worker.{name}", getattr(device, name))
        if len(device.tags.encode()) > words.MAX_FIGURES_BYTES:
            raise TooLarge(f"over {words.MAX_FIGURES_BYTES} bytes", field="worker.tags", code="body_too_large")
        devices.registered(self._runtime.db, replace(device, id=worker_id))
        return worker_id

    def metrics(self, device: Described, figures: Mapping[str, Any]) -> str:
        """Write down what a machine measured of itself, as `register` does what it says; return its id."""
        device_id = self.register(device)
        reports.metrics(self._runtime, device_id, figures)
        return device_id

    def benchmark(self, measured: Measured, *, meta: Any) -> None:
        """Write down how fast a model was on a machine. Raises NotFound for a machine that never registered."""
        reports.benchmark(self._runtime, measured, meta=meta)

    def benchmarks(self, *, limit: int = 20, model_id: str = "", device_id: str = "") -> list[Measured]:
        """Return up to `limit` measurements (200 at most), newest first; "": of any model, of any machine."""
        return reports.benchmarks(self._runtime, limit=limit, model_id=model_id, device_id=device_id)

    def offline(self, device_id: str, *, reason: str) -> None:
        """Write down that a machine is away. One we do not know is no mistake."""
        if not device_id.strip():
            raise InvalidInput("must not be blank", field="device_id", code="device_id_required")
        words.check_text("device_id", device_id)
        devices.offline(self._runtime.db, device_id, reason=words.clean(reason))

    def claim(
        self,
        worker_id: str,
        *,
        kinds: Sequence[str] = (),
        lease_s: float = 0.0,
        wait_s: float = 0.0,
        claim_id: UUID | None = None,
        waiter: Waiter | None = None,
    ) -> Claimed | None:
        """Lease the next job of these kinds (none given: of every kind), or return None when there is none.

        `lease_s`: for so many seconds, at most LONGEST_LEASE_S; 0 or less: CLAIM_S. `wait_s`: how long to wait for one,
        s; a `waiter` may be nudged to wait no longer. A `claim_id` that was used before brings the job it brought then,
        as long as that lease holds: a claim whose answer was lost is asked again with it.
        """
        words.check_worker(worker_id)
        words.check_kinds(kinds)
        if not 0 <= wait_s <= LONGEST_WAIT_S:
            raise InvalidInput(f"must be from 0 to {LONGEST_WAIT_S:g}", field="wait_s")
        asked = Asked(worker_id, tuple(dict.fromkeys(kinds)), words.lease_s(lease_s, CLAIM_S))
        return self._claims.claim(asked, waiter or Waiter(), wait_s=wait_s, claim_id=claim_id)

    def give_back(self, claimed: Claimed) -> None:
        """Let others have a job whose claimer left before it was answered; the try does not count. Never raises."""
        self._claims.give_back(claimed)

    def heartbeat(self, worker_id: str, job_id: UUID, *, extend_s: float = 0.0, token: int | None = None) -> float:
        """Have a lease last for `extend_s` seconds from now (0 or less: EXTEND_S) and return how long it lasts, s.

        It is never made shorter, nor longer than LONGEST_LEASE_S.
        """
        standing, held = self._standing(worker_id, job_id, token)
        if held is None:
            raise _lost(job_id, standing)
        lease_s = max(words.lease_s(extend_s, EXTEND_S), min(standing.lease_left_s, LONGEST_LEASE_S))
        if not rows.heartbeat(self._runtime.db, [(job_id, held)], lease_s=lease_s):
            raise _lost(job_id, self._standing(worker_id, job_id, token)[0])
        self._presence.heard(worker_id)
        return lease_s

    def complete(
        self, worker_id: str, job_id: UUID, *, result: Any, metrics: Mapping[str, Any], token: int | None = None
    ) -> list[str]:
        """Hand in a result, any JSON value, and the attempt's figures; saying it twice is fine.

        What no reader's JSON can carry is put into words rather than refused; returns warnings that say so. Raises
        TooLarge as well.
        """
        limit = self._runtime.settings.max_body_bytes
        text, warnings = words.lossy(result, "result", limit_bytes=limit)
        figures, more = words.lossy(metrics, "metrics", limit_bytes=words.MAX_FIGURES_BYTES)
        standing, held = self._standing(worker_id, job_id, token)
        if held is not None:
            turn = rows.turn(
                self._runtime.db,
                "",
                _NOBODY,
                kinds=[standing.kind],  # so that a place of a limited kind is told of
                n=0,
                lease_s=0.0,
                ageing_s=0.0,
                finished=[Finished(job_id, held, text, figures)],
                repeatable=True,
            )
            if turn.finished:
                log.info("job done", extra={"action": "job_done", "job_id": str(job_id), "worker_id": worker_id})
                self._told(worker_id, job_id, hint=turn.freed, token=held)
                needs.advance(self._runtime, turn.followed)
                return warnings + more
            standing, _ = self._standing(worker_id, job_id, held)
        if standing.attempt != ("done", None):
            raise _lost(job_id, standing)
        return warnings + more

    def fail(
        self,
        worker_id: str,
        job_id: UUID,
        *,
        error: str,
        metrics: Mapping[str, Any],
        token: int | None = None,
        retryable: bool = True,
        retry_after_s: float | None = None,
    ) -> Failed:
        """Report that an attempt failed and return where the job went: back to the queue, or its end.

        Saying it twice is fine. Without a token, a worker whose lease on this job ended is told where the job stands
        and that nothing was changed: it is the last thing such a worker says of a job, and has no other way to go.
        """
        figures, _ = words.lossy(metrics, "metrics", limit_bytes=words.MAX_FIGURES_BYTES)
        standing, held = self._standing(worker_id, job_id, token)
        if held is not None:
            with suppress(LeaseLost):
                status = rows.fail(
                    self._runtime.db,
                    job_id,
                    held,
                    error=words.clean(error) or "the worker gave no reason",
                    retryable=retryable,
                    delay_s=backoff.delay_s(standing.tries, at_least_s=retry_after_s),
                    metrics=figures,
                )
                log.warning(
                    "attempt failed",
                    extra={
                        "action": "job_failed",
                        "job_id": str(job_id),
                        "worker_id": worker_id,
                        "status": status.value,
                    },
                )
                self._told(worker_id, job_id, hint=True, token=held)
                if status is Status.ERROR:
                    needs.advance(self._runtime, [job_id])
                return Failed(status)
            standing, _ = self._standing(worker_id, job_id, held)
        if standing.attempt == ("error", "failed"):
            return Failed(standing.status)
        if standing.attempt is not None and token is None:
            return Failed(standing.status, stale=True)
        raise _lost(job_id, standing)

    def events(
        self, worker_id: str, job_id: UUID, items: Sequence[tuple[int, str, Any]], *, token: int | None = None
    ) -> Appended:
        """Add (number, type, data) items to the attempt's stream, all or none; repeating a batch changes nothing.

        Numbers begin with 1 and rise. Over its bounds the stream ends with an event that says so.
        """
        checked = self._streams.checked(items)
        standing, held = self._standing(worker_id, job_id, token)
        if held is None:
            raise _lost(job_id, standing)
        appended = self._streams.append(job_id, held, checked)
        if appended is None:
            raise _lost(job_id, self._standing(worker_id, job_id, token)[0])
        self._presence.heard(worker_id)
        return appended

    def _standing(self, worker_id: str, job_id: UUID, token: int | None) -> tuple[Standing, int | None]:
        """Return how the job stands to the worker, and the token of the lease it holds: None, it holds none."""
        words.check_worker(worker_id)
        if token is not None and not 0 < token < _INT8:
            raise InvalidInput("must be what the claim returned", field="lease_token")
        standing = leases.standing(self._runtime.db, job_id, worker_id, token)
        holds = standing.status is Status.RUNNING and standing.worker_id == worker_id
        return standing, standing.token if holds and token in (None, standing.token) else None

    def _told(self, worker_id: str, job_id: UUID, *, hint: bool, token: int) -> None:
        """An attempt is over: tell who watches the job, and, with a `hint`, who waits for one."""
        self._streams.forget(token)
        self._presence.heard(worker_id)
        self._runtime.announce(job_id)
        if hint:
            self._runtime.notifier.notify(JOB_QUEUED)


def _lost(job_id: UUID, standing: Standing) -> LeaseLost:
    return LeaseLost(f"job {job_id} is {standing.status}; this worker's lease on it ended")
