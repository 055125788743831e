"""A job as a model is told it: how long it took, to the millisecond."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from llm_mcp.mcp_bridge.answers import described
from llm_mcp.rpc import llm_pb2 as pb

ASKED_MS = 1_795_000_000_250
ID = UUID(int=(ASKED_MS << 80) | (7 << 76) | (2 << 62))
FINISHED: dict[str, Any] = {
    "status": "done",
    "queued_at": "2026-11-18T11:06:40Z",
    "finished_at": "2026-11-18T11:06:42.123Z",
}


def test_how_long_a_job_took_is_told_to_the_millisecond() -> None:
    assert described(pb.Job(id=str(ID), **FINISHED)).duration_ms == 1873
    other = "c0ffee00-0000-4000-8000-000000000000"  # an id of somebody's own, which tells no time
    assert described(pb.Job(id=other, **FINISHED)).duration_ms == 2123
    assert described(pb.Job(id=str(ID), status="queued")).duration_ms == -1
