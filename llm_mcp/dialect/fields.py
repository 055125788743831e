"""Reading an object of a request: every getter says what is wrong with which field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llm_mcp.errors import InvalidInput

UNSUPPORTED = "unsupported_parameter"
INVALID_TYPE = "invalid_type"
INVALID_VALUE = "invalid_value"


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object. Getters return None for what is absent or null, and raise InvalidInput naming the field.

    `at` is the object's own place in the request, "" for the whole.
    """

    values: Mapping[str, Any]
    at: str = ""

    def path(self, name: str) -> str:
        """Return the place of a field."""
        return f"{self.at}.{name}" if self.at else name

    def get(self, name: str) -> Any:
        """Return a value of any sort."""
        return self.values.get(name)

    def text(self, name: str) -> str | None:
        """Return a text."""
        value: str | None = self._typed(name, str, "text")
        return value

    def flag(self, name: str) -> bool | None:
        """Return a flag."""
        value: bool | None = self._typed(name, bool, "true or false")
        return value

    def number(self, name: str, least: float, most: float) -> float | None:
        """Return a number of this range."""
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.wrong(name, f"must be a number from {least:g} to {most:g}")
        return value

    def integer(self, name: str, least: int, most: int) -> int | None:
        """Return an integer of this range."""
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(name, f"must be an integer from {least} to {most}")
        return value

    def word(self, name: str, *known: str) -> str | None:
        """Return one of the words known here."""
        value = self.get(name)
        if value is not None and value not in known:
            raise self.wrong(name, f"must be one of {', '.join(known)}")
        return value if isinstance(value, str) else None

    def object(self, name: str) -> Fields | None:
        """Return an object."""
        value = self._typed(name, dict, "an object")
        return None if value is None else Fields(value, self.path(name))

    def objects(self, name: str) -> Iterator[Fields]:
        """Yield the objects of a list; none when it is absent."""
        for place, item in enumerate(self._typed(name, list, "a list") or []):
            at = f"{self.path(name)}[{place}]"
            if not isinstance(item, dict):
                raise InvalidInput("must be an object", field=at, code=INVALID_TYPE)
            yield Fields(item, at)

    def needed(self, name: str) -> str:
        """Return a text that must be there."""
        value = self.text(name)
        if not value:
            raise InvalidInput("is required", field=self.path(name), code="missing_required_parameter")
        return value

    def wrong(self, name: str, words: str, code: str = INVALID_VALUE) -> InvalidInput:
        """Return the error of a field."""
        return InvalidInput(words, field=self.path(name), code=code)

    def _typed(self, name: str, kind: type[Any], words: str) -> Any:
        value = self.get(name)
        if value is not None and not isinstance(value, kind):
            raise self.wrong(name, f"must be {words}", INVALID_TYPE)
        return value
