"""Dramatiq's broker over our table: a message is a leased row.

Dramatiq gives us its threads, its actors and its middleware. The truth is the row: what it holds is claimed by one
statement, kept by heartbeats, and settled by a fenced write. Nothing is prefetched beyond free threads, nothing is
delayed in memory, and a retry is an UPDATE of the same row, never a copy.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import dramatiq
import uuid_utils.compat
from dramatiq.broker import Consumer, MessageProxy

from .errors import InvalidInput, SetupError, Unavailable
from .job import Lease, Submission
from .jobs import Jobs
from .keeper import Keeper
from .middleware import Attempts, settle
from .run import Run
from .runtime import current
from .store import jobs as rows
from .store.listen import JOB_QUEUED

log = logging.getLogger(__name__)

QUEUE = "jobs"
"""The one queue Dramatiq sees: one claimer a process, so that priority holds across all of ours."""
_OPTIONS = frozenset({"priority", "source", "max_attempts", "deadline_at", "idempotency_key"})


class LeasedMessage(MessageProxy):
    """A message Dramatiq runs: one lease, its run, and how to settle it."""

    def __init__(self, lease: Lease, run: Run) -> None:
        message: dramatiq.Message[Any] = dramatiq.Message(
            queue_name=QUEUE,
            actor_name=lease.kind,
            args=(),
            kwargs={},
            options={},
            message_id=str(lease.job_id),
            message_timestamp=0,
        )
        super().__init__(message)
        self.lease = lease
        self.run = run


class LeaseBroker(dramatiq.Broker):
    """The broker. Making one connects to nothing; the runtime is asked for when a message is sent or consumed."""

    def __init__(self) -> None:
        super().__init__(middleware=[Attempts()])
        self.queues: set[str] = set()
        self.keeper: Keeper | None = None
        self.wake = threading.Event()

    def declare_queue(self, queue_name: str) -> None:
        """Note that actors exist. Dramatiq sees one queue; a kind's own queue is a column of the row."""
        if QUEUE not in self.queues:
            self.emit_before("declare_queue", QUEUE)
            self.queues.add(QUEUE)
            self.emit_after("declare_queue", QUEUE)

    def get_declared_queues(self) -> set[str]:
        """Return the one queue, once there is an actor."""
        return self.queues.copy()

    def get_declared_delay_queues(self) -> set[str]:
        """Return nothing: a delay is the row's `run_at`."""
        return set()

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Submit the job a message stands for and return the message under the job's id.

        `delay` is in ms. Keyword arguments are the payload, or a single positional object is. Options: priority,
        source, max_attempts, deadline_at, idempotency_key. Raises what `Jobs.submit` raises, and InvalidInput for
        options or arguments that a row cannot carry.
        """
        unknown = sorted(set(message.options) - _OPTIONS)
        if unknown:
            raise InvalidInput(f"{message.actor_name}: this broker has no option {unknown[0]!r}", field=unknown[0])
        payload = _payload(message)
        self.emit_before("enqueue", message, delay)
        submission = Submission(
            kind=message.actor_name,
            payload=payload,
            delay_s=(delay or 0) / 1000,
            **{"source": "python", **message.options},
        )
        job_id = Jobs(current()).submit(submission)
        sent = message.copy(message_id=str(job_id))
        self.emit_after("enqueue", sent, delay)
        return sent

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Return the claimer of this process; `timeout` is in ms. `prefetch` is not wanted here."""
        if self.keeper is None:
            raise SetupError("attach a keeper before consuming (llm_mcp.worker does)")
        return LeaseConsumer(self, self.keeper, timeout_s=timeout / 1000)

    def flush(self, queue_name: str) -> None:
        """Refuse: rows are removed by cancel and prune, never in one stroke."""
        raise SetupError("a durable queue is not flushed; cancel jobs instead")

    def flush_all(self) -> None:
        """Refuse, as `flush` does."""
        self.flush(QUEUE)


class LeaseConsumer(Consumer):
    """Claims for free threads. Used by Dramatiq's one consumer thread; ack and nack come from the worker threads.

    Nothing here raises for the database's sake: an exception would stop Dramatiq's consumer for seconds, and one
    while it closes would end it for good.
    """

    def __init__(self, broker: LeaseBroker, keeper: Keeper, *, timeout_s: float) -> None:
        self._broker = broker
        self._keeper = keeper
        self._timeout_s = timeout_s
        self._ready: deque[LeasedMessage] = deque()
        self._unanswered: UUID | None = None
        self._look_at = 0.0
        keeper.runtime.listener.add(JOB_QUEUED, "", broker.wake)

    def __next__(self) -> MessageProxy | None:
        """Return the next leased message, None when there was none for a while."""
        if not self._ready and (self._broker.wake.is_set() or time.monotonic() >= self._look_at):
            self._broker.wake.clear()
            self._look()
        if self._ready:
            return self._ready.popleft()
        self._broker.wake.wait(min(self._timeout_s, max(0.0, self._look_at - time.monotonic())))
        return None

    def _look(self) -> None:
        poll_s = self._keeper.runtime.settings.poll_s
        self._look_at = time.monotonic() + poll_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        n = self._keeper.free
        if n == 0:
            return
        claimed_at = time.monotonic()
        try:
            leases = self._claim(n) if self._unanswered is None else self._recover(self._unanswered)
        except Unavailable as error:
            log.warning("cannot claim", extra={"action": "claim_failed", "error": str(error)})
            return
        except Exception:
            log.exception("cannot claim", extra={"action": "claim_failed"})
            return
        self._unanswered = None
        for lease in leases:
            self._ready.append(LeasedMessage(lease, self._keeper.hold(lease, claimed_at=claimed_at)))
            self._keeper.runtime.announce(lease.job_id)

    def _claim(self, n: int) -> list[Lease]:
        settings = self._keeper.runtime.settings
        self._unanswered = uuid_utils.compat.uuid7()
        return rows.claim(
            self._keeper.runtime.db,
            self._keeper.worker_id,
            self._unanswered,
            kinds=sorted(self._broker.actors),
            n=n,
            lease_s=settings.lease_s,
            ageing_s=settings.ageing_s,
        )

    def _recover(self, claim_id: UUID) -> list[Lease]:
        """Return what a claim took whose reply was lost."""
        db, lease_s = self._keeper.runtime.db, self._keeper.runtime.settings.lease_s
        leases = rows.claimed(db, self._keeper.worker_id, claim_id)
        # Nobody beat for these meanwhile: a renewal proves which still stand.
        held = rows.heartbeat(db, [(lease.job_id, lease.token) for lease in leases], lease_s=lease_s)
        self._broker.wake.set()  # that was no claim; look again at once
        return [lease for lease in leases if lease.token in held]

    def ack(self, message: MessageProxy) -> None:
        """Write what became of the attempt and free its place."""
        if not isinstance(message, LeasedMessage):
            raise TypeError("not a message of this broker")
        settle(message.run)
        self._keeper.drop(message.run)

    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give back leases whose work never began."""
        runs = [message.run for message in messages if isinstance(message, LeasedMessage)]
        if runs:
            self._keeper.release(runs)
            for run in runs:
                self._keeper.drop(run)

    def close(self) -> None:
        """Give back what was claimed and not handed out."""
        self._keeper.runtime.listener.discard(JOB_QUEUED, "", self._broker.wake)
        waiting = list(self._ready)
        self._ready.clear()
        self.requeue(waiting)


def _payload(message: dramatiq.Message[Any]) -> Any:
    if not message.args:
        return dict(message.kwargs)
    if len(message.args) == 1 and not message.kwargs:
        return message.args[0]
    raise InvalidInput(
        f"{message.actor_name}: send the payload's fields as keyword arguments, or one object", field="payload"
    )


broker = LeaseBroker()
"""The broker of all actors here. No I/O until it is used."""
