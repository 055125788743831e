"""The compose file opens nothing to the network, has no password of its own, and grants a drain its time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import AliasChoices

from llm_mcp.config import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]


def test_ports_are_published_on_loopback_only() -> None:
    published = {name: ports for name, service in SERVICES.items() if (ports := service.get("ports"))}
    assert set(published) == {"postgres", "core", "rpc", "mcp"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_a_password_has_no_default() -> None:
    said = re.findall(r"\$\{(\w*(?:PASSWORD|KEY|TOKEN|SECRET)\w*)(:\?)?", TEXT)
    assert said
    assert [name for name, must in said if not must and not name.endswith("_FILE")] == []


def test_work_starts_after_the_schema_is_there() -> None:
    for name in ("core", "rpc", "worker"):
        assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_each_part_is_told_what_it_can_be_told() -> None:
    known = {
        alias
        for field in Settings.model_fields.values()
        if isinstance(field.validation_alias, AliasChoices)
        for alias in field.validation_alias.choices
    }
    ours = {name: service["environment"] for name, service in SERVICES.items() if service["image"] == "llm-mcp"}
    assert set(ours) == {"migrate", "core", "rpc", "mcp", "worker"}
    for name, told in ours.items():
        assert told.keys() - known == {"PGPASSWORD"}, name
        assert told["DB_DSN"], name


def test_the_bridge_has_tokens_and_is_there_only_when_wanted() -> None:
    bridge = SERVICES["mcp"]
    assert bridge["profiles"] == ["mcp"]
    assert bridge["environment"]["LLM_MCP_TOKENS"] == f"/run/secrets/{bridge['secrets'][0]}"
    asked = bridge["environment"]["CORE_GRPC_ADDR"]
    assert asked.split(":") == ["rpc", SERVICES["rpc"]["command"][-1].rpartition(":")[2]]
    assert {name: of["condition"] for name, of in bridge["depends_on"].items()} == dict.fromkeys(
        ("core", "rpc"), "service_healthy"
    )


def test_a_worker_may_drain_before_it_is_killed() -> None:
    grace = re.fullmatch(r"(\d+)s", SERVICES["worker"]["stop_grace_period"])
    assert grace is not None
    assert int(grace[1]) >= Settings.model_fields["drain_s"].default + 10
