"""Reading a JSON request body the way the wire contract's clients expect.

Empty is an error, `null` is an empty object, text after the first value is ignored, field names match in any case
(given twice, the last one counts); unknown fields are ignored too, but named in `warnings`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from flask import request

from llm_mcp import strictjson
from llm_mcp.errors import InvalidInput

from .fields import Table, check_all, sort_out

# Years before 1000 are no deadline anybody means, and in some time zones they lie before the first instant there is.
_RFC3339 = re.compile(
    r"[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_MAX_WARNINGS = 20
_MAX_NAME_CHARS = 100


class Body:
    """The fields of the current request's body, checked by their table.

    Parameters: `limit_bytes`, the largest body; `tolerant`, whether what no reader takes (NaN, half characters) is let
    in, for whom it would cost a finished answer otherwise. Raises InvalidInput naming the field, with code
    `invalid_json` for what is no JSON or of another sort; TooLarge.
    """

    def __init__(self, table: Table, *, limit_bytes: int, tolerant: bool = False) -> None:
        value = _object(request.get_data(cache=False), limit_bytes, tolerant=tolerant)
        self._fields, unknown = sort_out(value, table)
        for field in table:
            if field.fields is not None and isinstance(inner := self._fields.get(field.name), dict):
                self._fields[field.name], others = sort_out(inner, field.fields)
                unknown += [f"{field.name}.{name}" for name in others]
        self._unknown = [name[:_MAX_NAME_CHARS] for name in unknown]
        check_all(self._fields, table)

    @property
    def warnings(self) -> list[str]:
        """What the client should know of its body: the fields that meant nothing to us, the first 20 of them."""
        return [f"unknown field {name!r} was ignored" for name in self._unknown[:_MAX_WARNINGS]]

    def value(self, name: str, default: Any) -> Any:
        """Return any JSON value; an explicit null stays null."""
        return self._fields.get(name, default)

    def text(self, name: str) -> str:
        """Return a text, "" when absent or null."""
        return str(self._fields.get(name) or "")

    def integer(self, name: str) -> int:
        """Return an integer, 0 when absent or null."""
        return int(self._fields.get(name) or 0)

    def number(self, name: str) -> float:
        """Return a number, 0 when absent or null."""
        return float(self._fields.get(name) or 0)

    def flag(self, name: str, *, unless: bool) -> bool:
        """Return a flag, `unless` when absent or null."""
        found = self._fields.get(name)
        return unless if found is None else bool(found)

    def object(self, name: str) -> dict[str, Any]:
        """Return an object, an empty one when absent or null."""
        return dict(self._fields.get(name) or {})

    def array(self, name: str) -> list[Any]:
        """Return an array, an empty one when absent or null."""
        return list(self._fields.get(name) or [])

    def instant(self, name: str) -> datetime | None:
        """Return an RFC 3339 instant in UTC, None when absent, null or empty.

        Raises InvalidInput with code `invalid_<name>` for any other text.
        """
        return instant(self.text(name), name)


def instant(text: str, name: str) -> datetime | None:
    """Return the instant of an RFC 3339 text in UTC, None for "".

    Raises InvalidInput with field `name` and code `invalid_<name>` for any other text.
    """
    if not text:
        return None
    code = f"invalid_{name}"
    if not _RFC3339.fullmatch(text):
        raise InvalidInput("must look like 2026-11-22T07:00:31Z", field=name, code=code)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput("no such instant", field=name, code=code) from None


def _object(raw: bytes, limit_bytes: int, *, tolerant: bool) -> dict[str, Any]:
    if not raw.strip():
        raise InvalidInput("the body is empty", field="body", code="invalid_json")
    try:
        if tolerant:
            value = strictjson.loads_tolerant(raw, limit_bytes=limit_bytes)
        else:
            value = strictjson.loads(raw, limit_bytes=limit_bytes, trailing=True)
    except InvalidInput as error:
        error.field = error.field or "body"
        raise
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput("the body must be a JSON object", field="body", code="invalid_json")
    return value
