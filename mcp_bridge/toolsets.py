"""Which tools models are shown: sets of them by name, or only those that change nothing."""

from __future__ import annotations

import logging
from typing import Final

from llm_mcp.errors import SetupError

from .door import Door
from .schema import BridgeTool
from .tools import asking, embedding, fleet, jobs

log = logging.getLogger(__name__)

TOOLSETS: Final = ("core", "ops")
"""The sets there are. `ops`, for who runs the fleet, has no tool yet."""


def chosen(door: Door) -> list[BridgeTool]:
    """Return the tools that the settings ask for, in an order that does not change. Raises SetupError."""
    settings = door.settings
    wanted = [name.strip() for name in settings.mcp_toolsets.split(",") if name.strip()]
    for name in wanted:
        if name not in TOOLSETS:
            raise SetupError(f"LLM_MCP_TOOLSETS: no such set {name!r}; there are {', '.join(TOOLSETS)}")
    made = [one for room in (asking, embedding, jobs, fleet) for one in room.tools(door)]
    shown = [one for one in made if one.toolset in wanted and (not settings.mcp_read_only or _reads(one))]
    for name in wanted:
        if not any(one.toolset == name for one in made):
            log.warning(
                "this set of tools is empty in this version", extra={"action": "toolset_empty", "toolset": name}
            )
    return shown


def _reads(one: BridgeTool) -> bool:
    return one.annotations is not None and one.annotations.read_only_hint is True
