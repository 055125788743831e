"""huey on Postgres: threads of one consumer, one statement for each job it takes."""

import contextlib

from huey import PostgresHuey
from protocol import Driver, main


class HueyDriver(Driver):
    def _task(self, hit):
        self.huey = PostgresHuey("bench", dsn=self.dsn, results=False)

        @self.huey.task(name="nothing")
        def nothing(payload):
            hit(payload)

        return nothing

    def setup(self):
        self._task(None)
        self.huey.storage.initialize_schema()

    @contextlib.contextmanager
    def sender(self):
        task = self._task(None)
        yield lambda payloads: [task(payload) for payload in payloads] and None

    def work(self, hit, go):
        self._task(hit)
        consumer = self.huey.create_consumer(workers=self.threads, worker_type="thread", periodic=False)
        go()
        consumer.run()


if __name__ == "__main__":
    main(HueyDriver)
