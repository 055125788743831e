"""Named statements: read once from `db/queries/*.sql`, each under its `-- name:` line.

What several of them have in common stands under a `-- part:` line, and they say `{its_name}` in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- (name|part): (\w+)\n", re.MULTILINE)
_VALUE = re.compile(r"%\((\w+)\)s")
_PART = re.compile(r"\{([a-z]\w*)\}")
_SCHEMA = re.compile(r"\bllm\.")
DEFAULT_SCHEMA = "llm"


def in_schema(text: str, schema: str) -> str:
    """Return SQL text with our schema's name put in place of the written `llm.`.

    The files say `llm.jobs` so that they can be pasted into psql. `schema` is a plain identifier, quoted here because
    it may still be a word of SQL.
    """
    return text if schema == DEFAULT_SCHEMA else _SCHEMA.sub(f'"{schema}".', text)


@cache
def statements(schema: str = DEFAULT_SCHEMA) -> MappingProxyType[str, str]:
    """Return every named statement, by name.

    Raises ValueError when one name is used twice, or a part is not there.
    """
    found: dict[str, dict[str, str]] = {"name": {}, "part": {}}
    for path in sorted(files("llm_mcp.db").joinpath("queries").iterdir(), key=lambda entry: entry.name):
        if not path.name.endswith(".sql"):
            continue
        parts = _NAME.split(path.read_text(encoding="utf-8"))
        for sort, name, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            if name in found[sort]:
                raise ValueError(f"two statements are named {name}")
            found[sort][name] = in_schema(body.strip().rstrip(";"), schema)
    return MappingProxyType({name: _whole(body, found["part"]) for name, body in found["name"].items()})


@cache
def numbered(text: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a statement as Postgres itself takes it, `$1` for `%(name)s`, and the names in their numbers' order."""
    numbers: dict[str, int] = {}
    query = _VALUE.sub(lambda value: f"${numbers.setdefault(value[1], len(numbers) + 1)}", text)
    return query.encode(), tuple(numbers)


def _whole(body: str, parts: Mapping[str, str]) -> str:
    """Return a statement with its parts in their places."""

    def part(named: re.Match[str]) -> str:
        if named[1] not in parts:
            raise ValueError(f"no part is named {named[1]}")
        return parts[named[1]]

    return _PART.sub(part, body)
