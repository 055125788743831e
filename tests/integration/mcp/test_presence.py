"""A bridge that is killed leaves no job running for nobody; one that stops, or whose core does, loses none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import anyio.to_thread
import pytest

from llm_mcp.config import Settings
from llm_mcp.job import Submission
from llm_mcp.mcp_bridge import presence as presence_module
from llm_mcp.mcp_bridge.attendance import Attendance
from llm_mcp.mcp_bridge.core import Core
from llm_mcp.mcp_bridge.presence import Presence
from llm_mcp.mcp_bridge.tasks import EXTENSION
from tests.integration.mcp.attended import Watched
from tests.integration.mcp.piped import Piped
from tests.integration.mcp.seen.wire import Session
from tests.integration.mcp.served import Bridge
from tests.integration.rpc.served import Served
from tests.integration.web.played import Player
from tests.waiting import until

T = TypeVar("T")
_CHAT: dict[str, Any] = {"prompt": "x", "wait_s": 45}
_LONG_S = 600.0


@contextmanager
def by_http(settings: Settings, log: Path) -> Iterator[Any]:
    """Give a bridge that is asked over HTTP, and a call of it that waits for its job."""
    with Bridge(settings, log) as bridge, Session(bridge.url, "legacy").call("llm_chat", _CHAT):
        yield bridge


@contextmanager
def by_stdio(settings: Settings, log: Path) -> Iterator[Any]:
    """The same over standard input and output."""
    with Piped(settings, log) as bridge:
        bridge.call(1, "llm_chat", **_CHAT)
        yield bridge


@pytest.mark.parametrize("asked", [by_http, by_stdio])
def test_the_job_of_a_bridge_that_was_killed_is_cancelled(
    watched: Watched, player: Player, log: Path, asked: Any
) -> None:
    with watched.served() as target, asked(watched.before(target), log) as bridge:
        attempt = player.claim_soon("ollama.chat")
        watched.heard(attempt.job_id)
        bridge.kill()
        assert watched.cancelled(attempt.job_id)


@pytest.mark.parametrize("end", [Served.kill, Served.stop])
def test_a_bridge_says_to_a_core_that_is_back_for_whom_it_waits(
    watched: Watched, player: Player, log: Path, tmp_path: Path, end: Any
) -> None:
    first = Served(watched.settings.model_copy(update={"grpc_addr": "127.0.0.1:0"}), tmp_path / "rpc.log")
    with first, by_http(watched.before(first.target), log) as bridge:
        attempt = player.claim_soon("ollama.chat")
        time.sleep(0.5)  # the call is open
        end(first)
        with watched.served(first.target):
            watched.heard(attempt.job_id)
            assert watched.goes_on(attempt.job_id)
            bridge.kill()
            assert watched.cancelled(attempt.job_id)


def test_who_has_an_answer_or_a_handle_waits_no_more(watched: Watched, player: Player, log: Path) -> None:
    with watched.served() as target, Piped(watched.before(target), log) as bridge:
        bridge.call(1, "llm_chat", **_CHAT)
        first = player.claim_soon("ollama.chat")
        watched.heard(first.job_id)
        first.done({"response": "here"})
        assert bridge.answer(1)["result"]["structuredContent"]["text"] == "here"
        watched.heard(first.job_id, 0)
        bridge.call(2, "llm_chat", prompt="y", wait_s=1)
        second = player.claim_soon("ollama.chat")
        watched.heard(second.job_id)
        assert bridge.answer(2)["result"]["structuredContent"]["status"] == "running"
        watched.heard(second.job_id, 0)
        bridge.kill()
        assert watched.goes_on(second.job_id)


def test_a_task_or_a_submission_is_attended_by_nobody(watched: Watched, player: Player, log: Path) -> None:
    with watched.served() as target, Bridge(watched.before(target), log) as bridge:
        session = Session(bridge.url, "auto", capabilities={"extensions": {EXTENSION: {}}})
        with session.call("llm_chat", _CHAT) as call:
            assert call.result()["resultType"] == "task"
        task = player.claim_soon("ollama.chat")
        with Session(bridge.url, "legacy").call("llm_submit", _CHAT):
            submitted = player.claim_soon("ollama.chat")
            with Session(bridge.url, "legacy").call("llm_chat", _CHAT):
                waited = player.claim_soon("ollama.chat")
                watched.heard(waited.job_id)
                bridge.kill()
        assert watched.cancelled(waited.job_id)
        assert watched.goes_on(task.job_id)
        assert watched.goes_on(submitted.job_id)


def test_a_bridge_that_stops_cancels_nothing_its_callers_were_told_of(
    watched: Watched, player: Player, log: Path
) -> None:
    with watched.served() as target, by_http(watched.before(target), log) as bridge:
        attempt = player.claim_soon("ollama.chat")
        watched.heard(attempt.job_id)
        code, seconds = bridge.stop()
        assert (code, seconds < 3) == (0, True), log.read_text()
        watched.heard(attempt.job_id, 0)
        assert watched.goes_on(attempt.job_id)
    assert "Traceback" not in log.read_text()


def with_attendance(settings: Settings, ask: Callable[[Attendance], Awaitable[T]]) -> T:
    """Return what is done with the attendance of a bridge that then ends without a word."""

    async def run() -> T:
        async with Core(settings) as core:
            made = await ask(Attendance(lambda: core, grace_s=_LONG_S))
        await anyio.sleep(0.1)  # gRPC must not tell a loop that is closed of what was cut off
        return made

    return asyncio.run(run())


async def left(attendance: Attendance, watched: Watched, job_id: UUID) -> None:
    """Have somebody wait for a job, and vanish."""

    async def wait() -> None:
        async with attendance.waiting(str(job_id), principal="ann", question="q", unwanted=lambda: False):
            await anyio.sleep_forever()

    waiting = asyncio.create_task(wait())
    await anyio.to_thread.run_sync(watched.heard, job_id)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


def test_a_job_in_its_grace_ends_with_its_bridge(watched: Watched, kind: str) -> None:
    job_id = watched.jobs.submit(Submission(kind=kind, payload={}, principal="ann"))

    async def ask(attendance: Attendance) -> None:
        await left(attendance, watched, job_id)
        await anyio.sleep(0.3)  # long enough to say that nobody waits, which must not be said
        assert watched.callers(job_id) == 1

    with watched.served() as target:
        with_attendance(watched.before(target), ask)
        assert watched.cancelled(job_id)


@pytest.mark.parametrize("how", ["keep", "take_up", "close"])
def test_a_job_in_its_grace_that_somebody_asks_for_is_let_go(watched: Watched, kind: str, how: str) -> None:
    job_id = watched.jobs.submit(Submission(kind=kind, payload={}, principal="ann"))

    async def ask(attendance: Attendance) -> None:
        await left(attendance, watched, job_id)
        if how == "close":
            await attendance.close()
        else:
            getattr(attendance, how)(str(job_id) if how == "keep" else "q")
        await anyio.to_thread.run_sync(watched.heard, job_id, 0)

    with watched.served() as target:
        with_attendance(watched.before(target), ask)
        assert watched.cancelled(job_id) if how == "close" else watched.goes_on(job_id)


def test_what_was_let_go_last_is_said_before_the_end(watched: Watched, kind: str) -> None:
    job_id = watched.jobs.submit(Submission(kind=kind, payload={}))

    async def ask(attendance: Attendance) -> None:
        async with attendance.waiting(str(job_id), principal="ann", question="q", unwanted=lambda: False):
            await anyio.to_thread.run_sync(watched.heard, job_id)
        await attendance.close()

    with watched.served() as target:
        with_attendance(watched.before(target), ask)
        assert watched.goes_on(job_id)


class _Slow:
    """A call whose end takes a moment. `said` is what was written to it."""

    def __init__(self, ended: asyncio.Event) -> None:
        self.said: list[str] = []
        self._ended = ended
        self.closing = asyncio.Event()

    def add_done_callback(self, call: Any) -> None:
        """It ends when it is told to."""

    def done(self) -> bool:
        return False

    cancelled = cancel = done

    async def write(self, request: Any) -> None:
        self.said.append(request.job_id)

    async def done_writing(self) -> None:
        self.closing.set()

    def __await__(self) -> Any:
        return self._ended.wait().__await__()


def test_who_comes_while_a_call_ends_is_told_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_module, "_LINGER_S", 0.01)

    async def run() -> None:
        ended, calls = asyncio.Event(), []

        class Opening:
            def attend(self) -> _Slow:
                calls.append(_Slow(ended))
                return calls[-1]

        presence = Presence(Opening)
        presence.attend("x")
        await anyio.sleep(0)
        presence.let_go("x")
        await calls[0].closing.wait()
        presence.attend("y")
        ended.set()
        await anyio.sleep(0.1)
        assert calls[1].said == ["y"]
        await presence.close()

    asyncio.run(run())


def test_a_job_let_go_while_the_core_is_away_is_not_cancelled(watched: Watched, kind: str) -> None:
    watched.be_patient(30.0)
    job_id = watched.jobs.submit(Submission(kind=kind, payload={}))

    async def run() -> None:
        with ExitStack() as first:
            target = first.enter_context(watched.served())
            async with Core(watched.before(target)) as away:
                presence = Presence(lambda: away)
                presence.attend(str(job_id))
                await anyio.to_thread.run_sync(watched.heard, job_id)
                first.close()
                await anyio.to_thread.run_sync(until, lambda: watched.doomed(job_id))
                presence.let_go(str(job_id))
                with watched.served(target):
                    await anyio.to_thread.run_sync(until, lambda: not watched.doomed(job_id))
                    await presence.close()

    asyncio.run(run())
    watched.close()
    assert not watched.jobs.get(job_id).status.final


def test_it_holds_up_nothing_where_no_core_answers(watched: Watched) -> None:
    async def run() -> None:
        async with Core(watched.before("127.0.0.1:1")) as away:
            presence = Presence(lambda: away)
            presence.attend("x")
            await anyio.sleep(0.5)
            presence.let_go("x")
            presence.attend("y")
            began_at = time.monotonic()
            await presence.close()
            assert time.monotonic() - began_at < 0.9 * presence_module._END_S

    asyncio.run(run())
