"""`GET /v1/models`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from llm_mcp.providers.fake import Fake
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.contract.provider_peer import Peer, answer
from tests.integration.web.client import Client

TAGS = {
    "models": [
        {"name": "hf.co/a/b:q4", "modified_at": "2026-11-01T12:00:00.5Z"},
        {"name": "both:latest", "modified_at": "nonsense"},
    ]
}


@pytest.fixture
def client(runtime: Runtime) -> Iterator[Client]:
    """A client of a door that reaches a machine, another one with the same models, and two clouds."""
    clouds = {"openai": Fake(models=["gpt", "both:latest"]), "openrouter": Fake(models=["who/what"])}
    with Peer(answer(200, TAGS)) as one, Peer(answer(200, TAGS)) as other:
        changed = {
            "ollama_base_url": one.url,
            "ollama_extra_endpoints": f"127.0.0.1:{other.port}",
            "openai_api_key": SecretStr("k"),
            "openrouter_api_key": SecretStr("k"),
        }
        made = Runtime(runtime.settings.model_copy(update=changed), providers=clouds)
        yield Client(create_app(made))
        made.close()


def test_each_name_is_listed_once_with_who_has_it(client: Client) -> None:
    listed = client.get("/v1/models").json
    assert listed["object"] == "list"
    models = {model["id"]: model for model in listed["data"]}
    assert list(models) == ["hf.co/a/b:q4", "both:latest", "gpt", "who/what"]
    assert len(listed["data"]) == 4
    assert {model["object"] for model in listed["data"]} == {"model"}
    first = models["hf.co/a/b:q4"]
    assert (first["owned_by"], first["provider"], first["created"]) == ("library", "ollama", 1793534400)
    assert first["devices"][0] == "local"
    assert len(first["devices"]) == 2
    assert (models["both:latest"]["provider"], models["both:latest"]["created"]) == ("ollama", 0)
    assert (models["gpt"]["owned_by"], models["gpt"]["devices"]) == ("openai", [])
    assert models["who/what"]["owned_by"] == "who"


@pytest.mark.parametrize(("name", "found"), [("both", "both:latest"), ("hf.co/a/b:q4", "hf.co/a/b:q4"), ("gpt", "gpt")])
def test_a_model_is_found_by_its_name(client: Client, name: str, found: str) -> None:
    listed = {model["id"]: model for model in client.get("/v1/models").json["data"]}
    answer = client.get(f"/v1/models/{name}")
    assert (answer.status_code, answer.json) == (200, listed[found])


@pytest.mark.parametrize("name", ["nope", "a/b", "hf.co/a/b"])
def test_a_model_nobody_has_is_not_found(client: Client, name: str) -> None:
    answer = client.get(f"/v1/models/{name}")
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "model_not_found")
