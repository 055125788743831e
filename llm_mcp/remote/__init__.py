"""Workers that come by a door, in any language: on the same leases as our own."""

from __future__ import annotations

from llm_mcp.store.devices import Described
from llm_mcp.store.reports import Measured

from .claims import Claimed
from .desk import Waiter
from .streams import Appended
from .verbs import Failed, Remote

__all__ = ["Appended", "Claimed", "Described", "Failed", "Measured", "Remote", "Waiter"]
