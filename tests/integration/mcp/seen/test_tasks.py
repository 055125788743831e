"""Long work as tasks: who is given one, what it says, whose it is, and what ends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from uuid import uuid4

import pytest
from mcp import Client, MCPError
from mcp.client.extension import advertise
from mcp.types import Request, RequestParams
from mcp_types import Result
from pydantic import ConfigDict

from llm_mcp.config import Settings
from llm_mcp.mcp_bridge.principal import READ, SUBMIT, Principal
from llm_mcp.mcp_bridge.tasks import EXTENSION, Task
from tests.integration.mcp.seen.stage import Make, Stage, said, staged, told
from tests.integration.web.played import Player

pytestmark = pytest.mark.anyio

KNOWS = advertise(EXTENSION)


class _Params(RequestParams):
    model_config = ConfigDict(extra="allow")


class _Ask(Request[_Params, str]):
    method: str
    params: _Params


class _Told(Result):
    model_config = ConfigDict(extra="allow")


async def ask(client: Client, method: str, **params: Any) -> dict[str, Any]:
    """Return what a request of ours is answered, as it travels."""
    request = _Ask(method=method, params=_Params(**params))
    answer = await client.session.send_request(request, _Told)
    return answer.model_dump(by_alias=True, mode="json")


async def begun(client: Client, prompt: str) -> dict[str, Any]:
    """Return the task that a chat became."""
    return await ask(client, "tools/call", name="llm_chat", arguments={"prompt": prompt})


@pytest.fixture
def era() -> str:
    """Tasks are of the newest protocol."""
    return "auto"


async def test_a_job_is_a_task_of_the_same_name(stage: Stage, bridge_settings: Settings) -> None:
    prompt = uuid4().hex
    async with stage.client(KNOWS) as client:
        task = await begun(client, prompt)
        assert (task["resultType"], task["status"], task["pollIntervalMs"]) == ("task", "working", 1000)
        assert task["ttlMs"] == bridge_settings.job_retention_days * 86_400_000
        assert "result" not in task
        attempt = await stage.claimed("ollama.chat", prompt)
        assert task["taskId"] == str(attempt.job_id)
        running = await ask(client, "tasks/get", taskId=task["taskId"])
        assert (running["status"], running["statusMessage"]) == ("working", "running")
        attempt.done({"response": "Yes.", "model": "tiny:latest"})
        done = await ask(client, "tasks/get", taskId=task["taskId"])
    assert (done["status"], done["createdAt"]) == ("completed", task["createdAt"])
    result = done["result"]
    assert result["content"][0]["text"] == "Yes."
    assert result["structuredContent"]["text"] == "Yes."
    assert not result["isError"]


async def test_a_job_that_failed_is_a_completed_task_that_says_so(stage: Stage) -> None:
    prompt = uuid4().hex
    async with stage.client(KNOWS) as client:
        task = await begun(client, prompt)
        attempt = await stage.claimed("ollama.chat", prompt)
        attempt.fail("out of memory", retryable=False)
        done = await ask(client, "tasks/get", taskId=task["taskId"])
    assert (done["status"], done["result"]["isError"]) == ("completed", True)
    assert "out of memory" in done["result"]["content"][0]["text"]


async def test_a_task_is_cancelled_at_once(stage: Stage) -> None:
    async with stage.client(KNOWS) as client:
        task = await begun(client, uuid4().hex)
        await ask(client, "tasks/cancel", taskId=task["taskId"])
        job = await stage.job(task["taskId"])
        assert (job.status, job.reason) == ("error", "cancelled")
        told_ = await ask(client, "tasks/get", taskId=task["taskId"])
        assert told_["status"] == "cancelled"
        assert "result" not in told_
        # Once more changes nothing.
        await ask(client, "tasks/cancel", taskId=task["taskId"])


async def test_answers_to_what_was_not_asked_mean_nothing(stage: Stage) -> None:
    async with stage.client(KNOWS) as client:
        task = await begun(client, uuid4().hex)
        await ask(client, "tasks/update", taskId=task["taskId"], inputResponses={"name": {"action": "accept"}})
        assert (await ask(client, "tasks/get", taskId=task["taskId"]))["status"] == "working"
        await ask(client, "tasks/cancel", taskId=task["taskId"])


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
async def test_others_have_no_such_task(stage: Stage, method: str) -> None:
    scopes = frozenset({READ, SUBMIT})
    async with stage.client(KNOWS, principal=Principal(f"ann-{uuid4().hex}", scopes)) as client:
        task_id = (await begun(client, uuid4().hex))["taskId"]
    async with stage.client(KNOWS, principal=Principal(f"bob-{uuid4().hex}", scopes)) as client:
        for wanted in (task_id, str(uuid4()), "nope"):
            with pytest.raises(MCPError) as caught:
                await ask(client, method, taskId=wanted)
            assert (caught.value.code, caught.value.message) == (-32602, "no such task")
    assert (await stage.job(task_id)).status == "queued"
    await stage.core.cancel(task_id, principal="local")


async def test_who_does_not_know_tasks_is_given_none(stage: Stage) -> None:
    async with stage.client() as client:
        result = await client.call_tool("llm_chat", {"prompt": "x", "wait_s": 0})
        assert told(result)["status"] == "queued"
        with pytest.raises(MCPError) as caught:
            await ask(client, "tasks/get", taskId=told(result)["job_id"])
        assert caught.value.code == -32021
        await stage.core.cancel(told(result)["job_id"], principal="local")


async def test_an_earlier_protocol_knows_no_tasks_whatever_its_client_says(
    bridge_settings: Settings, player: Player
) -> None:
    async with staged(bridge_settings, player, "legacy") as stage, stage.client(KNOWS) as client:
        result = await client.call_tool("llm_chat", {"prompt": "x", "wait_s": 0})
        assert told(result)["status"] == "queued"
        with pytest.raises(MCPError) as caught:
            await ask(client, "tasks/get", taskId=told(result)["job_id"])
        assert caught.value.code == -32601
        await stage.core.cancel(told(result)["job_id"], principal="local")


async def test_bad_arguments_are_no_task(stage: Stage) -> None:
    async with stage.client(KNOWS) as client:
        result = await client.call_tool("llm_chat", {"prompt": "x", "max_tokens": "many"})
        assert result.is_error
        assert said(result).startswith("max_tokens: ")


class _Shelf:
    """A store with one task, which asks something."""

    def __init__(self) -> None:
        self.answered: dict[str, Any] = {}
        self.cancelled = False

    async def get(self, task_id: str) -> Task | None:
        if task_id != "shelf":
            return None
        status: Literal["cancelled", "completed", "input_required"] = (
            "cancelled" if self.cancelled else "completed" if self.answered else "input_required"
        )
        return Task(
            task_id=task_id,
            status=status,
            created_at="2026-01-01T00:00:00Z",
            updated_at="2026-01-01T00:00:00Z",
            ttl_ms=None,
            result={"content": []},
            input_requests={"name": {"method": "elicitation/create"}},
        )

    async def update(self, task_id: str, answers: Mapping[str, Any]) -> bool:
        self.answered.update({name: answers[name] for name in answers if name == "name"})
        return task_id == "shelf"

    async def cancel(self, task_id: str) -> bool:
        self.cancelled = task_id == "shelf"
        return self.cancelled


async def test_tasks_that_are_no_jobs_are_kept_elsewhere(bridge_settings: Settings, player: Player) -> None:
    shelf = _Shelf()
    async with (
        staged(bridge_settings, player, "auto", task_stores=[shelf]) as stage,
        stage.client(KNOWS) as client,
    ):
        asking = await ask(client, "tasks/get", taskId="shelf")
        assert (asking["status"], list(asking["inputRequests"])) == ("input_required", ["name"])
        assert asking["ttlMs"] is None
        await ask(client, "tasks/update", taskId="shelf", inputResponses={"other": 1})
        assert not shelf.answered
        await ask(client, "tasks/update", taskId="shelf", inputResponses={"name": {"action": "accept"}})
        assert (await ask(client, "tasks/get", taskId="shelf"))["status"] == "completed"
        await ask(client, "tasks/cancel", taskId="shelf")
        assert shelf.cancelled


async def test_a_core_that_is_away_fails_no_task(make: Make) -> None:
    async with make(grpc_addr="127.0.0.1:1") as stage, stage.client(KNOWS) as client:
        with pytest.raises(MCPError) as caught:
            await ask(client, "tasks/get", taskId=str(uuid4()))
        assert (caught.value.code, caught.value.message) == (
            -32603,
            "the core of llm-mcp does not answer: try again in 5 s",
        )
