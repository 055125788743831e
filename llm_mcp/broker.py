"""Dramatiq's broker over our table: a message is a leased row.

Dramatiq gives us its threads, its actors and its middleware. The truth is the row: what it holds is claimed by one
statement, kept by heartbeats, and settled by a fenced write. Nothing is prefetched beyond free threads, nothing is
delayed in memory, and a retry is an UPDATE of the same row, never a copy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import dramatiq
from dramatiq.broker import Consumer, MessageProxy

from .claimer import Claimer
from .errors import InvalidInput, SetupError
from .job import Submission
from .jobs import Jobs
from .keeper import Keeper
from .middleware import Attempts, settle
from .run import Run
from .runtime import current
from .store.listen import JOB_QUEUED
from .wake import Wake

QUEUE = "jobs"
"""The one queue Dramatiq sees: one claimer a process, so that priority holds across all of ours."""
_OPTIONS = frozenset({"priority", "source", "max_attempts", "deadline_at", "idempotency_key"})


_NO_MESSAGE: dramatiq.Message[Any] = dramatiq.Message(
    queue_name=QUEUE, actor_name="", args=(), kwargs={}, options={}, message_id="", message_timestamp=0
)


class LeasedMessage(MessageProxy):
    """A message Dramatiq runs: the run it stands for. It has no arguments; the actor asks for its run."""

    queue_name = QUEUE
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012 - never written to, and one for all is the point
    options: dict[str, Any] = {}  # noqa: RUF012 - as above

    def __init__(self, run: Run) -> None:
        super().__init__(_NO_MESSAGE)
        self.run = run
        self.actor_name = run.lease.kind
        self.message_id = str(run.lease.job_id)


class LeaseBroker(dramatiq.Broker):
    """The broker. Making one connects to nothing; the runtime is asked for when a message is sent or consumed."""

    def __init__(self) -> None:
        super().__init__(middleware=[Attempts()])
        self.queues: set[str] = set()
        self.keeper: Keeper | None = None
        self.wake = Wake()

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
    """Dramatiq's end of the claimer. Used by its one consumer thread; ack and nack come from the worker threads.

    Nothing here raises for the database's sake: an exception would stop Dramatiq's consumer for seconds, and one
    while it closes would end it for good.
    """

    def __init__(self, broker: LeaseBroker, keeper: Keeper, *, timeout_s: float) -> None:
        self._wake = broker.wake
        self._keeper = keeper
        self._timeout_s = timeout_s
        self._ready: deque[Run] = deque()
        self._claimer = Claimer(keeper, kinds=lambda: sorted(broker.actors), wake=broker.wake)
        keeper.runtime.listener.add(JOB_QUEUED, "", broker.wake)

    def __next__(self) -> MessageProxy | None:
        """Return the next leased message, None when there was none for a while."""
        if not self._ready:
            self._ready.extend(self._claimer.turn())
        if self._ready:
            return LeasedMessage(self._ready.popleft())
        self._wake.wait(min(self._timeout_s, max(0.0, self._claimer.due_s())))
        return None

    def ack(self, message: MessageProxy) -> None:
        """Have the attempt's outcome written and its place freed."""
        if not isinstance(message, LeasedMessage):
            raise TypeError("not a message of this broker")
        settle(message.run, self._claimer, self._keeper)

    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give back leases whose work never began."""
        self._give_back([message.run for message in messages if isinstance(message, LeasedMessage)])

    def close(self) -> None:
        """Hand in what is finished, and give back what was claimed and not handed out."""
        self._keeper.runtime.listener.discard(JOB_QUEUED, "", self._wake)
        self._claimer.close()
        waiting = list(self._ready)
        self._ready.clear()
        self._give_back(waiting)

    def _give_back(self, runs: list[Run]) -> None:
        waiting = [run for run in runs if run.give_back()]
        self._keeper.release(waiting)
        self._keeper.drop(waiting)


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
