"""Named statements: read once from `db/queries/*.sql`, each under its `-- name:` line."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
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

    Raises ValueError when two files use one name.
    """
    found: dict[str, str] = {}
    for path in sorted(files("llm_mcp.db").joinpath("queries").iterdir(), key=lambda entry: entry.name):
        if not path.name.endswith(".sql"):
            continue
        parts = _NAME.split(path.read_text(encoding="utf-8"))
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise ValueError(f"two statements are named {name}")
            found[name] = in_schema(body.strip().rstrip(";"), schema)
    return MappingProxyType(found)
