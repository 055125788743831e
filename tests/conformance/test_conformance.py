"""The harness's fixtures stand on the product's server, and what the harness says is read as it is meant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp_types import INVALID_PARAMS

from tests.conformance import harness, running
from tests.conformance.suites import SUITES, Suite

REQUIRED = [suite for suite in SUITES if "--requirements" in suite.words]
SMALL = Suite("small", "", (), 2, frozenset({"known"}))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The product's bridge with the fixtures on it."""
    with running.serving() as found:
        yield found


def left(folder: Path, scenario: str, *checks: dict[str, Any]) -> None:
    """Leave what the harness leaves of a scenario."""
    file = folder / f"server-{scenario}-2026-01-02T03-04-05-678Z" / "checks.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(checks))


def test_a_scenario_has_passed_when_nothing_failed_or_warned(tmp_path: Path) -> None:
    left(tmp_path, "good", {"id": "a", "status": "SUCCESS"}, {"id": "b", "status": "INFO"})
    left(tmp_path, "not-ours", {"id": "a", "status": "SKIPPED"}, {"id": "known", "status": "WARNING"})
    found = harness.read(tmp_path, SMALL)
    assert [(one.name, one.checks, one.skipped) for one in found] == [("good", 1, 0), ("not-ours", 0, 1)]
    assert harness.short(SMALL, found) == []


def test_what_failed_or_warned_is_told_and_what_did_not_run(tmp_path: Path) -> None:
    left(
        tmp_path,
        "bad",
        {"id": "a", "status": "SUCCESS"},
        {"id": "b", "status": "FAILURE", "errorMessage": "it is not so"},
        {"id": "c", "status": "WARNING", "description": "it should be so"},
    )
    told = harness.short(SMALL, harness.read(tmp_path, SMALL))
    assert told == ["bad: b: it is not so", "bad: c: it should be so", "1 scenarios ran; 2 were to"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_fixtures_stand_beside_what_the_product_has(url: str, mode: str) -> None:
    async def look() -> None:
        async with Client(url, mode=mode) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert {"llm_chat", "test_simple_text", "slow_compute"} <= names
            assert (await client.call_tool("test_error_handling", {})).is_error
            # The product says so; the SDK by itself would answer as to a tool that failed.
            with pytest.raises(MCPError) as refused:
                await client.call_tool("no_such_tool", {})
            assert refused.value.code == INVALID_PARAMS

    anyio.run(look)


@pytest.mark.parametrize("suite", REQUIRED, ids=lambda suite: suite.name)
def test_the_product_has_what_a_revision_requires(suite: Suite, url: str) -> None:
    if not harness.made():
        pytest.skip("the harness is not here; `make conformance` brings it")
    assert harness.short(suite, harness.run(suite, url)) == []
