"""PgQueuer: an async worker that claims in batches and logs ends in batches. Options: `driver`, `batch`."""

import asyncio
import contextlib
import json

import asyncpg
import psycopg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, PsycopgDriver
from pgqueuer.queries import Queries
from protocol import Driver, main


class PgQueuerDriver(Driver):
    run_async = staticmethod(uvloop.run)

    @contextlib.asynccontextmanager
    async def _connected(self):
        if self.options.get("driver") == "psycopg":
            async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
                yield PsycopgDriver(connection)
        else:
            connection = await asyncpg.connect(self.dsn)
            yield AsyncpgDriver(connection)
            await connection.close()

    def setup(self):
        async def install():
            async with self._connected() as driver:
                await Queries(driver).install()

        asyncio.run(install())

    @contextlib.asynccontextmanager
    async def sender(self):
        async with self._connected() as driver:
            queries = Queries(driver)

            def send(payloads):
                if len(payloads) == 1:
                    return queries.enqueue("nothing", json.dumps(payloads[0]).encode())
                texts = [json.dumps(payload).encode() for payload in payloads]
                return queries.enqueue(["nothing"] * len(texts), texts, [0] * len(texts))

            yield send

    def work(self, hit, go):
        async def run():
            async with self._connected() as driver:
                queue = PgQueuer(driver)

                @queue.entrypoint("nothing")
                async def nothing(job):
                    hit(json.loads(job.payload))

                go()
                await queue.run(batch_size=self.options.get("batch", 10))

        uvloop.run(run())


if __name__ == "__main__":
    main(PgQueuerDriver)
