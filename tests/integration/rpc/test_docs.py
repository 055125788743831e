"""The examples of the page about gRPC run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_mcp import config
from llm_mcp.config import Settings
from tests.integration.rpc.served import Served

PAGE = Path(__file__).parents[3] / "docs" / "grpc.md"


@pytest.fixture
def working(rpc_settings: Settings) -> Iterator[None]:
    """A worker of ours."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "llm_mcp", "worker"],
        env=config.child_environment(rpc_settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline().startswith(b"ready")
    yield
    worker.terminate()
    worker.wait(timeout=30)
    worker.stdout.close()


def test_the_example(served: Served, working: None) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert "127.0.0.1:9090" in example
    script = example.replace("127.0.0.1:9090", served.target)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["world", "done"]


def test_the_page_names_every_method() -> None:
    page, proto = PAGE.read_text(), (PAGE.parent.parent / "proto" / "llm.proto").read_text()
    methods = re.findall(r"rpc (\w+)\(", proto)
    assert [name for name in methods if f"`{name}`" not in page] == []
