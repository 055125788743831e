"""What a field of a request may hold, said once: a body's checks and its schema in the API document come from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llm_mcp.errors import InvalidInput

Sort = Literal["any", "text", "instant", "uuid", "integer", "number", "flag", "array", "object"]

_TYPES: dict[str, tuple[type, ...]] = {
    "any": (object,),
    "text": (str,),
    "instant": (str,),
    "uuid": (str,),
    "integer": (int,),
    "number": (int, float),
    "flag": (bool,),
    "array": (list,),
    "object": (dict,),
}
_WORDS = {
    "text": "must be text",
    "instant": "must be text",
    "uuid": "must be text",
    "integer": "must be an integer",
    "number": "must be a number",
    "flag": "must be true or false",
    "array": "must be an array",
    "object": "must be an object",
}
_JSON = {"text": "string", "instant": "string", "uuid": "string", "flag": "boolean"}
_FORMATS = {"instant": "date-time", "uuid": "uuid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field: its name in lower case and what it may hold.

    `required`: the error's code when it is absent, null or blank, "" for a field that may be. `least` and `most` bound
    a number. `longest` (characters, or items of an array) is for the document only: a service holds it, for every door.
    `items`: what an array holds. `fields`: those of an object, None when any may be in it. `forms` (it has one),
    `pattern`, and `unless`, what it is when it is not given, are for the document too.
    """

    name: str = ""
    sort: Sort
    about: str = ""
    required: str = ""
    least: float | None = None
    most: float | None = None
    words: tuple[str, ...] = ()
    longest: int | None = None
    pattern: str = ""
    unless: Any = None
    items: Field | None = None
    fields: tuple[Field, ...] | None = None
    forms: tuple[Field, ...] = ()

    def check(self, value: Any, at: str) -> None:
        """Refuse a value that is not of this sort; `at` is its place. Raises InvalidInput, code `invalid_json`."""
        kind = _TYPES[self.sort]
        if self.sort != "any" and (not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind)):
            raise InvalidInput(_WORDS[self.sort], field=at, code="invalid_json")
        if self.sort in ("integer", "number"):
            self._check_bounds(value, at)
        if self.words and value not in self.words:
            raise InvalidInput(f"must be one of {', '.join(self.words)}", field=at)
        if self.items is not None:
            for place, item in enumerate(value):
                self.items.check(item, f"{at}[{place}]")
        if self.fields is not None:
            taken, _ = sort_out(value, self.fields)
            check_all(taken, self.fields, f"{at}.")

    def _check_bounds(self, value: float, at: str) -> None:
        low = self.least is not None and not value >= self.least  # so put, NaN is refused too
        high = self.most is not None and not value <= self.most
        if not (low or high):
            return
        if self.least is None or self.most is None:
            words = f"{self.least:.16g} or more" if self.least is not None else f"{self.most:.16g} or less"
        else:
            words = f"from {self.least:.16g} to {self.most:.16g}"
        raise InvalidInput(f"must be {words}", field=at)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of its values. Where a field may be left out, null is the same."""
        told: dict[str, Any] = {}
        if self.sort != "any":
            kind = _JSON.get(self.sort, self.sort)
            told["type"] = kind if self.required or not self.name else [kind, "null"]
        if self.forms:
            told["anyOf"] = [form.schema() for form in self.forms] + ([] if self.required else [{"type": "null"}])
        if self.sort in _FORMATS:
            told["format"] = _FORMATS[self.sort]
        if self.longest is not None:
            told["maxItems" if self.sort == "array" else "maxLength"] = self.longest
        said = {"minimum": self.least, "maximum": self.most, "pattern": self.pattern or None, "default": self.unless}
        told.update({name: value for name, value in said.items() if value is not None})
        if self.words:
            told["enum"] = list(self.words) if self.required else [*self.words, None]
        if self.required and self.sort == "text":
            told.setdefault("pattern", r"\S")
        if self.required and self.sort == "array":
            told["minItems"] = 1
        if self.items is not None:
            told["items"] = self.items.schema()
        if self.fields is not None:
            told.update(schema_of(self.fields))
        return {**told, "description": self.about} if self.about else told


Table = tuple[Field, ...]


def schema_of(table: Table) -> dict[str, Any]:
    """Return the schema of an object with these fields: `properties`, and what is `required`."""
    required = [field.name for field in table if field.required]
    told: dict[str, Any] = {"properties": {field.name: field.schema() for field in table}}
    return {**told, "required": required} if required else told


def sort_out(values: Mapping[str, Any], table: Table) -> tuple[dict[str, Any], list[str]]:
    """Return the fields that a table knows, under its names, and the names of the others.

    Names match in any case; given twice, the last one counts.
    """
    known = {field.name for field in table}
    taken: dict[str, Any] = {}
    unknown = []
    for name, value in values.items():
        if (folded := name.lower()) in known:
            taken[folded] = value
        else:
            unknown.append(name)
    return taken, unknown


def check_all(values: Mapping[str, Any], table: Table, before: str = "") -> None:
    """Refuse fields that are not as a table has them: first of the wrong sort, then missing.

    `before` is put before their names. Raises InvalidInput.
    """
    for field in table:
        if (value := values.get(field.name)) is not None:
            field.check(value, before + field.name)
    for field in table:
        value = values.get(field.name)
        if field.required and (value is None or (isinstance(value, str) and not value.strip())):
            words = "must not be blank" if field.sort in ("text", "any") else _WORDS[field.sort]
            raise InvalidInput(words, field=before + field.name, code=field.required)
