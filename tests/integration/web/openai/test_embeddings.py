"""`POST /v1/embeddings`."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from llm_mcp.errors import ProviderError
from llm_mcp.providers.fake import Fail
from tests.integration.web.openai.conftest import Play, Stage


def embed(stage: Stage, **fields: Any) -> Any:
    """Return the answer to a request with `play-embed`, which is there as `play-embed:latest`."""
    return stage.client.post("/v1/embeddings", json={"model": "play-embed", **fields})


def test_texts_become_vectors_in_their_order(play: Play) -> None:
    stage = play()
    answer = embed(stage, input=["one two", "three"])
    assert answer.status_code == 200
    told = answer.json
    assert (told["object"], told["model"]) == ("list", "play-embed:latest")
    assert told["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert [(item["object"], item["index"]) for item in told["data"]] == [("embedding", 0), ("embedding", 1)]
    assert embed(stage, input="three").json["data"][0]["embedding"] == told["data"][1]["embedding"]
    job = stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"]))
    assert (job.kind, job.source, job.status) == ("ollama.embed", "openai", "done")


def test_base64_holds_the_same_numbers(play: Play) -> None:
    stage = play()
    (plain,) = embed(stage, input="x", encoding_format="float").json["data"]
    (packed,) = embed(stage, input="x", encoding_format="base64").json["data"]
    raw = base64.b64decode(packed["embedding"])
    assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == pytest.approx(plain["embedding"])
    assert "encoding_format" not in stage.model.calls[-1]


def test_dimensions_cut_a_vector_to_length_one(play: Play) -> None:
    stage = play()
    (whole,) = embed(stage, input="x").json["data"]
    (short,) = embed(stage, input="x", dimensions=3).json["data"]
    length = math.hypot(*whole["embedding"][:3])
    assert short["embedding"] == pytest.approx([number / length for number in whole["embedding"][:3]])
    assert stage.model.calls[-1]["dimensions"] == 3


def test_a_clouds_dimensions_are_set_where_the_request_names_none(play: Play) -> None:
    stage = play(openrouter_api_key=SecretStr("k"), cloud_embed_dimensions=4)
    answer = embed(stage, model="a/cloudy", input="x")
    assert len(answer.json["data"][0]["embedding"]) == 4
    assert stage.cloud.calls[-1]["dimensions"] == 4
    assert stage.jobs.get(UUID(answer.headers["x-llm-mcp-job"])).kind == "openrouter.embed"
    assert len(embed(stage, model="a/cloudy", input="x", dimensions=2).json["data"][0]["embedding"]) == 2
    assert len(embed(stage, input="x").json["data"][0]["embedding"]) == 8


def test_the_default_model_has_to_be_asked_for(play: Play) -> None:
    stage = play()
    answer = embed(stage, model="auto", input="x")
    assert answer.headers["X-Selected-Model"] == "play-embed:latest"
    answer = embed(stage, model=None, input="x")
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "model_required")


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({}, "input", "empty_input"),
    ({"input": ""}, "input", "empty_input"),
    ({"input": []}, "input", "empty_input"),
    ({"input": 7}, "input", "invalid_input"),
    ({"input": {"a": 1}}, "input", "invalid_input"),
    ({"input": [1, 2, 3]}, "input[0]", "invalid_input"),
    ({"input": ["a", [1]]}, "input[1]", "invalid_input"),
    ({"input": "x", "encoding_format": "hex"}, "encoding_format", "invalid_value"),
    ({"input": "x", "dimensions": 0}, "dimensions", "invalid_value"),
    ({"input": "x", "dimensions": "8"}, "dimensions", "invalid_value"),
]


def test_bad_input_is_refused_by_its_name(play: Play) -> None:
    stage = play()
    for fields, param, code in BAD:
        answer = embed(stage, **fields)
        assert answer.status_code == 400, fields
        error = answer.json["error"]
        assert (error["param"], error["code"]) == (param, code), fields


@pytest.mark.parametrize(
    ("model", "keys", "code"),
    [("play-embed", {}, "embed_failed"), ("a/cloudy", {"openrouter_api_key": SecretStr("k")}, "cloud_embed_failed")],
)
def test_a_provider_that_fails_is_a_bad_gateway(play: Play, model: str, keys: dict[str, Any], code: str) -> None:
    broken = ProviderError("fake answered 500: no", retryable=False, status=500)
    answer = embed(play([Fail(broken)], **keys), model=model, input="x")
    assert (answer.status_code, answer.json["error"]["code"]) == (502, code)
    assert answer.headers["x-should-retry"] == "false"
