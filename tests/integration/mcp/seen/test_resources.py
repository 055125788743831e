"""What is read by address, and what a person may have meant to type."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import anyio
import orjson
import pytest
from mcp import Client, MCPError
from mcp_types import PromptReference, ResourceTemplateReference

from llm_mcp.mcp_bridge.principal import READ, SUBMIT, Principal
from tests.integration.mcp.seen.stage import Make, Stage, told

pytestmark = pytest.mark.anyio


async def read(client: Client, address: str) -> str:
    """Return the text at an address."""
    [content] = (await client.read_resource(address)).contents
    return str(getattr(content, "text", ""))


async def test_what_there_is_to_read(stage: Stage) -> None:
    async with stage.client() as client:
        addresses = {str(one.uri) for one in (await client.list_resources()).resources}
        assert addresses == {"llm://models", "llm://devices", "llm://benchmarks", "llm://queue"}
        templates = {one.uri_template for one in (await client.list_resource_templates()).resource_templates}
        assert templates == {"llm://jobs/{job_id}", "llm://jobs/{job_id}/result"}
        assert "qwen3:8b" in {model["name"] for model in orjson.loads(await read(client, "llm://models"))}
        assert "local" in {one["device_id"] for one in orjson.loads(await read(client, "llm://devices"))}
        assert isinstance(orjson.loads(await read(client, "llm://benchmarks")), list)


async def test_the_queue_is_the_principals_own(stage: Stage) -> None:
    somebody = Principal(uuid4().hex, frozenset({READ, SUBMIT}))
    async with stage.client(principal=somebody) as client:
        assert orjson.loads(await read(client, "llm://queue")) == {
            "running": [],
            "more_running": False,
            "queued": [],
            "more_queued": False,
        }
        job_id = told(await client.call_tool("llm_submit", {"kind": "echo"}))["job_id"]
        assert [job["job_id"] for job in orjson.loads(await read(client, "llm://queue"))["queued"]] == [job_id]
        await client.call_tool("llm_job_cancel", {"job_id": job_id})


async def test_a_job_and_its_result(stage: Stage) -> None:
    async with stage.client() as client:
        job_id = told(await client.call_tool("llm_submit", {"prompt": "x"}))["job_id"]
        attempt = await stage.claimed("ollama.chat", "x")
        with pytest.raises(MCPError) as early:
            await read(client, f"llm://jobs/{job_id}/result")
        assert "not finished" in early.value.message
        attempt.done({"response": "w" * 100_000})
        assert await read(client, f"llm://jobs/{job_id}/result") == "w" * 100_000
        job = orjson.loads(await read(client, f"llm://jobs/{job_id}"))
        assert (job["status"], job["next_offset"]) == ("done", 40_000)


async def test_what_is_not_there(stage: Stage) -> None:
    ann, bob = (Principal(uuid4().hex, frozenset({READ, SUBMIT})) for _ in range(2))
    async with stage.client(principal=ann) as client:
        job_id = told(await client.call_tool("llm_submit", {"kind": "echo"}))["job_id"]
        await client.call_tool("llm_job_cancel", {"job_id": job_id})
    async with stage.client(principal=bob) as client:
        for address in (f"llm://jobs/{job_id}", f"llm://jobs/{job_id}/result", "llm://jobs/nope", "llm://costs/day"):
            with pytest.raises(MCPError) as caught:
                await read(client, address)
            assert caught.value.code == -32602, address


async def test_reading_needs_a_scope(stage: Stage) -> None:
    async with stage.client(principal=Principal("asker", frozenset({SUBMIT}))) as client:
        for call in (
            lambda: read(client, "llm://models"),
            lambda: client.complete(
                PromptReference(type="ref/prompt", name="compare_models"), {"name": "models", "value": ""}
            ),
        ):
            with pytest.raises(MCPError) as caught:
                await call()
            assert (caught.value.code, caught.value.data) == (-32003, {"requiredScopes": [READ]})


async def test_a_core_that_is_away(make: Make) -> None:
    async with make(grpc_addr="127.0.0.1:1") as stage, stage.client() as client:
        with pytest.raises(MCPError) as caught:
            await read(client, "llm://models")
        assert caught.value.message == "the core of llm-mcp does not answer: try again in 5 s"
        assert await completed(client, "models", "q") == []


async def test_who_listens_hears_of_a_jobs_status(stage: Stage) -> None:
    if stage.era == "legacy":
        pytest.skip("the older protocol has another way, which is going out of use")
    async with stage.client() as client:
        job_id = told(await client.call_tool("llm_submit", {"prompt": "x"}))["job_id"]
        attempt = await stage.claimed("ollama.chat", "x")
        async with client.listen(resource_subscriptions=[f"llm://jobs/{job_id}"]) as heard:
            call = stage.begin(client.call_tool("llm_job_status", {"job_id": job_id, "wait_s": 30}))
            with anyio.fail_after(20):
                change = await anext(aiter(heard))
            assert getattr(change, "uri", "") == f"llm://jobs/{job_id}"
            attempt.done({"response": ""})
            await call


async def completed(client: Client, name: str, typed: str, *, template: bool = False) -> list[str]:
    """Return what an argument may become."""
    of: Any = PromptReference(type="ref/prompt", name="compare_models")
    if template:
        of = ResourceTemplateReference(type="ref/resource", uri="llm://jobs/{job_id}")
    return (await client.complete(of, {"name": name, "value": typed})).completion.values


async def test_what_is_typed_is_completed(stage: Stage) -> None:
    somebody = Principal(uuid4().hex, frozenset({READ, SUBMIT}))
    async with stage.client(principal=somebody) as client:
        job_id = told(await client.call_tool("llm_submit", {"kind": "echo"}))["job_id"]
        assert await completed(client, "models", "qw") == ["qwen3:8b"]
        assert await completed(client, "models", "tiny:latest, qw") == ["tiny:latest,qwen3:8b"]
        assert await completed(client, "quality", "s") == ["standard"]
        assert await completed(client, "job_id", job_id[:8], template=True) == [job_id]
        assert await completed(client, "job_id", "f" * 8, template=True) == []
        assert await completed(client, "other", "") == []
        await client.call_tool("llm_job_cancel", {"job_id": job_id})
