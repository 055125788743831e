"""What a run adds to its stream beside plain text, and when its first piece goes out."""

from __future__ import annotations

import math
from typing import Any

import pytest

from llm_mcp.events import Cursor
from llm_mcp.execution import call
from llm_mcp.payloads import Chat
from llm_mcp.providers.fake import Fake, Text
from llm_mcp.run import Run
from llm_mcp.runtime import Runtime
from llm_mcp.store import events
from llm_mcp.store.pool import Database
from tests.integration.rows import add, claim

PIECE = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOKEN = {"token": "a", "logprob": -1.0}


@pytest.fixture
def run(runtime: Runtime, db: Database) -> Run:
    """A run without a keeper: nothing of it is written but at once or by `flush`."""
    add(db)
    [lease] = claim(db)
    return Run(lease, runtime, fence_at=math.inf)


def written(db: Database, run: Run) -> list[Any]:
    """Return the data of the events that are there."""
    return [event.data for event in events.follow(db, run.lease.job_id, Cursor()).events]


def test_pieces_of_calls_and_text_with_its_tokens_are_never_joined(run: Run, db: Database) -> None:
    run.awaited = False
    for _ in range(2):
        run.tool_calls([PIECE])
    for _ in range(2):
        run.text("a", logprobs=[TOKEN])
    for text in ("b", "c"):
        run.text(text)
    run.tool_calls([])
    run.flush()
    with_token = {"text": "a", "logprobs": [TOKEN]}
    assert written(db, run) == [{"tool_calls": [PIECE]}] * 2 + [with_token] * 2 + [{"text": "bc"}]


def test_they_count_with_all_they_hold(run: Run, db: Database, runtime: Runtime) -> None:
    runtime.settings = runtime.settings.model_copy(update={"max_stream_bytes": 2048})
    run = Run(run.lease, runtime, fence_at=math.inf)
    run.awaited = False
    run.tool_calls([{**PIECE, "function": {"name": "f", "arguments": "x" * 2000}}])
    run.flush()
    assert written(db, run) == [{"text": "", "truncated": True}]


def test_the_first_piece_goes_out_at_once_where_it_is_awaited(run: Run, db: Database) -> None:
    run.text("a")
    assert written(db, run) == [{"text": "a"}]
    run.text("b")
    assert written(db, run) == [{"text": "a"}]


@pytest.mark.parametrize(("asked", "awaited"), [({}, True), ({"stream": True}, True), ({"stream": False}, False)])
def test_who_wants_the_whole_answer_awaits_no_piece(
    run: Run, db: Database, runtime: Runtime, asked: dict[str, Any], awaited: bool
) -> None:
    runtime._providers["ollama"] = Fake([Text("a"), Text("b")])
    result = call(run, "ollama", "chat", Chat(prompt="hi", **asked))
    assert result["response"] == "ab"
    assert written(db, run) == ([{"text": "a"}] if awaited else [])
    run.flush()
    assert "".join(data.get("text", "") for data in written(db, run)) == "ab"
