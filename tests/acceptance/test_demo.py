"""`llm-mcp demo`: a real model, a killed worker, a summary, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from llm_mcp.embedded.device import catalog
from tests.acceptance.running import COMMAND, Scratch, wait_gone


@pytest.mark.skipif(catalog.unavailable_reason() is not None, reason=f"no demo here: {catalog.unavailable_reason()}")
def test_the_demo_keeps_its_promises(scratch: Scratch) -> None:
    began = time.monotonic()
    made = subprocess.run(
        [*COMMAND, "demo"],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
        env={**os.environ, "COLUMNS": "160", "TMPDIR": str(scratch.path)},
    )
    print(f"the demo took {time.monotonic() - began:.1f} s")
    assert made.returncode == 0, made.stderr
    lines = {line.split("  ")[0].strip(): line for line in made.stdout.splitlines()}
    for row in ("device", "model", "tokens/s", "first token", "answer after the kill"):
        assert row in lines
    assert "smollm2" in lines["model"]
    assert "lease_expired, done" in lines["attempts"]
    statuses = [
        line.split(" ")[0] for line in made.stderr.splitlines() if line.split(" ")[0] in ("queued", "running", "done")
    ]
    # Between the kill and the end a watcher may miss how briefly the job was queued again.
    assert statuses[:5] == ["queued", "running", "done", "queued", "running"]
    assert statuses[-1] == "done"
    assert "attempt 2 begins" in made.stderr
    assert "kill -9" in made.stderr
    assert list(scratch.path.iterdir()) == []
    wait_gone(lambda command, _: str(scratch.path) in command)
