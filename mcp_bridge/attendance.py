"""Who waits for which job, and what becomes of a job that nobody waits for any more.

A caller who says that it does not want the answer has its job cancelled at once. One that just vanishes may have been
cut off, or have less patience than its model: its job goes on for a grace, and the same question asked again by the
same principal in that time gets the same job. A job somebody waits for is never given to a second, however equal
their questions: two who ask the same twice want two answers.

The core is told of the jobs that somebody waits for, and of those in their grace, so that they end even if this process
is killed (see presence.py). A job whose caller has its answer, or its id, goes on in its own right.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import orjson

from llm_mcp.errors import LlmMcpError

from .core import Core
from .presence import Presence

log = logging.getLogger(__name__)

# Telling the core of it may take so long, s: who is being stopped cannot wait for ever.
_CANCEL_S = 2.0


@dataclass(frozen=True, slots=True)
class _Left:
    """A job that its caller left: whose it is, what was asked, and what will cancel it."""

    principal: str
    question: str
    timer: asyncio.Task[None]


class Attendance:
    """Parameters: `core`, which gives the core; `grace_s`, how long a job goes on without its caller, s."""

    def __init__(self, core: Callable[[], Core], *, grace_s: float) -> None:
        self._core = core
        self._grace_s = grace_s
        self._waiting: Counter[str] = Counter()
        self._left: dict[str, _Left] = {}
        self._presence = Presence(core)

    def take_up(self, question: str) -> str:
        """Return the job whose caller vanished after this question, "" when there is none; it is then taken."""
        found = next((job_id for job_id, left in self._left.items() if left.question == question), "")
        self.keep(found)
        return found

    def keep(self, job_id: str) -> None:
        """Let a job go on that somebody has asked about."""
        left = self._left.pop(job_id, None)
        if left is not None:
            left.timer.cancel()
            self._let_go(job_id)

    @asynccontextmanager
    async def waiting(
        self, job_id: str, *, principal: str, question: str, unwanted: Callable[[], bool]
    ) -> AsyncIterator[None]:
        """Wait for a job while entered.

        Who is cancelled in it leaves the job: `unwanted` says then whether that was its caller's wish, in words.
        """
        self.keep(job_id)
        self._waiting[job_id] += 1
        self._presence.attend(job_id)
        cancelled = False
        try:
            yield
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            self._waiting[job_id] -= 1
            if self._waiting[job_id] <= 0:
                del self._waiting[job_id]
                if cancelled and (unwanted() or not self._grace_s):
                    await self._cancel(job_id, principal)
                elif cancelled:
                    timer = asyncio.get_running_loop().create_task(self._after_grace(job_id, principal))
                    self._left[job_id] = _Left(principal, question, timer)
                else:
                    self._let_go(job_id)

    async def close(self) -> None:
        """Cancel the jobs that were left and are in their grace: nobody will be here to do it later. Others go on."""
        left, self._left = self._left, {}
        for each in left.values():
            each.timer.cancel()
        with anyio.CancelScope(shield=True):  # each part of it takes so long at the most
            await asyncio.gather(*(self._cancel(job_id, each.principal) for job_id, each in left.items()))
            await self._presence.close()

    async def _after_grace(self, job_id: str, principal: str) -> None:
        await asyncio.sleep(self._grace_s)
        self._left.pop(job_id, None)
        await self._cancel(job_id, principal)

    async def _cancel(self, job_id: str, principal: str) -> None:
        with anyio.move_on_after(_CANCEL_S, shield=True):
            try:
                await self._core().cancel(job_id, principal=principal)
                log.info("a job that nobody waits for was cancelled", extra={"action": "job_left", "job_id": job_id})
            except LlmMcpError as error:  # finished meanwhile, or the core is away: its deadline ends it
                log.info("a job was left", extra={"action": "job_left", "job_id": job_id, "error": error.code})
        self._let_go(job_id)

    def _let_go(self, job_id: str) -> None:
        if job_id not in self._waiting:
            self._presence.let_go(job_id)


def question(principal: str, tool: str, arguments: Mapping[str, Any]) -> str:
    """Return what tells a question from others: who asks, and all that is asked."""
    whole = orjson.dumps([principal, tool, dict(arguments)], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(whole).hexdigest()
