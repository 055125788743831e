"""A kind that calls somebody outside and can be cut at its socket, as a model's call can; and two that do nothing."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from llm_mcp import Run, actor
from tests.chaos.actors import Errand, begin, note

UPSTREAM = "FAULTS_UPSTREAM"
"""Environment: the Unix socket of the one who is called. No network that is cut lies on the way to it."""


@actor("faults.call", payload=Errand, max_attempts=10)
def call(errand: Errand, run: Run) -> dict[str, Any]:
    """Hold a call for `s` seconds and return which run this was."""
    nonce = begin(run)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(os.environ[UPSTREAM])
        run.when_cut(lambda: line.shutdown(socket.SHUT_RDWR))
        asked = {"job": str(run.lease.job_id), "attempt": run.lease.attempt, "s": errand.s}
        line.sendall(f"{json.dumps(asked)}\n".encode())
        answer = line.recv(1)
        run.when_cut(None)
    run.check()
    if not answer:
        raise RuntimeError("the call was ended from the other side")
    note("end", run, nonce)
    return {"n": errand.n, "attempt": run.lease.attempt, "token": run.lease.token, "nonce": nonce}


@actor("faults.nothing", payload=Errand, max_attempts=10)
def nothing(errand: Errand, run: Run) -> dict[str, Any]:
    """Return which run this was, at once."""
    nonce = begin(run)
    note("end", run, nonce)
    return {"n": errand.n, "attempt": run.lease.attempt, "token": run.lease.token, "nonce": nonce}


@actor("faults.silent", payload=Errand, max_attempts=10)
def silent(errand: Errand) -> None:
    """Note nothing, for hundreds of thousands of them."""
