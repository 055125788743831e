"""procrastinate: an async worker over psycopg 3, one statement for each claim and each end."""

import asyncio
import contextlib

import procrastinate
from protocol import Driver, main


class Procrastinate(Driver):
    def _app(self, hit):
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=self.dsn))

        @app.task(name="nothing")
        async def nothing(**payload):
            hit(payload)

        return app, nothing

    def setup(self):
        async def apply():
            app, _ = self._app(None)
            async with app.open_async():
                await app.schema_manager.apply_schema_async()

        asyncio.run(apply())

    @contextlib.asynccontextmanager
    async def sender(self):
        app, task = self._app(None)

        def send(payloads):
            if len(payloads) == 1:
                return task.defer_async(**payloads[0])
            return task.batch_defer_async(*payloads)

        async with app.open_async():
            yield send

    def work(self, hit, go):
        async def run():
            app, _ = self._app(hit)
            async with app.open_async():
                go()
                await app.run_worker_async(concurrency=self.threads, install_signal_handlers=False)

        asyncio.run(run())


if __name__ == "__main__":
    main(Procrastinate)
