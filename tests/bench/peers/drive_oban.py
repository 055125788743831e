"""Oban for Python: an async worker over psycopg 3. Option: `limit`, its jobs at once (default: as many as threads)."""

import asyncio
import contextlib

import uvloop
from oban import Oban, worker
from oban.schema import install
from protocol import Driver, main


class ObanDriver(Driver):
    run_async = staticmethod(uvloop.run)

    def _kind(self, hit):
        @worker(queue="default")
        class Nothing:
            async def process(self, job):
                hit(job.args)

        return Nothing

    def setup(self):
        async def make():
            pool = await Oban.create_pool(self.dsn)
            await install(pool)
            await pool.close()

        uvloop.run(make())

    @contextlib.asynccontextmanager
    async def sender(self):
        pool = await Oban.create_pool(self.dsn)
        oban = Oban(pool=pool)
        kind = self._kind(None)

        def send(payloads):
            if len(payloads) == 1:
                return oban.enqueue(kind.new(payloads[0]))
            return oban.enqueue_many([kind.new(payload) for payload in payloads])

        yield send
        await pool.close()

    def work(self, hit, go):
        async def run():
            self._kind(hit)
            pool = await Oban.create_pool(self.dsn)
            go()
            async with Oban(pool=pool, queues={"default": self.options.get("limit", self.threads)}):
                await asyncio.Event().wait()

        uvloop.run(run())


if __name__ == "__main__":
    main(ObanDriver)
