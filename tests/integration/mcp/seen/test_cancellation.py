"""Who leaves, and what becomes of the job: an order ends it at once, a vanished caller's goes on for a grace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import anyio
import pytest
from mcp import Client
from mcp.client._memory import InMemoryTransport

from llm_mcp.config import Settings
from llm_mcp.jobs import Jobs
from llm_mcp.mcp_bridge.app import create_app
from llm_mcp.mcp_bridge.attendance import Attendance, question
from llm_mcp.mcp_bridge.principal import LOCAL
from llm_mcp.rpc import llm_pb2 as pb
from llm_mcp.runtime import Runtime
from tests.integration.mcp.seen.stage import Make, Stage, staged, told
from tests.integration.mcp.seen.wire import Session
from tests.integration.mcp.served import Place, in_thread
from tests.integration.web.played import Attempt, Player
from tests.waiting import until

LONG_S = 600.0


async def gone(call: asyncio.Task[Any]) -> None:
    """Have who waits for a call vanish."""
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


@pytest.fixture
def make_direct(bridge_settings: Settings, player: Player) -> Make:
    """Make a stage whose clients call the server with no message between: one that is cancelled just vanishes."""
    return lambda **changed: staged(bridge_settings.model_copy(update=changed), player, "auto")


@pytest.mark.anyio
async def test_an_order_to_cancel_ends_the_job_at_once(make: Make) -> None:
    async with make(mcp_abandon_grace_s=LONG_S) as stage:
        prompt = uuid4().hex
        async with Client(InMemoryTransport(stage.server), mode=stage.era) as client:
            call = stage.begin(client.call_tool("llm_chat", {"prompt": prompt}))
            attempt = await stage.claimed("ollama.chat", prompt)
            began_at = time.monotonic()
            await gone(call)  # the client says so in a message
            job = await stage.ended(str(attempt.job_id))
        assert (job.status, job.reason) == ("error", "cancelled")
        assert time.monotonic() - began_at < 2


@pytest.mark.anyio
async def test_a_vanished_callers_job_goes_on_for_a_grace(make_direct: Make) -> None:
    async with make_direct(mcp_abandon_grace_s=1.0) as stage, stage.client() as client:
        call, attempt = await asked(stage, client, uuid4().hex)
        left_at = time.monotonic()
        await gone(call)
        assert (await stage.job(str(attempt.job_id))).status == "running"
        job = await stage.ended(str(attempt.job_id))
        assert (job.status, job.reason) == ("error", "cancelled")
        assert time.monotonic() - left_at >= 0.9


@pytest.mark.anyio
async def test_the_same_question_again_in_the_grace_gets_the_same_job(make_direct: Make) -> None:
    async with make_direct(mcp_abandon_grace_s=1.0) as stage, stage.client() as client:
        prompt = uuid4().hex
        call, attempt = await asked(stage, client, prompt)
        await gone(call)
        again = stage.begin(client.call_tool("llm_chat", {"prompt": prompt, "wait_s": 40}))
        await anyio.sleep(1.3)  # past the grace: nothing may happen
        attempt.done({"response": "here"})
        result = await again
        assert (told(result)["job_id"], told(result)["text"]) == (str(attempt.job_id), "here")
        # It is given out once.
        third = await client.call_tool("llm_chat", {"prompt": prompt, "wait_s": 0})
        assert told(third)["job_id"] != str(attempt.job_id)
        await stage.core.cancel(told(third)["job_id"], principal="local")


@pytest.mark.anyio
async def test_two_who_ask_the_same_get_two_jobs(stage: Stage) -> None:
    prompt = uuid4().hex
    async with stage.client() as client:
        calls = [stage.begin(client.call_tool("llm_chat", {"prompt": prompt})) for _ in range(2)]
        attempts = [await stage.claimed("ollama.chat", prompt) for _ in calls]
        for attempt in attempts:
            attempt.done({"response": str(attempt.job_id)})
        results = [told(await call) for call in calls]
    assert len({result["job_id"] for result in results}) == 2


@pytest.mark.anyio
async def test_another_question_does_not_get_it(make_direct: Make) -> None:
    async with make_direct(mcp_abandon_grace_s=LONG_S) as stage, stage.client() as client:
        prompt = uuid4().hex
        call, attempt = await asked(stage, client, prompt)
        await gone(call)
        other = await client.call_tool("llm_chat", {"prompt": prompt, "temperature": 0, "wait_s": 0})
        assert told(other)["job_id"] != str(attempt.job_id)
        await stage.core.cancel(told(other)["job_id"], principal="local")


@pytest.mark.anyio
async def test_who_asks_for_a_job_by_its_id_keeps_it(make_direct: Make) -> None:
    async with make_direct(mcp_abandon_grace_s=0.5) as stage, stage.client() as client:
        call, attempt = await asked(stage, client, uuid4().hex)
        await gone(call)
        await client.call_tool("llm_job_status", {"job_id": str(attempt.job_id)})
        await anyio.sleep(1.0)  # past the grace: nothing may happen
        assert (await stage.job(str(attempt.job_id))).status == "running"
        attempt.done({"response": ""})


@pytest.mark.anyio
async def test_who_only_asks_how_a_job_fares_ends_nothing(make: Make) -> None:
    async with make(mcp_abandon_grace_s=0.0) as stage:
        async with Client(InMemoryTransport(stage.server), mode=stage.era) as client:
            job_id = told(await client.call_tool("llm_submit", {"prompt": "x"}))["job_id"]
            attempt = await stage.claimed("ollama.chat", "x")
            heard = anyio.Event()

            async def hear(progress: float, total: float | None, message: str | None) -> None:
                heard.set()

            arguments = {"job_id": job_id, "wait_s": 40}
            call = stage.begin(client.call_tool("llm_job_status", arguments, progress_callback=hear))
            await heard.wait()
            await gone(call)
            # What would end it was asked before this.
            await client.call_tool("llm_jobs", {})
        assert (await stage.job(job_id)).status == "running"
        attempt.done({"response": ""})


@pytest.mark.anyio
async def test_a_bridge_that_ends_leaves_no_job_in_its_grace(make: Make) -> None:
    async with make(mcp_abandon_grace_s=LONG_S) as stage:
        async with Client(InMemoryTransport(stage.server), mode=stage.era) as client:
            call, attempt = await asked(stage, client, uuid4().hex)
        # The server, in this process, ends with its client, who said nothing.
        await gone(call)
        assert (await stage.ended(str(attempt.job_id))).reason == "cancelled"


@pytest.mark.anyio
async def test_a_job_others_wait_for_is_not_ended_by_one_who_leaves(stage: Stage) -> None:
    attendance = Attendance(lambda: stage.core, grace_s=0.0)
    job_id = (await stage.core.submit("echo", {}, principal=LOCAL.name))[0].id

    async def wait() -> None:
        asked = question("a", "b", {})
        async with attendance.waiting(job_id, principal=LOCAL.name, question=asked, unwanted=lambda: True):
            await anyio.sleep_forever()

    one, two = stage.begin(wait()), stage.begin(wait())
    await anyio.sleep(0)
    await gone(one)
    assert (await stage.job(job_id)).status == "queued"
    await gone(two)
    assert (await stage.job(job_id)).reason == "cancelled"
    await attendance.close()


@pytest.mark.anyio
async def test_a_job_written_for_a_caller_who_just_left_is_ended_too(make: Make) -> None:
    async with make(mcp_abandon_grace_s=LONG_S) as stage:
        submit, written = stage.core.submit, asyncio.Event()
        ids = []

        async def slowly(*args: Any, **kwargs: Any) -> tuple[pb.Job, str]:
            job, said = await submit(*args, **kwargs)
            ids.append(job.id)
            written.set()
            await anyio.sleep(0.3)
            return job, said

        stage.core.submit = slowly
        async with Client(InMemoryTransport(stage.server), mode=stage.era) as client:
            call = stage.begin(client.call_tool("llm_chat", {"prompt": "x"}))
            await written.wait()
            await gone(call)
            assert (await stage.ended(ids[0])).reason == "cancelled"


@pytest.fixture
def place(bridge_settings: Settings) -> Iterator[Place]:
    """A bridge over HTTP with a grace of a second."""
    with in_thread(create_app(bridge_settings.model_copy(update={"mcp_abandon_grace_s": 1.0}))) as made:
        yield made


def test_over_http_who_hangs_up_has_vanished_and_who_says_so_has_cancelled(
    place: Place, era: str, player: Player, runtime: Runtime
) -> None:
    jobs = Jobs(runtime)
    session = Session(place.url, era)
    with session.call("llm_chat", {"prompt": "x"}) as call:
        attempt = claimed(player)
        left_at = time.monotonic()
        if era == "auto":
            call.hang_up()  # of this protocol the only way to cancel
        else:
            session.tell("notifications/cancelled", {"requestId": call.id})
        until(lambda: jobs.get(attempt.job_id).status.final)
        job = jobs.get(attempt.job_id)
    took_s = time.monotonic() - left_at
    assert job.reason == "cancelled"
    assert (took_s >= 0.9) is (era == "auto")


def test_of_the_older_protocol_hanging_up_is_no_cancellation(place: Place, player: Player, runtime: Runtime) -> None:
    jobs, session = Jobs(runtime), Session(place.url, "legacy")
    with session.call("llm_chat", {"prompt": "x"}):
        attempt = claimed(player)
    time.sleep(1.5)  # past the grace: nothing may happen
    assert not jobs.get(attempt.job_id).status.final
    # What ends is the session: then nobody waits any more.
    session.end()
    assert until(lambda: jobs.get(attempt.job_id).reason) == "cancelled"


async def asked(stage: Stage, client: Client, prompt: str) -> tuple[asyncio.Task[Any], Attempt]:
    """Have a client ask, and return its call and the attempt at its job."""
    call = stage.begin(client.call_tool("llm_chat", {"prompt": prompt, "wait_s": 40}))
    return call, await stage.claimed("ollama.chat", prompt)


def claimed(player: Player) -> Attempt:
    """Begin the next chat, once there is one."""
    return player.claim_soon("ollama.chat")
