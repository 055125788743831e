"""The floors are watched by machines: an import that goes up, or reaches past a service, is found."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .checkout import copy, run

BIN = Path(sys.executable).parent
# A Python of ours in the environment would let the linter read another checkout than the one it stands in.
ENV = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

FLOORS = "Floors: imports only go down"
HANDS = "Hands do not know each other"
DOORS = "Doors and actors use services and words, never hands"
LEAF = "Nobody imports a leaf"
LEAVES = "Leaves do not know each other"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project to plant faults in."""
    return copy(tmp_path_factory.mktemp("tree"))


@contextmanager
def planted(tree: Path, path: str, line: str) -> Iterator[None]:
    """Add a line to a file of the copy for the time of the block."""
    file = tree / path
    before = file.read_text(encoding="utf-8")
    file.write_text(f"{before}\n{line}\n", encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(before, encoding="utf-8")


def test_the_floors_are_clean(tree: Path) -> None:
    said = run(BIN / "lint-imports", "--no-cache", cwd=tree, env=ENV)
    assert [name for name in (FLOORS, HANDS, DOORS, LEAF, LEAVES) if f"{name} KEPT" not in said] == []


@pytest.mark.parametrize(
    ("path", "line", "contract"),
    [
        ("web/health.py", "import llm_mcp.store", DOORS),
        ("actors/echo.py", "from llm_mcp.providers import base", DOORS),
        ("web/health.py", "import psycopg", DOORS),
        ("llm_mcp/job.py", "import llm_mcp.jobs", FLOORS),
        ("llm_mcp/store/sql.py", "from llm_mcp import runtime", FLOORS),
        ("llm_mcp/jobs.py", "import llm_mcp.worker", FLOORS),
        ("llm_mcp/store/sql.py", "import llm_mcp.embedded.postgres", HANDS),
        ("llm_mcp/worker.py", "import actors", LEAF),
        ("web/health.py", "import actors.echo", LEAVES),
    ],
)
def test_an_import_that_goes_up_is_found(tree: Path, path: str, line: str, contract: str) -> None:
    with planted(tree, path, line):
        said = run(BIN / "lint-imports", "--no-cache", cwd=tree, env=ENV, fails=True)
    assert f"{contract} BROKEN" in said


def test_a_new_module_needs_a_floor(tree: Path) -> None:
    lost = tree / "llm_mcp" / "lost.py"
    lost.write_text('"""On no floor."""\n', encoding="utf-8")
    try:
        said = run(BIN / "lint-imports", "--no-cache", cwd=tree, env=ENV, fails=True)
    finally:
        lost.unlink()
    assert "lost" in said


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("llm_mcp/jobs.py", "import httpx2"),
        ("web/health.py", "from httpx2 import Client"),
        # By their installed names the leaves are out of import-linter's sight.
        ("web/health.py", "from llm_mcp.actors import echo"),
        ("llm_mcp/worker.py", "import llm_mcp.web.app"),
    ],
)
def test_a_banned_name_is_found(tree: Path, path: str, line: str) -> None:
    words = ["check", "--no-cache", "--select", "TID251", "--output-format", "concise"]
    run(BIN / "ruff", *words, cwd=tree)
    with planted(tree, path, line):
        said = run(BIN / "ruff", *words, cwd=tree, fails=True)
    assert f"{path}:" in said
    assert "TID251" in said
