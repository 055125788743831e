"""JSON and JSON Schema as a grammar that llama.cpp holds a model to (GBNF).

Written out here rather than handed over as a schema: llama.cpp drops a schema it cannot follow and lets the model
write anything, a grammar it cannot follow is refused. What is held: types, objects with their required and optional
properties, arrays and tuples with their lengths, enum, const, anyOf, oneOf, allOf of objects, $ref, length of texts,
the sign of integers. Other keywords (pattern, format, ranges of numbers) are advice to the model's reader.
"""

from __future__ import annotations

import json
import re
from typing import Any

from llm_mcp.ollama_words.wire import Refusal

_MAX_RULES = 5000
_MAX_LENGTH = 1000
_COMMA = ' "," ws '
_BASE = r"""
ws ::= ( " " | "\n" [ \t]{0,20} )?
value ::= object | array | string | number | boolean | null
object ::= "{" ws ( pair ( "," ws pair )* )? "}" ws
pair ::= string ":" ws value
array ::= "[" ws ( value ( "," ws value )* )? "]" ws
string ::= "\"" char* "\"" ws
char ::= [^"\\\x00-\x1F\x7F] | "\\" ( ["\\/bfnrt] | "u" [0-9a-fA-F]{4} )
number ::= "-"? natural ( "." [0-9]{1,16} )? ( [eE] [-+]? [0-9]{1,2} )? ws
integer ::= "-"? natural ws
natural ::= "0" | [1-9] [0-9]{0,15}
boolean ::= ( "true" | "false" ) ws
null ::= "null" ws
"""


def of(wanted: Any) -> str | None:
    """Return the grammar for the `format` of a request, None when it asks for none.

    Raises Refusal: 500 in Ollama's words for what is neither "json" nor a schema, 400 for a schema of no sense.
    """
    if wanted is None or wanted == "":
        return None
    if wanted == "json":
        return "root ::= object\n" + _BASE
    if not isinstance(wanted, dict):
        quoted = json.dumps(json.dumps(wanted, separators=(",", ":")))
        raise Refusal(500, f'invalid format: {quoted}; expected "json" or a valid JSON Schema object')
    return _Writer(wanted).written()


class _Writer:
    """Turns one schema into rules; the name of a rule stands for the value it describes."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._rules: list[str] = []
        self._references: dict[str, str] = {}
        self._count = 0

    def written(self) -> str:
        root = self._value(self._schema)
        return "\n".join([f"root ::= {root}", *self._rules]) + _BASE

    def _rule(self, body: str) -> str:
        name = self._name()
        self._rules.append(f"{name} ::= {body}")
        return name

    def _name(self) -> str:
        self._count += 1
        if self._count > _MAX_RULES:
            raise _nonsense("it is too large")
        return f"r{self._count}"

    def _value(self, schema: Any) -> str:
        if schema is True:
            return "value"
        if not isinstance(schema, dict):
            raise _nonsense("a schema must be an object")
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        if "const" in schema:
            return self._literals([schema["const"]])
        if "enum" in schema:
            return self._literals(schema["enum"])
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._rule(" | ".join(self._value(inner) for inner in _listed(schema[word], word)))
        if "allOf" in schema:
            return self._merged(_listed(schema["allOf"], "allOf"))
        return self._typed(schema)

    def _typed(self, schema: dict[str, Any]) -> str:
        kind = schema.get("type")
        if isinstance(kind, list) and kind:
            return self._rule(" | ".join(self._typed({**schema, "type": one}) for one in kind))
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema)
        if kind == "array" or (kind is None and ("items" in schema or "prefixItems" in schema)):
            return self._array(schema)
        if kind == "string":
            least, most = _lengths(schema, "minLength", "maxLength")
            return "string" if (least, most) == (0, None) else self._rule(f'"\\"" char{_times(least, most)} "\\"" ws')
        if kind == "integer":
            minimum = schema.get("minimum", schema.get("exclusiveMinimum"))
            positive = isinstance(minimum, int | float) and minimum >= 0
            return self._rule("natural ws") if positive else "integer"
        if kind in ("number", "boolean", "null"):
            return str(kind)
        if kind is None:
            return "value"
        raise _nonsense(f"unknown type {json.dumps(kind)[:40]}")

    def _object(self, schema: dict[str, Any]) -> str:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise _nonsense("properties must be an object and required an array")
        properties = {**properties, **{name: True for name in required if name not in properties}}
        more = schema.get("additionalProperties", not properties)
        pair = f'string ":" ws {self._value(more)}' if more is not False else ""
        # Two rules for each place in the list: for when something was written before it, and for when nothing was.
        after = self._rule(f'( "," ws {pair} )*' if pair else '""')
        first = self._rule(f'( {pair} ( "," ws {pair} )* )?' if pair else '""')
        for name, inner in reversed(properties.items()):
            item = f'{_literal(_dump(name))} ":" ws {self._value(inner)}'
            if name in required:
                after, first = self._rule(f'"," ws {item} {after}'), self._rule(f"{item} {after}")
            else:
                after, first = self._rule(f'( "," ws {item} )? {after}'), self._rule(f"{item} {after} | {first}")
        return self._rule(f'"{{" ws {first} "}}" ws')

    def _array(self, schema: dict[str, Any]) -> str:
        fixed = [self._value(inner) for inner in _listed(schema.get("prefixItems", []), "prefixItems", empty=True)]
        if fixed:
            return self._rule(f'"[" ws {_COMMA.join(fixed)} "]" ws')
        least, most = _lengths(schema, "minItems", "maxItems")
        if most == 0:
            return self._rule('"[" ws "]" ws')
        item = self._value(schema.get("items", True))
        rest = _times(max(least - 1, 0), None if most is None else most - 1)
        items = f'{item} ( "," ws {item} ){rest}'
        return self._rule(f'"[" ws {items if least else f"( {items} )?"} "]" ws')

    def _literals(self, values: Any) -> str:
        return self._rule(f"( {' | '.join(_literal(_dump(value)) for value in _listed(values, 'enum'))} ) ws")

    def _merged(self, parts: list[Any]) -> str:
        if len(parts) == 1:
            return self._value(parts[0])
        whole: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
        for part in parts:
            inner = self._target(part["$ref"]) if isinstance(part, dict) and "$ref" in part else part
            if not isinstance(inner, dict) or not isinstance(inner.get("properties", {}), dict):
                raise _nonsense("allOf takes objects")
            whole["properties"].update(inner.get("properties", {}))
            whole["required"] += _listed(inner.get("required", []), "required", empty=True)
        return self._object(whole)

    def _reference(self, pointer: Any) -> str:
        if not isinstance(pointer, str):
            raise _nonsense("$ref must be a text")
        if pointer not in self._references:
            # Named before it is written, so that a schema may speak of itself.
            self._references[pointer] = name = self._name()
            body = self._value(self._target(pointer))
            self._rules.append(f"{name} ::= {body}")
        return self._references[pointer]

    def _target(self, pointer: Any) -> Any:
        found: Any = self._schema
        if not isinstance(pointer, str) or not pointer.startswith("#"):
            raise _nonsense("only a $ref within the schema can be followed")
        for part in pointer[1:].split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or key not in found:
                raise _nonsense("a $ref leads nowhere")
            found = found[key]
        return found


def _listed(value: Any, word: str, *, empty: bool = False) -> list[Any]:
    if not isinstance(value, list) or not (value or empty):
        raise _nonsense(f"{word} must be an array")
    return value


def _lengths(schema: dict[str, Any], least: str, most: str) -> tuple[int, int | None]:
    low, high = schema.get(least) or 0, schema.get(most)
    for name, number in ((least, low), (most, 0 if high is None else high)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise _nonsense(f"{name} must be a whole number")
    if low > _MAX_LENGTH or (high is not None and high < low):
        raise _nonsense(f"{least} and {most} cannot both be met")
    # What is longer than any answer need not be counted.
    return low, None if high is None or high > _MAX_LENGTH else high


def _times(least: int, most: int | None) -> str:
    return f"{{{least},{'' if most is None else most}}}"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _literal(text: str) -> str:
    escaped = re.sub(r'["\\\x00-\x1f\x7f]', lambda found: f"\\x{ord(found[0]):02X}", text)
    return f'"{escaped}"'


def _nonsense(reason: str) -> Refusal:
    return Refusal(400, f"invalid JSON schema in format: {reason}")
