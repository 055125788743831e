"""Reading a JSON request body the way the wire contract's clients expect.

Empty is an error, `null` is an empty object, text after the first value is ignored, field names match in any case;
unknown fields are ignored too, but named in `warnings`.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from flask import request

from llm_mcp import strictjson
from llm_mcp.errors import InvalidInput

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


class Body:
    """The fields of one request body. Each getter raises InvalidInput with the field's name."""

    def __init__(self, known: frozenset[str], *, limit_bytes: int) -> None:
        raw = request.get_data(cache=False)
        if not raw.strip():
            raise InvalidInput("the body is empty", field="body", code="invalid_json")
        value = strictjson.loads(raw, limit_bytes=limit_bytes, trailing=True)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise InvalidInput("the body must be a JSON object", field="body", code="invalid_json")
        self._fields: dict[str, Any] = {}
        self.unknown: list[str] = []
        for name, inner in value.items():
            folded = name.lower()
            if folded in known:
                self._fields[folded] = inner
            else:
                self.unknown.append(name[:100])

    def value(self, name: str, default: Any) -> Any:
        """Return any JSON value; an explicit null stays null."""
        return self._fields.get(name, default)

    def text(self, name: str) -> str:
        """Return a text, "" when absent or null."""
        found = self._fields.get(name)
        if found is None:
            return ""
        if not isinstance(found, str):
            raise InvalidInput("must be text", field=name, code="invalid_json")
        return found

    def integer(self, name: str) -> int:
        """Return an integer, 0 when absent or null."""
        found = self._fields.get(name)
        if found is None:
            return 0
        if isinstance(found, bool) or not isinstance(found, int):
            raise InvalidInput("must be an integer", field=name, code="invalid_json")
        return found

    def number(self, name: str) -> float:
        """Return a number, 0 when absent or null."""
        found = self._fields.get(name)
        if found is None:
            return 0.0
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise InvalidInput("must be a number", field=name, code="invalid_json")
        return float(found)

    def instant(self, name: str) -> datetime | None:
        """Return an RFC 3339 instant, None when absent, null or empty."""
        text = self.text(name)
        if not text:
            return None
        code = f"invalid_{name}"
        if not _RFC3339.fullmatch(text):
            raise InvalidInput("must look like 2026-11-22T07:00:31Z", field=name, code=code)
        try:
            # fromisoformat reads six digits of a second at most.
            return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
        except ValueError:
            raise InvalidInput("no such instant", field=name, code=code) from None
