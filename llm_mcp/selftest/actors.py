"""The kind of job that does nothing. Only the workers of a self-test import this module."""

from __future__ import annotations

import json
import time
from typing import Any

from llm_mcp.kind_actor import actor

KIND = "selftest.nothing"
PAYLOAD_BYTES = 200


@actor(KIND)
def nothing(payload: Any) -> int:  # noqa: ARG001 - it does nothing
    """Return when it began: µs of the monotonic clock that all processes of a machine share."""
    return time.monotonic_ns() // 1000


def payload(n: int) -> dict[str, Any]:
    """Return the payload of the `n`th job, 200 bytes of JSON."""
    bare = len(json.dumps({"n": n, "pad": ""}, separators=(",", ":")))
    return {"n": n, "pad": "x" * (PAYLOAD_BYTES - bare)}
