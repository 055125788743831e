"""Ollama's wire: request bodies read as Ollama reads them, refused in its words, and the forms of an answer.

Ollama decodes with Go's encoding/json: text after the first value is ignored, half characters become U+FFFD, null is
the same as absent, and a field of the wrong type is a 400 that names it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator
from typing import Any, TypeVar

_T = TypeVar("_T")

Lines = Generator[dict[str, Any], None, None]
"""The objects of a streamed answer, a line each. Whoever takes them closes them."""

Answer = dict[str, Any] | Lines
"""One JSON object, or a stream of them."""

MAX_DEPTH = 100
_JSON_TYPES: dict[type, str] = {
    bool: "bool",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
_GO_TYPES: dict[type, str] = {
    bool: "bool",
    int: "float64",
    float: "float64",
    str: "string",
    list: "[]interface {}",
    dict: "map[string]interface {}",
}
_HALF = re.compile("[\ud800-\udfff]")
_PLACES = {
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Expecting value": "looking for beginning of value",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}


class Refusal(Exception):
    """The answer to a request is an error: HTTP `status` and the text for `{"error": text}`."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def encode(value: dict[str, Any]) -> bytes:
    """Return the object as compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def go_type(value: Any) -> str:
    """Return Go's name for the type of a decoded JSON value."""
    return _GO_TYPES.get(type(value), "nil")


def _json_type(value: Any) -> str:
    return _JSON_TYPES.get(type(value), "null")


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Refusal(400, f"json: cannot unmarshal number {text[:40]} into Go value of type float64")
    return number


def _whole(text: str) -> int:
    if len(text) > 20:
        raise Refusal(400, f"json: cannot unmarshal number {text[:40]} into Go value of type int")
    return int(text)


def _no_constant(text: str) -> float:
    raise Refusal(400, f"invalid character '{text.lstrip('-')[0]}' looking for beginning of value")


_DECODER = json.JSONDecoder(parse_float=_number, parse_int=_whole, parse_constant=_no_constant)


def decode(raw: bytes, go_struct: str) -> dict[str, Any]:
    """Return the object a body holds. `go_struct` is the name errors give it, such as `GenerateRequest`.

    Raises Refusal 400.
    """
    text = raw.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise Refusal(400, "missing request body")
    try:
        value, _ = _DECODER.raw_decode(text)
        if "\\ud" in text.lower():
            value = json.loads(_HALF.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
    except RecursionError:
        raise Refusal(400, "exceeded max depth") from None
    except json.JSONDecodeError as error:
        raise Refusal(400, _complaint(error)) from None
    if not isinstance(value, dict):
        raise Refusal(400, f"json: cannot unmarshal {_json_type(value)} into Go value of type api.{go_struct}")
    _check_depth(value)
    return value


def _complaint(error: json.JSONDecodeError) -> str:
    # Of a bad escape Go names the letter, Python the backslash before it.
    at = error.pos + error.msg.startswith("Invalid \\escape")
    if at >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    character = {"'": "\\'", '"': '"'}.get(error.doc[at]) or repr(error.doc[at])[1:-1]
    return f"invalid character '{character}' {_PLACES.get(error.msg, 'looking for beginning of value')}"


def _check_depth(value: Any) -> None:
    """Refuse what other readers would choke on, without recursion of our own."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise Refusal(400, "exceeded max depth")
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]


class Fields:
    """Typed access to one object of a body. `path` is its name in errors, such as `ChatRequest.messages`.

    Every method returns the zero value for a field that is absent or null, and raises Refusal 400 for another type.
    """

    def __init__(self, values: dict[str, Any], path: str) -> None:
        self.values = values
        self.path = path

    def text(self, name: str) -> str:
        """Return a text field."""
        return self._typed(name, str, "string", "")

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a bool field."""
        return self._typed(name, bool, "bool", default)

    def whole(self, name: str) -> int:
        """Return an int field."""
        return self._typed(name, int, "int", 0)

    def table(self, name: str) -> dict[str, Any]:
        """Return an object field."""
        return self._typed(name, dict, "map[string]interface {}", {})

    def items(self, name: str, go: str) -> list[Any]:
        """Return an array field, its items unchecked; `go` is Go's name of its type."""
        return self._typed(name, list, go, [])

    def objects(self, name: str, go: str) -> list[Fields]:
        """Return an array of objects; `go` is Go's name of an item's type."""
        path = f"{self.path}.{name}"
        found = []
        for item in self.items(name, f"[]{go}"):
            if not isinstance(item, dict):
                raise self.wrong(name, item, go)
            found.append(Fields(item, path))
        return found

    def wrong(self, name: str, value: Any, go: str) -> Refusal:
        """Return the refusal of a field's value that is not of the type Go calls `go`."""
        return Refusal(
            400, f"json: cannot unmarshal {_json_type(value)} into Go struct field {self.path}.{name} of type {go}"
        )

    def _typed(self, name: str, kind: type[_T], go: str, default: _T) -> _T:
        value = self.values.get(name)
        if value is None:
            return default
        # Exactly that type: true and false are no numbers.
        if type(value) is not kind:
            raise self.wrong(name, value, go)
        return value
