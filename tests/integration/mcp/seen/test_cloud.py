"""Money is spent only when it may be: by the caller's word, and by its scope."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import anyio
import pytest

from llm_mcp import config
from llm_mcp.config import Settings
from llm_mcp.mcp_bridge.principal import LOCAL
from llm_mcp.rpc import llm_pb2 as pb
from tests.integration.mcp.seen.machines import Machine
from tests.integration.mcp.seen.stage import Make, Stage, said, told

pytestmark = pytest.mark.anyio

CLOUD_KINDS = ("openai.chat", "openai.embed", "openrouter.chat")


@pytest.fixture(scope="module")
def cloud() -> Iterator[Machine]:
    """What speaks OpenAI's dialect for money."""
    made = Machine("gpt-big", "gpt-small")
    with made.peer:
        yield made


@pytest.fixture(scope="module")
def rpc_settings(dsn: str, machine: Machine, cloud: Machine, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a core with a key for the cloud, and machines that list what they are told to."""
    return config.load(
        db_dsn=dsn,
        data_dir=tmp_path_factory.mktemp("rpc"),
        grpc_addr="127.0.0.1:0",
        ollama_base_url=machine.peer.url,
        openai_api_key="sk-of-a-test",
        openai_base_url=f"{cloud.peer.url}/v1",
        openrouter_api_key="sk-of-a-test",
        openrouter_base_url=f"{cloud.peer.url}/v1",
        poll_s=0.2,
    )


@pytest.fixture
async def stage(make: Make) -> AsyncIterator[Stage]:
    """A stage whose core has listed what there is."""
    async with make() as made:
        with anyio.fail_after(30):
            while not {"tiny:latest", "gpt-big"} <= {model.name for model in await made.core.models()}:
                await anyio.sleep(0.1)
        yield made


async def nothing_in_the_cloud(stage: Stage) -> bool:
    """Say whether no job for the cloud waits or runs."""
    jobs, _ = await stage.core.jobs(principal="local", limit=200)
    return not [job for job in jobs if job.kind in CLOUD_KINDS and job.status in ("queued", "running")]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("llm_chat", {"prompt": "x", "model": "gpt-big"}),
        ("llm_chat", {"prompt": "x", "model": "maker/unheard-of"}),
        ("llm_submit", {"prompt": "x", "model": "gpt-big"}),
        ("llm_submit", {"kind": "generate", "prompt": "x", "model": "gpt-small"}),
        ("llm_embed", {"texts": ["x"], "model": "gpt-small"}),
    ],
)
async def test_without_the_callers_word_nothing_goes_there(
    stage: Stage, tool: str, arguments: dict[str, object]
) -> None:
    async with stage.client() as client:
        result = await client.call_tool(tool, arguments)
        assert result.is_error
        assert "runs in the cloud" in said(result)
        assert "allow_cloud" in said(result)
        assert await nothing_in_the_cloud(stage)


async def test_a_name_of_nobody_goes_nowhere(stage: Stage) -> None:
    async with stage.client() as client:
        result = await client.call_tool("llm_chat", {"prompt": "x", "model": "gpt-huge"})
        assert said(result).startswith("model: no machine here has 'gpt-huge'")
        assert await nothing_in_the_cloud(stage)


async def test_with_it_it_does(stage: Stage) -> None:
    prompt = uuid4().hex
    async with stage.client() as client:
        call = stage.begin(client.call_tool("llm_chat", {"prompt": prompt, "model": "gpt-big", "allow_cloud": True}))
        attempt = await stage.claimed("openai.chat", prompt)
        attempt.done({"response": "paid", "model": "gpt-big", "cost": "0.00123$"})
        assert (told(await call)["text"], told(await call)["cost_usd"]) == ("paid", 0.00123)


@pytest.mark.parametrize("era", ["auto"])  # the core looks for new models every few seconds only
@pytest.mark.parametrize(
    ("names", "tool", "arguments"),
    [
        ([], "llm_submit", {"prompt": "x"}),
        (["nomic-embed-text:latest"], "llm_chat", {"prompt": "x"}),
        (["tiny:latest"], "llm_embed", {"texts": ["x"]}),
    ],
)
async def test_no_default_in_the_cloud_when_no_machine_has_one(
    stage: Stage, machine: Machine, names: list[str], tool: str, arguments: dict[str, object]
) -> None:
    before, machine.models = machine.models, names
    try:
        async with stage.client() as client:
            with anyio.fail_after(30):
                while [model.name for model in await stage.core.models() if model.device_id] != names:
                    await anyio.sleep(0.1)
            result = await client.call_tool(tool, arguments)
            sort = "an embedding model" if tool == "llm_embed" else "a model"
            assert said(result).startswith(f"no machine here with {sort} answers now")
            assert await nothing_in_the_cloud(stage)
    finally:
        machine.models = before


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("llm_chat", {}), ("llm_chat", {"wait_s": 0}), ("llm_submit", {}), ("llm_embed", {"texts": ["x"]})],
)
async def test_what_would_be_routed_there_all_the_same_is_never_written(
    stage: Stage, tool: str, arguments: dict[str, object]
) -> None:
    """The machine that had the model went between the look and the submit."""
    models = stage.core.models

    async def stale() -> list[pb.Model]:
        embeds = tool == "llm_embed"
        return [*await models(), pb.Model(name="gpt-big", provider="ollama", device_id="gone", embeds=embeds)]

    stage.core.models = stale
    before = (await stage.core.jobs(principal=LOCAL.name, limit=1))[0]
    async with stage.client() as client:
        prompt = {} if tool == "llm_embed" else {"prompt": "x"}
        result = await client.call_tool(tool, {**prompt, "model": "gpt-big", **arguments})
        assert result.is_error
        assert said(result).startswith("no machine here has this model now")
        assert "allow_cloud" in said(result)
        assert (await stage.core.jobs(principal=LOCAL.name, limit=1))[0] == before


async def test_what_the_cloud_has_is_listed_on_request(stage: Stage) -> None:
    async with stage.client() as client:
        here = told(await client.call_tool("llm_models", {"query": "gpt"}))
        assert here["models"] == []
        there = told(await client.call_tool("llm_models", {"query": "gpt-big", "include_cloud": True}))
        assert ("gpt-big", "openai", "") in [
            (model["name"], model["provider"], model["device"]) for model in there["models"]
        ]


async def test_tools_that_reach_out_say_so(make: Make) -> None:
    async with make() as stage, stage.client() as client:
        tools = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
        assert {name for name, hints in tools.items() if hints is not None and hints.open_world_hint} == {
            "llm_chat",
            "llm_submit",
            "llm_embed",
        }
