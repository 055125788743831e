"""The kinds a chaos run is made of. Each run of an actor is noted in a file of its process, apart from the product.

A line is written by one `write` to a file opened for appending: a process that is killed has written it or not, and
what it wrote stays.
"""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from llm_mcp import Cut, InvalidInput, Run, actor

NOTES = "CHAOS_NOTES"
"""Environment: the folder for the files."""


class Errand(BaseModel):
    """What a job is to do. `n`: its number, which makes its payload unlike any other."""

    n: str
    s: float = 0.0
    """How long it takes, s."""
    deaf: bool = False
    """Whether it works on without asking if it may."""
    silent: bool = False
    """Whether it streams nothing."""
    fails: int = 0
    """How many of its first tries fail."""
    hopeless: bool = False
    """Whether it fails for good at its first try."""


@actor("chaos.work", payload=Errand, max_attempts=10)
def work(errand: Errand, run: Run) -> dict[str, Any]:
    """Take a while, and stream and return which run this was."""
    nonce = begin(run)
    until = time.monotonic() + errand.s
    try:
        while (left := until - time.monotonic()) > 0:
            if errand.deaf:
                time.sleep(left)
            else:
                run.check() if errand.silent else run.text(f"{nonce}\n")
                time.sleep(min(left, 0.1))
        run.check() if errand.silent else run.text(f"{nonce}\n")
    except Cut:
        note("deaf" if errand.deaf else "cut", run, nonce)
        raise
    note("end", run, nonce)
    return {"n": errand.n, "attempt": run.lease.attempt, "token": run.lease.token, "nonce": nonce}


@actor("chaos.fail", payload=Errand, max_attempts=3)
def fail(errand: Errand, run: Run) -> dict[str, Any]:
    """Be like `work`, but fail at the end as often as asked."""
    result: dict[str, Any] = work(errand, run)
    if errand.hopeless or run.lease.tries <= errand.fails:
        note("fail", run, result["nonce"])
        raise InvalidInput("asked to fail for good", field="hopeless") if errand.hopeless else RuntimeError("asked to")
    return result


@actor("chaos.pill", payload=Errand, max_attempts=10)
def pill(errand: Errand, run: Run) -> None:
    """Kill the worker that runs it."""
    begin(run)
    os.kill(os.getpid(), signal.SIGKILL)


def begin(run: Run) -> str:
    """Note that a run began and return a name that no other run has."""
    nonce = uuid.uuid4().hex
    note("begin", run, nonce)
    return nonce


def note(what: str, run: Run, nonce: str) -> None:
    """Add a line to this process's file."""
    lease = run.lease
    line = {"what": what, "job": str(lease.job_id), "attempt": lease.attempt, "token": lease.token, "nonce": nonce}
    line |= {"pid": os.getpid(), "at": time.monotonic(), "why": run.was_cut}
    os.write(_file(os.getpid()), f"{json.dumps(line)}\n".encode())


@cache
def _file(pid: int) -> int:
    path = Path(os.environ[NOTES]) / f"{pid}-{uuid.uuid4().hex[:6]}.jsonl"
    return os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
