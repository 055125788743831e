"""Parts of which operations are put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from ..fields import Table, schema_of

Schema = dict[str, Any]
Operation = dict[str, Any]

JSON, NDJSON, SSE = "application/json", "application/x-ndjson", "text/event-stream"


def ref(name: str) -> Schema:
    """Return a reference to one of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def parameter(name: str, place: str, schema: Schema, about: str = "", *, example: Any = None) -> Schema:
    """Return a parameter; `place` is `path`, `query` or `header`."""
    told: Schema = {"name": name, "in": place, "required": place == "path", "schema": schema}
    if about:
        told["description"] = about
    return told if example is None else {**told, "example": example}


def body(schema: Schema, example: Any, *, kind: str = JSON) -> Schema:
    """Return a request's body, which is required."""
    return {"required": True, "content": {kind: {"schema": schema, "example": example}}}


def of_table(table: Table, *, model: type[BaseModel] | None = None, only: Sequence[str] = ()) -> Schema:
    """Return the schema of a body: the fields of a payload's model, and over them those that a door reads itself.

    `only`: of the model's fields, these; none: all of them.
    """
    own = schema_of(table)
    known = {} if model is None else flat(model)
    chosen = {name: schema for name, schema in known.items() if not only or name in only}
    return {"type": "object", **own, "properties": _merged(chosen, own["properties"])}


def flat(model: type[BaseModel]) -> dict[str, Schema]:
    """Return the schemas of a model's fields, with nothing to be looked up elsewhere."""
    whole = model.model_json_schema()
    found: dict[str, Schema] = _flat(whole["properties"], whole.get("$defs", {}))
    return found


def _flat(value: Any, defs: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_flat(item, defs) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _flat(defs[value["$ref"].rpartition("/")[2]], defs)
    names = [name for name in value if not (name == "title" and isinstance(value[name], str))]
    return {name: _flat(value[name], defs) for name in names if not (name == "default" and value[name] is None)}


def _merged(known: Mapping[str, Schema], own: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return the fields of both: what a model says of the items of an array stays where a table says none."""
    merged = {**known, **own}
    for name in known.keys() & own.keys():
        items = [form["items"] for form in known[name].get("anyOf", [known[name]]) if "items" in form]
        if items and own[name].get("items") == {"type": "object"}:
            merged[name] = {**own[name], "items": items[0]}
    return merged


def answer(about: str, schema: Schema | None = None, example: Any = None, *, kind: str = JSON) -> Schema:
    """Return an answer."""
    if schema is None:
        return {"description": about}
    content: Schema = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {"description": about, "content": {kind: content}}


def headers(told: Schema, **named: str) -> Schema:
    """Return an answer with headers, named with `_` for `-`."""
    shown = {
        name.replace("_", "-"): {"description": about, "schema": {"type": "string"}} for name, about in named.items()
    }
    return {**told, "headers": {**told.get("headers", {}), **shown}}


def link(operation: str, about: str, *, body: Any = None, **parameters: str) -> Schema:
    """Return a link to another operation, whose parameters are taken from this one's answer."""
    told: Schema = {"operationId": operation, "description": about}
    if parameters:
        told["parameters"] = parameters
    return told if body is None else {**told, "requestBody": body}
