"""What clients are told of what is away: of a provider its own words, of the database none."""

from __future__ import annotations

import json

import pytest

from llm_mcp.errors import LlmMcpError, NoProvider, Unavailable
from llm_mcp.web import errors


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (NoProvider("there is no key for openrouter", code="no_api_key"), "no_api_key", "no key for openrouter"),
        (errors.Full("no place for another stream (of 9)"), "too_many_streams", "no place"),
        (Unavailable("connection to 10.0.0.7 refused"), "unavailable", "the database does not answer"),
    ],
)
def test_what_is_away(error: LlmMcpError, code: str, message: str) -> None:
    answer = errors.of_ours(error)
    told = json.loads(answer.data)
    assert (answer.status_code, told["error"]) == (503, code)
    assert message in told["message"]
    assert "10.0.0.7" not in told["message"]
    assert int(answer.headers["Retry-After"]) >= 1
