"""Tells the core for which jobs somebody waits here: when we are killed, it cancels them, and none runs on for nobody.

One call is open for that while there is something to tell. What is told is a set and not its history: a call that is
opened anew says all of it, and so does one to a core that was restarted.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import anyio
import grpc

from llm_mcp.errors import LlmMcpError
from llm_mcp.rpc import llm_pb2 as pb

from .core import Core

log = logging.getLogger(__name__)

# A call with nothing to tell stays open for so long: the next question may come any moment, s.
_LINGER_S = 10.0
# A call that was cut is opened again after so long; one that was refused after so much, s.
_AGAIN_S, _REFUSED_S = 0.5, 10.0
# What was said before a call broke off may not have arrived: that nobody waits is said again for so long, s.
_UNSURE_S = 60.0
# The end of a call is waited for so long, s.
_END_S = 1.0
# gRPC still has something to tell of a call that was cancelled: for so long its loop must not be closed, s.
_SETTLE_S = 0.05


class Presence:
    """Parameter: `core`, which gives the core. Of one event loop; no method raises anything, or waits for the core."""

    def __init__(self, core: Callable[[], Core]) -> None:
        self._core = core
        self._attended: set[str] = set()
        self._news: set[str] = set()
        self._told: set[str] = set()
        self._let_go: dict[str, float] = {}  # by time: until when this is said to a new call
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._heard = False
        self._closing = False

    def attend(self, job_id: str) -> None:
        """Have the core cancel this job should we vanish."""
        self._attended.add(job_id)
        self._note(job_id)

    def let_go(self, job_id: str) -> None:
        """Have a job go on whatever becomes of us."""
        if job_id in self._attended:
            self._attended.remove(job_id)
            self._note(job_id)

    async def close(self) -> None:
        """Let all jobs go and say so, within a second."""
        self._news |= self._attended
        self._attended.clear()
        task, self._task = self._task, None
        if task is None:
            return
        self._closing = True
        self._changed.set()
        with anyio.CancelScope(shield=True):
            await asyncio.wait({task}, timeout=_END_S if self._heard else 0)
            task.cancel()
            await asyncio.wait({task})
        self._closing = False
        self._forget()

    def _note(self, job_id: str) -> None:
        self._news.add(job_id)
        self._changed.set()
        if self._task is None or self._task.done():
            # Made for one request it serves all: it is in nobody's name.
            self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())

    async def _run(self) -> None:
        while not self._closing and (self._attended or self._told or self._let_go):
            pause_s = _AGAIN_S
            try:
                await self._tell(self._core().attend())
                continue
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    pause_s = _REFUSED_S
                    log.info("who waits is not known", extra={"action": "unattended", "error": error.code().name})
            except (LlmMcpError, asyncio.InvalidStateError):  # closed; or it ended just when more was to be said
                pass
            self._heard = False
            await asyncio.sleep(pause_s)

    async def _tell(self, call: Any) -> None:
        """Say all there is, and each change, until there is nothing more to say or the call ends."""
        call.add_done_callback(lambda _: self._changed.set())
        here: set[str] = set()
        self._prune()
        self._news = self._attended | self._told | self._let_go.keys()
        anew = True
        try:
            while not call.done():
                self._changed.clear()
                news, self._news = self._news, set()
                for job_id in news:
                    await self._say(call, job_id, here, anew=anew)
                    self._heard = True
                anew = False
                if self._closing or not await self._more(math.inf if here else _LINGER_S):
                    break
            async with asyncio.timeout(_END_S):
                await call.done_writing()
                await call
            self._forget()
        except TimeoutError:
            pass
        finally:
            self._heard = False
            call.cancel()
            if call.cancelled():
                await asyncio.sleep(_SETTLE_S)

    async def _say(self, call: Any, job_id: str, here: set[str], *, anew: bool) -> None:
        wanted = job_id in self._attended
        if wanted is (job_id in here) and (wanted or not anew):
            return
        self._let_go.pop(job_id, None)
        if wanted:
            here.add(job_id)
            self._told.add(job_id)
        else:
            here.discard(job_id)
            self._told.discard(job_id)
            self._let_go[job_id] = time.monotonic() + _UNSURE_S
            self._prune()
        await call.write(pb.AttendRequest(job_id=job_id, left=not wanted))

    async def _more(self, wait_s: float) -> bool:
        """Wait until something changes; say whether it did in time."""
        with anyio.move_on_after(wait_s):
            await self._changed.wait()
            return True
        return False

    def _prune(self) -> None:
        """Forget whom we let go long enough ago."""
        now = time.monotonic()
        while self._let_go and (first := next(iter(self._let_go))) and self._let_go[first] < now:
            del self._let_go[first]

    def _forget(self) -> None:
        """Begin anew, after a call that ended well: all that was said has arrived."""
        self._told.clear()
        self._let_go.clear()
