"""The document as a page: HTML and one style, nothing to be fetched and nothing that runs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from .style import STYLE

_METHODS = ("get", "post", "put", "patch", "delete")
POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the page."""
_CODE = re.compile(r"`([^`]+)`")


def render(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    return "".join(_page(document))


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<meta name="color-scheme" content="light dark"><style>{STYLE}</style></head><body>'
    yield f"<header><h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
    yield f'{_prose(info["description"])}<p class="more"><a href="/openapi.json">openapi.json</a></p>'
    yield "<nav>"
    for tag in document["tags"]:
        yield f'<a href="#{_slug(tag["name"])}">{escape(tag["name"])}</a>'
    yield '<a href="#schemas">Schemas</a></nav></header><main>'
    for tag in document["tags"]:
        yield f'<section id="{_slug(tag["name"])}"><h2>{escape(tag["name"])}</h2>{_prose(tag["description"])}'
        for path, operations in document["paths"].items():
            for method in _METHODS:
                if tag["name"] in operations.get(method, {}).get("tags", ()):
                    yield from _operation(method, path, operations[method])
        yield "</section>"
    yield '<section id="schemas"><h2>Schemas</h2>'
    for name, schema in document["components"]["schemas"].items():
        yield f'<details id="{name}"><summary><code>{name}</code></summary>{_fields(schema)}</details>'
    yield "</section></main></body></html>"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f'<details id="{escape(operation["operationId"])}"><summary><b class="{method}">{method.upper()}</b> '
    yield f"<code>{escape(path)}</code> <span>{escape(operation['summary'])}</span></summary>"
    yield _prose(operation.get("description", ""))
    if parameters := operation.get("parameters"):
        yield "<h3>Parameters</h3><table>"
        for one in parameters:
            about = " ".join(filter(None, (one.get("description"), _bounds(one["schema"]))))
            yield _row(one["name"], f"{one['in']} {_sort(one['schema'])}", about, needed=one["required"])
        yield "</table>"
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<h3>Body <small>{escape(kind)}</small></h3>{_fields(content['schema'])}{_example(content)}"
    yield "<h3>Answers</h3><table>"
    for status, told in operation["responses"].items():
        sorts = [
            _sort(content["schema"]) if "schema" in content else kind
            for kind, content in told.get("content", {}).items()
        ]
        yield _row(status, "<br>".join(sorts), told["description"])
    yield "</table>"
    for status, told in operation["responses"].items():
        if status.startswith("2"):
            yield from map(_example, told.get("content", {}).values())
    yield "</details>"


def _fields(schema: Mapping[str, Any]) -> str:
    needed = schema.get("required", ())
    rows = []
    for name, field in schema.get("properties", {}).items():
        about = " ".join(filter(None, (field.get("description"), _bounds(field))))
        rows.append(_row(name, _sort(field), about, needed=name in needed))
    return f"<table>{''.join(rows)}</table>" if rows else f"<p>{_sort(schema)}</p>"


def _row(name: str, sort: str, about: str, *, needed: bool = False) -> str:
    mark = " <em>required</em>" if needed else ""
    return f"<tr><th><code>{escape(name)}</code>{mark}</th><td>{sort}</td><td>{_inline(about)}</td></tr>"


def _sort(schema: Mapping[str, Any]) -> str:
    """Return a schema in a word or two, as HTML."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        found = [_sort(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(found))
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " · ".join(f"<code>{escape(str(word))}</code>" for word in schema["enum"] if word not in (None, ""))
    kinds = schema.get("type", "any")
    kind = next((one for one in kinds if one != "null"), "null") if isinstance(kinds, list) else kinds
    if kind == "array" and "items" in schema:
        return f"array of {_sort(schema['items'])}"
    return escape(str(schema.get("format") or kind))


def _bounds(schema: Mapping[str, Any]) -> str:
    """Return a schema's bounds and default in words."""
    low, high, longest = schema.get("minimum"), schema.get("maximum"), schema.get("maxLength", schema.get("maxItems"))
    said = []
    if low is not None or high is not None:
        ends = (("from", low), ("to", high))
        said.append(" ".join(f"{word} {end:,}" for word, end in ends if end is not None))
    if longest is not None:
        said.append(f"at most {longest:,} {'items' if 'maxItems' in schema else 'characters'}")
    if "default" in schema:
        said.append(f"unless given: `{json.dumps(schema['default'])}`")
    return f"({'; '.join(said)})" if said else ""


def _example(content: Mapping[str, Any]) -> str:
    if "example" not in content:
        return ""
    value = content["example"]
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return f"<pre>{escape(text)}</pre>"


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n") if part)


def _inline(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _slug(name: str) -> str:
    return "tag-" + re.sub(r"[^a-z0-9]+", "-", name.lower())
