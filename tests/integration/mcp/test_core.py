"""The core from afar: what is asked comes back, in the words we have for it, and no call outlives who asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from llm_mcp.config import Settings
from llm_mcp.errors import Conflict, InvalidInput, KeyReused, NotFound, SetupError, Unavailable
from llm_mcp.mcp_bridge.core import Core, Stopping
from tests.integration.rpc.served import Served
from tests.integration.web.played import Player

T = TypeVar("T")
_ANN, _BOB = "ann", "bob"


def asked(settings: Settings, ask: Callable[[Core], Awaitable[T]]) -> T:
    """Return what a question to the core brings."""

    async def run() -> T:
        async with Core(settings) as core:
            return await ask(core)

    return asyncio.run(run())


def test_a_job_from_submission_to_text(bridge_settings: Settings, player: Player, kind: str) -> None:
    async def ask(core: Core) -> None:
        job_id = (await core.submit(kind, {"n": 1}, principal=_ANN, deadline_s=60, priority=2))[0].id
        job, text = await core.job(job_id, principal=_ANN)
        assert (job.status, job.source, job.priority, text) == ("queued", "mcp", 2, "")
        assert job.deadline_at
        attempt = await asyncio.to_thread(player.claim, job_id, kind)
        await asyncio.to_thread(attempt.say, "a", "b")
        assert (await core.job(job_id, principal=_ANN, text=True))[1] == "ab"
        waiting = asyncio.create_task(core.job(job_id, principal=_ANN, wait_s=30))
        await asyncio.to_thread(attempt.done, {"response": "abc"})
        assert (await waiting)[0].status == "done"
        with pytest.raises(Conflict):
            await core.cancel(job_id, principal=_ANN)

    asked(bridge_settings, ask)


def test_a_submission_is_waited_for_where_that_is_asked(bridge_settings: Settings, player: Player, kind: str) -> None:
    async def ask(core: Core) -> None:
        assert (await core.submit(kind, {}, principal=_ANN))[0].status == ""
        job, _ = await core.submit(kind, {}, principal=_ANN, wait_s=0)
        assert (job.status, job.payload_json) == ("queued", "{}")
        other = f"{kind}.waited"
        waiting = asyncio.create_task(core.submit(other, {}, principal=_ANN, wait_s=30))
        attempt = await asyncio.to_thread(player.claim_soon, other)
        assert not waiting.done()
        await asyncio.to_thread(attempt.done, {"response": "abc"})
        job, said = await waiting
        assert (job.status, said) == ("done", "abc")

    asked(bridge_settings, ask)


def test_each_sees_its_own(bridge_settings: Settings, kind: str) -> None:
    async def ask(core: Core) -> None:
        ann = (await core.submit(kind, {}, principal=_ANN, idempotency_key="k"))[0].id
        bob = (await core.submit(kind, {}, principal=_BOB, idempotency_key="k"))[0].id
        assert ann != bob
        assert (await core.submit(kind, {}, principal=_ANN, idempotency_key="k"))[0].id == ann
        with pytest.raises(KeyReused):
            await core.submit(kind, {"x": 1}, principal=_ANN, idempotency_key="k")
        for reach in (core.job, core.cancel):
            with pytest.raises(NotFound):
                await reach(ann, principal=_BOB)
        with pytest.raises(NotFound):
            async with aclosing(core.events(ann, principal=_BOB)) as events:
                await anext(events)
        assert [job.id for job in (await core.jobs(principal=_BOB, kind=kind))[0]] == [bob]
        everything, cursor = await core.jobs(principal="local", kind=kind, limit=1)
        assert [job.id for job in everything] == [bob]
        assert [job.id for job in (await core.jobs(principal="local", kind=kind, cursor=cursor))[0]] == [ann]
        assert (await core.cancel(ann, principal=_ANN)).reason == "cancelled"

    asked(bridge_settings, ask)


def test_refusals_name_the_field(bridge_settings: Settings, kind: str) -> None:
    async def ask(core: Core) -> None:
        for fields, field in (({"deadline_at": "soon"}, "deadline_at"), ({"kind": ""}, "kind")):
            with pytest.raises(InvalidInput) as caught:
                await core.submit(**{"kind": kind, "payload": {}, "principal": _ANN, **fields})
            assert caught.value.field == field
        with pytest.raises(InvalidInput) as caught:
            await core.submit(kind, {"x": float("nan")}, principal=_ANN)
        assert caught.value.field == "payload.x"
        with pytest.raises(InvalidInput) as caught:
            await core.jobs(principal=_ANN, cursor="nonsense")
        assert caught.value.field == "cursor"
        assert await core.models() == []
        assert isinstance(await core.devices(), list)
        assert await core.benchmarks() == []

    asked(bridge_settings, ask)


def test_a_core_that_is_away_is_told_at_once(bridge_settings: Settings, kind: str) -> None:
    async def ask(core: Core) -> None:
        async with asyncio.timeout(5):
            for _ in range(3):
                with pytest.raises(Unavailable, match="llm-mcp up") as caught:
                    await core.job(kind, principal=_ANN, wait_s=30)
                assert "127.0.0.1" not in str(caught.value)
            with pytest.raises(Unavailable):
                async with aclosing(core.events(kind, principal=_ANN)) as events:
                    await anext(events)

    asked(bridge_settings.model_copy(update={"grpc_addr": "127.0.0.1:1"}), ask)


def test_who_is_cancelled_by_a_scope_is_cancelled_by_no_more_than_that(
    bridge_settings: Settings, player: Player, kind: str
) -> None:
    """gRPC raises an error of its own, which a scope must know for its own: else all around it ends too."""

    async def ask(core: Core) -> None:
        job_id = (await core.submit(kind, {}, principal=_ANN))[0].id

        async def watch() -> None:
            async with aclosing(core.events(job_id, principal=_ANN)) as events:
                async for _ in events:
                    pass

        for wait in (lambda: core.job(job_id, principal=_ANN, wait_s=30), watch):
            with anyio.move_on_after(0.2) as scope:
                await wait()
            assert scope.cancelled_caught
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
        for n in range(50):  # at any moment of a short call
            with anyio.move_on_after(n * 0.0001):
                await core.job(job_id, principal=_ANN)
        await asyncio.to_thread(player.claim(job_id, kind).done, {})

    asked(bridge_settings, ask)


def test_a_stop_ends_what_waits_and_nothing_else(bridge_settings: Settings, kind: str) -> None:
    async def ask(core: Core) -> None:
        job_id = (await core.submit(kind, {}, principal=_ANN))[0].id
        events = core.events(job_id, principal=_ANN)
        assert (await anext(events)).message == "queued"

        async def rest() -> None:
            async for _ in events:
                pass

        waits = [asyncio.create_task(core.job(job_id, principal=_ANN, wait_s=30)), asyncio.create_task(rest())]
        cancelled = asyncio.create_task(core.job(job_id, principal=_ANN, wait_s=30))
        while len(core._waiting) < 3:
            await asyncio.sleep(0.01)
        cancelled.cancel()
        core.stop()
        async with asyncio.timeout(5):
            for wait in waits:
                with pytest.raises(Stopping):
                    await wait
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            with pytest.raises(Stopping):
                await core.job(job_id, principal=_ANN, wait_s=30)
            assert (await core.job(job_id, principal=_ANN))[0].status == "queued"

    asked(bridge_settings, ask)


def test_calls_can_be_encrypted(
    rpc_settings: Settings, bridge_settings: Settings, tmp_path: Path, certificate: tuple[Path, Path], kind: str
) -> None:
    trusted, key = certificate
    changed = {"grpc_certificate": trusted, "grpc_key": key}
    with Served(rpc_settings.model_copy(update=changed), tmp_path / "rpc.log") as door:
        plain = bridge_settings.model_copy(update={"grpc_addr": door.target})
        for way in ({"core_certificate": trusted}, {"grpc_certificate": trusted}):
            assert asked(plain.model_copy(update=way), lambda core: core.submit(kind, {}, principal=_ANN))
        with pytest.raises(Unavailable):
            asked(plain, lambda core: core.submit(kind, {}, principal=_ANN))
        with pytest.raises(SetupError, match="LLM_MCP_CORE_CERTIFICATE: cannot read"):
            asked(plain.model_copy(update={"core_certificate": tmp_path / "none"}), lambda core: core.models())
