"""No queue at all: one table, and a loop that ends a batch and claims the next in one statement. The database's limit.

No retries, no leases, no order but that of the table, no wake-up; finished rows stay, as ours do.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from tests.bench.peers.protocol import Driver, Payload, Send, main

_BATCH = 50
_TABLES = """
CREATE TABLE bare (id bigserial PRIMARY KEY, state smallint NOT NULL DEFAULT 0, payload text NOT NULL)
  WITH (fillfactor = 70);
CREATE INDEX bare_waiting ON bare (id) WHERE state = 0;
"""
# The end comes first, so that no two sessions wait for each other; the array keeps the plan on the index.
_TURN = """
WITH done AS (UPDATE bare SET state = 2 WHERE id = ANY(%(done)s) RETURNING id),
     next AS MATERIALIZED (
       SELECT id FROM bare WHERE state = 0 AND id > %(after)s ORDER BY id
       LIMIT (SELECT %(batch)s + 0 * count(*) FROM done) FOR UPDATE SKIP LOCKED)
UPDATE bare SET state = 1 WHERE id = ANY(ARRAY(SELECT id FROM next)) RETURNING id, payload
"""


class Bare(Driver):
    """Sessions of psycopg, one a thread."""

    def setup(self) -> None:
        """Make the table."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(_TABLES)

    @contextmanager
    def sender(self) -> Iterator[Send]:
        """Give what inserts a row, or a batch of them in one statement."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:

            def send(payloads: list[Payload]) -> None:
                texts = [json.dumps(payload) for payload in payloads]
                connection.execute("INSERT INTO bare (payload) SELECT unnest(%s::text[])", [texts])

            yield send

    def work(self, hit: Callable[[Payload], None], go: Callable[[], None]) -> None:
        """Turn over batches in every thread until none is left."""
        connections = [psycopg.connect(self.dsn, autocommit=True) for _ in range(self.threads)]
        go()
        threads = [threading.Thread(target=_drain, args=(connection, hit)) for connection in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _drain(connection: psycopg.Connection, hit: Callable[[Payload], None]) -> None:
    done: list[int] = []
    after = 0
    while True:
        rows = connection.execute(_TURN, {"done": done, "after": after, "batch": _BATCH}).fetchall()
        if not rows and not done:
            return
        for _, text in rows:
            hit(json.loads(text))
        done = [number for number, _ in rows]
        after = max(done, default=after)


if __name__ == "__main__":
    main(Bare)
