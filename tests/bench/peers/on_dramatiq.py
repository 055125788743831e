"""What all drivers of Dramatiq's brokers share: one actor, and the threads of `dramatiq.Worker`."""

import contextlib
import threading

import dramatiq
from protocol import Driver


class OnDramatiq(Driver):
    def make_broker(self):
        """Return the broker."""
        raise NotImplementedError

    @contextlib.contextmanager
    def sender(self):
        broker = self.make_broker()
        actor = dramatiq.actor(print, broker=broker, actor_name="nothing")

        def send(payloads):
            for payload in payloads:
                actor.send(payload)

        yield send
        broker.close()

    def work(self, hit, go):
        broker = self.make_broker()
        dramatiq.actor(hit, broker=broker, actor_name="nothing")
        worker = dramatiq.Worker(broker, worker_threads=self.threads)
        go()
        worker.start()
        threading.Event().wait()
