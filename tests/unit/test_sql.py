"""The named statements as text."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from llm_mcp import store
from llm_mcp.store.migrate import migrations
from llm_mcp.store.sql import in_schema, numbered, statements

_RUN = re.compile(r'\.run(?:_tuples)?\(\s*"(\w+)"')


def _asked_for() -> set[str]:
    folder = Path(store.__path__[0])
    return {name for path in folder.glob("*.py") for name in _RUN.findall(path.read_text())}


def test_the_store_runs_every_statement_and_no_other() -> None:
    assert _asked_for() == set(statements())


def test_every_statement_says_first_what_it_does() -> None:
    for name, text in statements().items():
        assert re.match(r"-- [A-Z][^\n]*[.?]", text), name


def test_nothing_but_the_store_speaks_sql() -> None:
    package = Path(store.__path__[0]).parent
    spoken = re.compile(r'"""?\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE|ALTER)\b')
    assert not [
        path
        for path in package.rglob("*.py")
        if path.parent != Path(store.__path__[0]) and path.parent.name != "embedded" and spoken.search(path.read_text())
    ]


@pytest.mark.parametrize("schema", ["other", "user", "_x1"])
def test_another_schema_is_quoted_and_leaves_nothing_of_ours(schema: str) -> None:
    texts = [*statements(schema).values(), *(migration.text for migration in migrations(schema))]
    assert not [text for text in texts if re.search(r"\bllm\.", text)]
    assert f'"{schema}".jobs' in statements(schema)["turn"]


def test_our_own_schema_is_pasted_as_it_is_written() -> None:
    assert in_schema("SELECT llm.submit('x')", "llm") == "SELECT llm.submit('x')"
    assert in_schema("film.x llm_mcp.y llm.z", "s") == 'film.x llm_mcp.y "s".z'


def test_one_name_is_one_statement() -> None:
    names = [
        name
        for path in files("llm_mcp.db").joinpath("queries").iterdir()
        if path.name.endswith(".sql")
        for name in re.findall(r"^-- name: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert sorted(names) == sorted(statements())


def test_a_part_is_in_every_statement_that_names_it() -> None:
    found = statements()
    for name in ("complete", "turn"):
        assert "INSERT INTO llm.job_attempts" in found[name]
    for name in ("claim", "turn"):
        assert "FOR UPDATE SKIP LOCKED" in found[name]
    assert not [name for name, text in found.items() if re.search(r"\{[a-z]\w*\}|-- (name|part): ", text)]


def test_values_are_numbered_as_they_come() -> None:
    assert numbered("SELECT %(b)s, %(a)s, %(b)s::text") == (b"SELECT $1, $2, $1::text", ("b", "a"))
    assert numbered("SELECT 1") == (b"SELECT 1", ())
