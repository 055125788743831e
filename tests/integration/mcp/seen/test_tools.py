"""The tools that ask a model: answers, the bounded wait, refusals, and what they say is wrong with a call."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import orjson
import pytest
from mcp import MCPError

from llm_mcp.mcp_bridge.principal import CLOUD, READ, SUBMIT, Principal
from tests.integration.mcp.seen.stage import Make, Stage, said, texts, told

pytestmark = pytest.mark.anyio

ANSWER = {
    "response": "Paris.",
    "model": "tiny:latest",
    "device_id": "local",
    "tokens_in": 3,
    "tokens_out": 2,
    "cost": "0.00000$",
}


async def test_an_answer_is_whole_in_both_forms(stage: Stage) -> None:
    async with stage.client() as client:
        call = stage.begin(client.call_tool("llm_chat", {"prompt": "Capital?", "system": "Be brief."}))
        attempt = await stage.claimed("ollama.chat", "Capital?")
        asked = orjson.loads(attempt.lease.payload)
        attempt.say("Par", "is.")
        attempt.done(ANSWER)
        result = await call
    assert (asked["system"], asked["model"], asked["max_tokens"], asked["temperature"]) == (
        "Be brief.",
        "tiny:latest",
        1024,
        0.7,
    )
    assert not result.is_error
    assert said(result) == "Paris."
    facts = told(result)
    assert facts | {"duration_ms": 0} == {
        "job_id": str(attempt.job_id),
        "status": "done",
        "text": "Paris.",
        "model": "tiny:latest",
        "device": "local",
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "cost_usd": 0.0,
        "duration_ms": 0,
        "next_offset": -1,
        "hint": "",
    }
    for fact in (f"job_id={attempt.job_id}", "status=done", "model=tiny:latest", "completion_tokens=2", "cost_usd=0"):
        assert fact in texts(result)[1]


async def test_a_long_answer_is_waited_for_so_long_and_gone_on_with(stage: Stage) -> None:
    prompt = uuid4().hex
    async with stage.client() as client:
        first = await client.call_tool("llm_chat", {"prompt": prompt, "wait_s": 0.3})
        assert not first.is_error
        assert (told(first)["status"], told(first)["text"], told(first)["next_offset"]) == ("queued", "", 0)
        assert said(first).startswith("[queued] ")
        assert "llm_job_status" in told(first)["hint"]
        attempt = await stage.claimed("ollama.chat", prompt)
        job_id = str(attempt.job_id)
        assert told(first)["job_id"] == job_id
        attempt.say("one ", "two ")
        second = await client.call_tool("llm_job_status", {"job_id": job_id})
        assert (told(second)["status"], told(second)["text"]) == ("running", "one two ")
        waiting = stage.begin(
            client.call_tool("llm_job_status", {"job_id": job_id, "wait_s": 30, "offset": told(second)["next_offset"]})
        )
        attempt.say("three")
        attempt.done({"response": "one two three"})
        third = await waiting
    assert (told(third)["status"], told(third)["text"], told(third)["next_offset"]) == ("done", "three", -1)


async def test_a_wait_is_no_longer_than_the_bridge_allows(make: Make) -> None:
    async with make(mcp_max_wait_s=1.0) as stage, stage.client() as client:
        result = await client.call_tool("llm_chat", {"prompt": "x", "wait_s": 500})
        assert told(result)["status"] == "queued"
        await stage.core.cancel(told(result)["job_id"], principal="local")


async def test_a_job_that_failed_is_the_failure_of_the_tool_that_asked_it(stage: Stage) -> None:
    async with stage.client() as client:
        call = stage.begin(client.call_tool("llm_chat", {"prompt": "x"}))
        attempt = await stage.claimed("ollama.chat")
        attempt.fail("http://10.1.2.3:11434/api says no, token=abcdefghijkl", retryable=False)
        result = await call
        assert result.is_error
        assert told(result)["status"] == "error"
        assert said(result).startswith("[error] ")
        for secret in ("10.1.2.3", "11434", "abcdefghijkl"):
            assert secret not in result.model_dump_json()
        # Who only asks about it is told, not failed.
        asked = await client.call_tool("llm_job_status", {"job_id": str(attempt.job_id)})
        assert not asked.is_error
        assert told(asked)["status"] == "error"


async def test_every_job_has_a_deadline(stage: Stage) -> None:
    async with stage.client() as client:
        for call, arguments in (
            ("llm_chat", {"prompt": "x", "wait_s": 0}),
            ("llm_embed", {"texts": ["x"], "wait_s": 0}),
            ("llm_submit", {"prompt": "x"}),
            ("llm_submit", {"kind": "echo"}),
        ):
            job_id = told(await client.call_tool(call, arguments))["job_id"]
            assert (await stage.job(job_id)).deadline_at, call
            await stage.core.cancel(job_id, principal="local")


async def test_the_same_key_is_the_same_job(stage: Stage) -> None:
    key = uuid4().hex
    async with stage.client() as client:
        one = told(await client.call_tool("llm_submit", {"prompt": "x", "idempotency_key": key}))["job_id"]
        two = told(await client.call_tool("llm_submit", {"prompt": "x", "idempotency_key": key}))["job_id"]
        other = await client.call_tool("llm_submit", {"prompt": "y", "idempotency_key": key})
        assert one == two
        assert other.is_error
        assert said(other).startswith("idempotency_key: ")
        await stage.core.cancel(one, principal="local")


async def test_vectors(stage: Stage) -> None:
    async with stage.client() as client:
        call = stage.begin(client.call_tool("llm_embed", {"texts": ["a", "b"]}))
        attempt = await stage.claimed("ollama.embed")
        assert orjson.loads(attempt.lease.payload)["input"] == ["a", "b"]
        attempt.done({"model": "nomic-embed-text", "data": {"embeddings": [[0.5, 1.0, 2.0], [0.25, 0.0, -1.0]]}})
        result = await call
        assert said(result) == "2 vectors × 3 dimensions"
        assert told(result)["vectors"] == [[0.5, 1.0, 2.0], [0.25, 0.0, -1.0]]
        assert (told(result)["count"], told(result)["dimensions"]) == (2, 3)


async def test_vectors_too_long_to_show_are_where_the_result_says(stage: Stage) -> None:
    vectors = [[index + 0.123456789012345 for index in range(2000)] for _ in range(8)]
    async with stage.client() as client:
        call = stage.begin(client.call_tool("llm_embed", {"texts": ["a"] * 8}))
        attempt = await stage.claimed("ollama.embed")
        attempt.done({"model": "nomic-embed-text", "data": {"embeddings": vectors}})
        result = await call
        assert (told(result)["vectors"], told(result)["count"]) == ([], 8)
        link = result.content[-1]
        assert link.type == "resource_link"
        read = await client.read_resource(told(result)["result_uri"])
        assert str(link.uri) == told(result)["result_uri"]
        assert orjson.loads(read.contents[0].text) == vectors  # type: ignore[union-attr] # it is text


async def test_a_job_of_no_model(stage: Stage) -> None:
    async with stage.client() as client:
        handed_in = await client.call_tool("llm_submit", {"kind": "echo", "params_json": '{"a": [1]}'})
        attempt = await stage.claimed("echo")
        attempt.done({"ok": True, "echo": orjson.loads(attempt.lease.payload)})
        result = await client.call_tool("llm_job_status", {"job_id": told(handed_in)["job_id"]})
        assert orjson.loads(said(result)) == {"ok": True, "echo": {"a": [1]}}


async def test_what_was_submitted_says_what_was_asked(stage: Stage) -> None:
    params = '{"messages": [{"role": "user", "content": "hi"}], "temperature": 0, "options": {"seed": 7}}'
    async with stage.client() as client:
        await client.call_tool("llm_submit", {"params_json": params, "priority": 7, "model": "qwen3:8b"})
        attempt = await stage.claimed("ollama.chat")
        asked = orjson.loads(attempt.lease.payload)
        assert asked["messages"][0]["content"] == "hi"
        assert (asked["options"], asked["temperature"], asked["model"]) == ({"seed": 7}, 0, "qwen3:8b")
        job = await stage.job(str(attempt.job_id))
        assert (job.priority, job.source) == (7, "mcp")
        attempt.done({"response": ""})


async def test_what_is_not_chosen_is_the_models_own(stage: Stage) -> None:
    async with stage.client() as client:
        for given in ({}, {"max_tokens": 5, "temperature": 0}):
            await client.call_tool("llm_submit", {"prompt": "x", **given})
            attempt = await stage.claimed("ollama.chat", "x")
            asked = orjson.loads(attempt.lease.payload)
            assert {name: asked[name] for name in ("max_tokens", "temperature") if name in asked} == given
            attempt.done({"response": ""})


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("llm_chat", {}, "prompt: is required"),
        ("llm_chat", {"prompt": ""}, "prompt: "),
        ("llm_chat", {"prompt": 7}, "prompt: "),
        ("llm_chat", {"prompt": ["x"]}, "prompt: "),
        ("llm_chat", {"prompt": "x", "max_tokens": "many"}, "max_tokens: "),
        ("llm_chat", {"prompt": "x", "max_tokens": 0}, "max_tokens: "),
        ("llm_chat", {"prompt": "x", "temperature": 9}, "temperature: "),
        ("llm_chat", {"prompt": "x", "wait_s": -1}, "wait_s: "),
        ("llm_chat", {"prompt": "x", "allow_cloud": "perhaps"}, "allow_cloud: "),
        ("llm_chat", {"prompt": "a\x00b"}, "prompt: "),
        ("llm_chat", {"prompt": "x", "idempotency_key": "k" * 201}, "idempotency_key: "),
        ("llm_chat", {"prompt": "x", "model": "qwen3:9b"}, "model: no machine here has 'qwen3:9b'; nearest: qwen3:8b"),
        ("llm_chat", {"prompt": "x", "model": "gpt-4o"}, "model: no machine here has "),
        ("llm_chat", {"prompt": "x", "model": "maker/big"}, "model: this one runs in the cloud"),
        ("llm_embed", {"texts": []}, "texts: "),
        ("llm_embed", {"texts": ["x"] * 257}, "texts: "),
        ("llm_embed", {"texts": [7]}, "texts.0: "),
        ("llm_submit", {"kind": "batch.step"}, "kind: "),
        ("llm_submit", {}, "prompt: is required"),
        ("llm_submit", {"kind": "embed"}, "texts: is required"),
        ("llm_submit", {"prompt": "x", "params_json": "[1]"}, "params_json: must be a JSON object"),
        ("llm_submit", {"prompt": "x", "params_json": "{"}, "params_json: "),
        ("llm_submit", {"prompt": "x", "params_json": '{"ollama_addr": "evil:1"}'}, "params_json: ollama_addr "),
        ("llm_submit", {"prompt": "x", "params_json": '{"model": "m"}'}, "params_json: model "),
        ("llm_submit", {"prompt": "x", "params_json": '{"temperature": "hot"}'}, "temperature: "),
        ("llm_job_status", {"job_id": "nope"}, "no such job"),
        ("llm_job_status", {"job_id": str(uuid4())}, "no such job"),
        ("llm_job_cancel", {"job_id": str(uuid4())}, "no such job"),
        ("llm_jobs", {"cursor": "garbage"}, "cursor: "),
        ("llm_jobs", {"status": "late"}, "status: "),
        ("llm_jobs", {"limit": 101}, "limit: "),
        ("llm_models", {"cursor": "garbage"}, "cursor: "),
        ("llm_models", {"kind": "paint"}, "kind: "),
        ("llm_benchmarks", {"limit": 0}, "limit: "),
        ("llm_devices", {"online_only": "maybe"}, "online_only: "),
    ],
)
async def test_what_is_wrong_with_a_call_is_named(
    stage: Stage, tool: str, arguments: dict[str, Any], words: str
) -> None:
    async with stage.client() as client:
        result = await client.call_tool(tool, arguments)
        assert result.is_error
        assert said(result).startswith(words)
        assert "\n" not in said(result)
        # The next one is served.
        assert not (await client.call_tool("llm_models", {})).is_error


async def test_a_core_that_is_away_is_told_without_where_it_is(make: Make) -> None:
    async with make(grpc_addr="127.0.0.1:1") as stage, stage.client() as client:
        for tool, arguments in (("llm_chat", {"prompt": "x"}), ("llm_job_status", {"job_id": "x"}), ("llm_models", {})):
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            assert said(result) == "the core of llm-mcp does not answer: try again in 5 s"


async def test_what_a_principal_may_not_do_it_does_not_see(stage: Stage) -> None:
    reader, asker = Principal("ann", frozenset({READ})), Principal("bob", frozenset({READ, SUBMIT}))
    async with stage.client(principal=reader) as client:
        seen = {tool.name for tool in (await client.list_tools()).tools}
        assert seen == {"llm_job_status", "llm_jobs", "llm_models", "llm_devices", "llm_benchmarks"}
        with pytest.raises(MCPError) as caught:
            await client.call_tool("llm_chat", {"prompt": "x"})
        assert (caught.value.code, caught.value.data) == (-32003, {"requiredScopes": [SUBMIT]})
    async with stage.client(principal=asker) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("llm_chat", {"prompt": "x", "allow_cloud": True})
        assert (caught.value.code, caught.value.data) == (-32003, {"requiredScopes": [CLOUD]})


async def test_jobs_belong_to_who_asked_for_them(stage: Stage) -> None:
    scopes = frozenset({READ, SUBMIT})
    ann, bob = Principal(f"ann-{uuid4().hex}", scopes), Principal(f"bob-{uuid4().hex}", scopes)
    async with stage.client(principal=ann) as client:
        job_id = told(await client.call_tool("llm_submit", {"kind": "echo"}))["job_id"]
    async with stage.client(principal=bob) as client:
        for tool in ("llm_job_status", "llm_job_cancel"):
            assert said(await client.call_tool(tool, {"job_id": job_id})).startswith("no such job")
        assert told(await client.call_tool("llm_jobs", {}))["jobs"] == []
    async with stage.client(principal=ann) as client:
        assert [job["job_id"] for job in told(await client.call_tool("llm_jobs", {}))["jobs"]] == [job_id]
        assert told(await client.call_tool("llm_job_cancel", {"job_id": job_id}))["status"] == "cancelled"
