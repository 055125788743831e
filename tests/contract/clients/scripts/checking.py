"""What every script of a client is made of: checks that are run one after another, each of which says how it went.

Needs nothing but Python, for it runs in the client's own environment. The server's address is the first argument; a
check is a function without arguments, and passes when it raises nothing.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable
from typing import Any

SERVER = sys.argv[1] if len(sys.argv) > 1 else ""
"""The server's base URL, without a slash at its end."""
FIRM = {"temperature": 0, "seed": 7}
LONG = 20_000
"""So many tokens take longer than any check waits."""
PATIENCE_S = 60.0
_WORDS = 400


def run(*checks: Callable[[], object]) -> None:
    """Run the checks, and print one JSON line for each: `check`, `ok`, and `told`, what went wrong."""
    for check in checks:
        told = ""
        try:
            check()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and the next check runs
            frames = traceback.extract_tb(error.__traceback__)
            frame = ([one for one in frames if one.filename == sys.argv[0]] or frames)[-1]
            told = f"{type(error).__name__}: {str(error)[:_WORDS]} (line {frame.lineno}: {frame.line})"
        print(json.dumps({"check": check.__name__, "ok": not told, "told": told}), flush=True)


def rest(method: str, path: str) -> Any:
    """Return what the server's own API answers."""
    request = urllib.request.Request(SERVER + path, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)


def newest(source: str) -> str:
    """Return the id of the newest job that came in by a dialect."""
    return str(rest("GET", f"/v1/jobs?source={source}&limit=1")["items"][0]["id"])


def cancel(job_id: str) -> None:
    """Cancel a job by the server's own API."""
    rest("POST", f"/v1/jobs/{job_id}/cancel")


def ended(job_id: str) -> str:
    """Wait until a job is over, and return how it ended: `done` or `error`."""
    end = time.monotonic() + PATIENCE_S
    while (status := str(rest("GET", f"/v1/jobs/{job_id}")["status"])) not in ("done", "error"):
        assert status in ("queued", "running"), f"job {job_id} is {status}"
        assert time.monotonic() < end, f"job {job_id} is {status}"
        time.sleep(0.05)
    return status


def raised(kind: type[BaseException], work: Callable[[], object]) -> Any:
    """Return the error of this kind that `work` raises."""
    try:
        work()
    except kind as error:
        return error
    raise AssertionError(f"raised no {kind.__name__}")


def same(left: object, right: object) -> None:
    """Fail when the two differ, and say how."""
    assert left == right, f"{left!r} is not {right!r}"


def near(left: list[float], right: list[float]) -> bool:
    """Say whether two vectors are the same but for what packing them loses."""
    return len(left) == len(right) > 0 and all(abs(a - b) < 1e-5 for a, b in zip(left, right, strict=True))
