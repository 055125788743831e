"""The pool's connections, and what becomes of them when a pooler stands between us and Postgres."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

T = TypeVar("T")

_LOCK_TIMEOUT = "2s"
_STATEMENT_TIMEOUT = "30s"
# The same where no setting of ours lasts: a pooler without a server lets its clients wait for minutes.
_ANSWER_S = 30.0
_PREPARE_AFTER = 0  # runs of a statement: a turn takes longer to plan than to run


class PoolConnection(psycopg.Connection[Any]):
    """One of the pool's. `shared`: its session at the server may be a pooler's; then nothing is prepared in it, no
    setting is left in it, and we ourselves close it when it has waited for an answer for 30 s."""

    shared = False

    def share(self) -> None:
        """Use it so from now on."""
        self.shared, self.prepare_threshold = True, None

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """Wait as psycopg does, but not for ever. Raises QueryCanceled."""
        if self.shared:
            gen = self._within(gen, time.monotonic() + _ANSWER_S)
        return super().wait(gen, *args, **kwargs)

    def _within(self, gen: Generator[Any, Any, T], end: float) -> Generator[Any, Any, T]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted  # nothing is ready: a tenth of a second went by
                if not ready and time.monotonic() >= end:
                    self.pgconn.finish()
                    raise psycopg.errors.QueryCanceled(f"no answer within {_ANSWER_S:g} s")
                wanted = gen.send(ready)
        except StopIteration as over:
            answer: T = over.value
            return answer


def _find_out(conn: PoolConnection) -> None:
    """See whether a pooler stands between: then another backend answers than the one that let us in.

    A prepared statement would be looked for in somebody else's session: there may be none of its name, or another one.
    """
    conn.share()
    row = conn.execute("SELECT pg_backend_pid()").fetchone()
    if row is not None and row[0] == conn.info.backend_pid:
        _own(conn)


def _own(conn: PoolConnection) -> None:
    """Set up a session of ours: its plans are kept, and every wait is bounded, for somebody's open transaction must not
    hold up all who come after."""
    conn.shared, conn.prepare_threshold = False, _PREPARE_AFTER
    # A turn takes longer to plan than to run, and its plan is the same for all values (the tests see to that).
    # It lasts until Postgres counts the tables' rows again: made while they were all but empty, it would read them from
    # end to end, a minute long and longer, were it not told to take an index. To compile one takes longer than to plan
    # it: a Postgres that can would, from so many jobs on, each time it is run.
    conn.execute(
        f"SET lock_timeout = '{_LOCK_TIMEOUT}'; SET statement_timeout = '{_STATEMENT_TIMEOUT}';"
        " SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off",
        prepare=False,
    )


CONFIGURE = {None: _find_out, True: PoolConnection.share, False: _own}
"""What is done to a new connection: by whether it is known to be a pooler's, None: unknown."""
