"""Celery on Postgres by kombu's SQLAlchemy transport, with a pool of threads."""

import contextlib

from celery import Celery
from protocol import Driver, main


class CeleryDriver(Driver):
    def _task(self, hit):
        self.app = Celery("bench", broker=self.dsn.replace("postgresql://", "sqla+postgresql+psycopg2://", 1))
        self.app.conf.update(task_ignore_result=True, worker_enable_remote_control=False)

        @self.app.task(name="nothing")
        def nothing(payload):
            hit(payload)

        return nothing

    def setup(self):
        task = self._task(None)
        task.delay({"n": 0})
        with self.app.connection_for_write() as connection:
            connection.default_channel.queue_purge("celery")

    @contextlib.contextmanager
    def sender(self):
        task = self._task(None)
        yield lambda payloads: [task.delay(payload) for payload in payloads] and None

    def work(self, hit, go):
        self._task(hit)
        go()
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
        self.app.worker_main(["worker", "--pool", "threads", "--concurrency", str(self.threads), *quiet])


if __name__ == "__main__":
    main(CeleryDriver)
