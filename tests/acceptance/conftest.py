"""Fixtures over whole processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.running import Scratch, Up


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    """A folder to start `llm-mcp up` in."""
    made = Scratch()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Up]:
    """One `llm-mcp up` with two workers for all tests of a module that leave it as they found it."""
    made = Scratch()
    yield made.up("--workers", "2")
    made.close()
