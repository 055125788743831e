"""What a waiting client hears: at once, not too often, not too rarely, and never the same twice."""

from __future__ import annotations

import time
from uuid import uuid4

import anyio
import orjson
import pytest

from llm_mcp.mcp_bridge import progress
from llm_mcp.mcp_bridge.progress import Progress
from llm_mcp.rpc import llm_pb2 as pb
from tests.integration.mcp.seen.stage import Stage

pytestmark = pytest.mark.anyio

JOB = "019ac0de-0000-7000-8000-000000000000"


class Ear:
    """Hears reports: the numbers, when they came, and the words."""

    def __init__(self) -> None:
        self.numbers: list[float] = []
        self.at: list[float] = []
        self.words: list[str] = []

    async def hear(self, progress: float, total: float | None, message: str | None) -> None:
        """Hear one."""
        self.numbers.append(progress)
        self.at.append(time.monotonic())
        self.words.append(message or "")


@pytest.fixture
def anyio_backend() -> str:
    """The loop that the bridge runs in."""
    return "asyncio"


def event(type_: str, **data: object) -> pb.JobEvent:
    """Return an event of a job."""
    return pb.JobEvent(job_id=JOB, type=type_, data_json=orjson.dumps(data).decode())


async def test_the_first_is_told_at_once_and_the_rest_in_a_rhythm() -> None:
    ear = Ear()
    told = Progress(ear.hear, JOB)
    began_at = time.monotonic()
    async with anyio.create_task_group() as group:
        group.start_soon(told.tell)
        while time.monotonic() - began_at < 1.5:  # as a model that speaks without a pause
            told.note(event("delta", text="word "))
            await anyio.sleep(0.005)
        group.cancel_scope.cancel()
    assert ear.at[0] - began_at < progress.LEAST_S
    assert 3 <= len(ear.numbers) <= 9
    assert min(later - sooner for sooner, later in zip(ear.at, ear.at[1:], strict=False)) >= progress.LEAST_S * 0.9
    assert all(later > sooner for sooner, later in zip(ear.numbers, ear.numbers[1:], strict=False))


async def test_silence_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MOST_S", 0.5)
    ear = Ear()
    with anyio.move_on_after(1.3):
        await Progress(ear.hear, JOB).tell()
    assert len(ear.numbers) == 3
    assert len(set(ear.numbers)) == 3
    assert len(set(ear.words)) == 1


def test_words() -> None:
    told = Progress(Ear().hear, JOB)
    assert told.message() == f"job {JOB} asked for"
    told.note(pb.JobEvent(type="status", message="queued"))
    assert told.message() == f"job {JOB} queued"
    told.note(event("queue", position=3, at_least=True))
    assert told.message().endswith("queued, place 3")
    told.note(event("delta", thinking="hm"))
    assert told.message().endswith("running: thinking")
    told.note(event("delta", text="Once upon"))
    told.note(event("delta", text=" a time"))
    assert told.message().endswith("running: Once upon a time")
    told.note(event("progress", fraction=0.25, note="reading"))
    assert told.message().endswith("running: 25% reading")
    told.note(event("reset", attempt=2))
    assert told.message().endswith("begun anew")
    told.note(event("delta", text="x" * 5000))
    assert told.message().startswith(f"job {JOB[:8]}")
    assert len(told.message()) <= 200
    told.note(event("usage", tokens_in=1))
    assert told.message().endswith("xxx")


async def test_a_waiting_client_hears_its_job(stage: Stage) -> None:
    ear, prompt = Ear(), uuid4().hex
    async with stage.client() as client:
        call = stage.begin(client.call_tool("llm_chat", {"prompt": prompt}, progress_callback=ear.hear))
        attempt = await stage.claimed("ollama.chat", prompt)
        attempt.say("Once upon")
        with anyio.fail_after(20):
            while not any("Once upon" in words for words in ear.words):
                await anyio.sleep(0.02)
        attempt.done({"response": "Once upon"})
        await call
        waiting = len(ear.words)
        assert all(words.startswith(f"job {attempt.job_id} ") for words in ear.words)
        # Who asks about a job hears it too.
        job_id = str(attempt.job_id)
        await client.call_tool("llm_job_status", {"job_id": job_id, "wait_s": 5}, progress_callback=ear.hear)
        assert len(ear.words) == waiting  # it is finished: there is nothing to wait for
    assert all(later > sooner for sooner, later in zip(ear.numbers, ear.numbers[1:], strict=False))


async def test_who_waits_for_a_job_of_another_call_hears_it(stage: Stage) -> None:
    ear = Ear()
    async with stage.client() as client:
        first = await client.call_tool("llm_submit", {"prompt": "x"})
        attempt = await stage.claimed("ollama.chat", "x")
        arguments = {"job_id": str(attempt.job_id), "wait_s": 30}
        call = stage.begin(client.call_tool("llm_job_status", arguments, progress_callback=ear.hear))
        with anyio.fail_after(20):
            while not ear.words:
                await anyio.sleep(0.02)
        attempt.done({"response": ""})
        await call
    assert first.structured_content is not None
    assert ear.words[0].startswith(f"job {attempt.job_id} ")
