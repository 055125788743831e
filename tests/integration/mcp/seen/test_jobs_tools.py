"""Asking about jobs: lists in pages, long answers in parts, what was begun anew, and cancelling."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from llm_mcp.mcp_bridge.principal import READ, SUBMIT, Principal
from tests.integration.mcp.seen.stage import Stage, said, texts, told

pytestmark = pytest.mark.anyio


async def test_a_list_comes_in_pages(stage: Stage) -> None:
    somebody = Principal(uuid4().hex, frozenset({READ, SUBMIT}))
    async with stage.client(principal=somebody) as client:
        ids = [told(await client.call_tool("llm_submit", {"kind": "echo"}))["job_id"] for _ in range(5)]
        seen: list[str] = []
        cursor = ""
        for left in (2, 2, 1):
            page = told(await client.call_tool("llm_jobs", {"limit": 2, "cursor": cursor}))
            assert len(page["jobs"]) == left
            seen += [job["job_id"] for job in page["jobs"]]
            cursor = page["next_cursor"]
        assert cursor == ""
        assert seen == ids[::-1]
        assert told(await client.call_tool("llm_jobs", {"status": "running"}))["jobs"] == []
        whole = await client.call_tool("llm_jobs", {"status": "queued"})
        for job in told(whole)["jobs"]:
            assert f"{job['job_id']} queued echo {job['queued_at']}" in said(whole)
            await client.call_tool("llm_job_cancel", {"job_id": job["job_id"]})


async def test_a_long_answer_comes_in_parts(stage: Stage) -> None:
    whole = "".join(f"{number:06d} " for number in range(15_000))  # 105 000 characters
    async with stage.client() as client:
        job_id = told(await client.call_tool("llm_submit", {"prompt": "x"}))["job_id"]
        (await stage.claimed("ollama.chat", "x")).done({"response": whole})
        read, offset = "", 0
        for _ in range(3):
            part = await client.call_tool("llm_job_status", {"job_id": job_id, "offset": offset})
            assert said(part) == told(part)["text"]
            assert len(told(part)["text"]) <= 40_000
            read += told(part)["text"]
            offset = told(part)["next_offset"]
        assert (read, offset) == (whole, -1)
        small = await client.call_tool("llm_job_status", {"job_id": job_id, "offset": 7, "max_chars": 6})
        assert (told(small)["text"], told(small)["next_offset"]) == ("000001", 13)
        assert "offset=13" in told(small)["hint"]
        assert "offset=13" in texts(small)[1]
        after = await client.call_tool("llm_job_status", {"job_id": job_id, "offset": 10**6})
        assert (told(after)["text"], told(after)["next_offset"]) == ("", -1)


async def test_what_was_begun_anew_is_read_from_its_beginning(stage: Stage) -> None:
    async with stage.client() as client:
        job_id = told(await client.call_tool("llm_submit", {"prompt": "x"}))["job_id"]
        first = await stage.claimed("ollama.chat", "x")
        first.say("a long beginning")
        offset = told(await client.call_tool("llm_job_status", {"job_id": job_id}))["next_offset"]
        assert offset == len("a long beginning")
        first.fail("lost")
        second = await stage.claimed("ollama.chat", "x")
        second.say("short")
        status = told(await client.call_tool("llm_job_status", {"job_id": job_id, "offset": offset}))
        assert (status["text"], status["next_offset"]) == ("", 5)
        assert "offset=0" in status["hint"]
        second.done({"response": "short"})


async def test_cancelling(stage: Stage) -> None:
    async with stage.client() as client:
        job_id = told(await client.call_tool("llm_submit", {"prompt": "x"}))["job_id"]
        attempt = await stage.claimed("ollama.chat", "x")
        for _ in range(2):  # once more changes nothing
            result = await client.call_tool("llm_job_cancel", {"job_id": job_id})
            assert not result.is_error
            assert told(result)["status"] == "cancelled"
        assert (await stage.job(str(attempt.job_id))).reason == "cancelled"
        done = told(await client.call_tool("llm_submit", {"prompt": "y"}))["job_id"]
        (await stage.claimed("ollama.chat", "y")).done({"response": "kept"})
        kept = await client.call_tool("llm_job_cancel", {"job_id": done})
        assert (told(kept)["status"], told(kept)["text"]) == ("done", "kept")


async def test_a_kind_that_no_worker_takes_is_said_so(stage: Stage) -> None:
    async with stage.client() as client:
        result = await client.call_tool("llm_submit", {"kind": "echo"})
        assert "no worker takes it" in told(result)["hint"]
        await client.call_tool("llm_job_cancel", {"job_id": told(result)["job_id"]})


async def test_models_in_pages_and_by_what_they_are(stage: Stage) -> None:
    async def names(**arguments: Any) -> list[str]:
        return [model["name"] for model in told(await client.call_tool("llm_models", arguments))["models"]]

    async with stage.client() as client:
        assert await names() == ["nomic-embed-text:latest", "qwen3:8b", "tiny:latest"]
        assert await names(kind="embed") == ["nomic-embed-text:latest"]
        assert await names(query="QWEN") == ["qwen3:8b"]
        first = told(await client.call_tool("llm_models", {"limit": 2}))
        assert await names(limit=2, cursor=first["next_cursor"]) == ["tiny:latest"]
        told_ = await client.call_tool("llm_models", {"query": "qwen"})
        assert said(told_) == "qwen3:8b kind=chat provider=ollama device=local\n1 in all"


async def test_machines_and_measurements(stage: Stage) -> None:
    async with stage.client() as client:
        machines = told(await client.call_tool("llm_devices", {"online_only": False}))["devices"]
        local = next(one for one in machines if one["device_id"] == "local")
        assert (local["status"], local["provider"]) == ("online", "ollama")
        assert "qwen3:8b" in local["models"]
        measured = await client.call_tool("llm_benchmarks", {"model": "none of this name"})
        assert told(measured) == {"benchmarks": []}
