"""One witnessed Postgres for all faults, which may be killed and comes back; each test finds it empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.stage import Stage
from tests.faults.ground import SPARES, Ground


@pytest.fixture(scope="package", autouse=True)
def _spares() -> Iterator[None]:
    """No process outlives the tests."""
    yield
    SPARES.close()


@pytest.fixture(scope="package")
def stage() -> Iterator[Stage]:
    """The server and its witness."""
    with Stage() as made:
        yield made


@pytest.fixture
def ground(stage: Stage, tmp_path: Path) -> Iterator[Ground]:
    """Workers, wires and clients over it, all gone in the end."""
    with Ground(stage, tmp_path) as made:
        yield made
