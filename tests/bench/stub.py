"""Dramatiq with its stub broker, in memory and in one process: the most that Dramatiq itself can do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dramatiq
from dramatiq.brokers.stub import StubBroker

from tests.bench.peers.protocol import Driver, Payload, Send, main, payload


class Stub(Driver):
    """Fills its own queue before the start: nothing outlives the process."""

    @contextmanager
    def sender(self) -> Iterator[Send]:
        """Give what submits a job."""
        actor = dramatiq.actor(broker=StubBroker())(_nothing)

        def send(payloads: list[Payload]) -> None:
            for one in payloads:
                actor.send(one)

        yield send

    def work(self, hit: Callable[[Payload], None], go: Callable[[], None]) -> None:
        """Run what lies in the queue."""
        broker = StubBroker()
        actor = dramatiq.actor(broker=broker, actor_name="nothing")(hit)
        for n in range(self.jobs):
            actor.send(payload(n))
        worker = dramatiq.Worker(broker, worker_threads=self.threads)
        go()
        worker.start()
        threading.Event().wait()


def _nothing(payload: Payload) -> None:
    """Do nothing."""


if __name__ == "__main__":
    main(Stub)
