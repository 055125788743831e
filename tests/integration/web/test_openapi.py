"""The API document: it is of the routes there are, valid, true to its own examples; and its page needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from flask import Flask
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from llm_mcp import config
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from llm_mcp.web.openapi import document
from tests.integration.web.client import Client

DOCUMENT: dict[str, Any] = document()
METHODS = ("get", "post", "put", "patch", "delete")
OPERATIONS = [
    (method, path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if method in METHODS
]


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The application; none of these tests needs its database."""
    runtime = Runtime(config.load(db_dsn="postgresql://nobody@127.0.0.1:1/none", data_dir=tmp_path_factory.mktemp("d")))
    yield create_app(runtime)
    runtime.close()


def routes(application: Flask) -> set[tuple[str, str]]:
    """Return (method, path) of every route; what a parameter is called does not matter."""
    found = set()
    for rule in application.url_map.iter_rules():
        if rule.endpoint.endswith(".unknown"):  # answers for paths that are none
            continue
        for method in (rule.methods or {"GET"}) - {"HEAD", "OPTIONS"}:
            found.add((method.lower(), re.sub(r"<[^>]+>", "{}", rule.rule)))
    return found


def test_every_route_is_in_it_and_nothing_else(application: Flask) -> None:
    told = {(method, re.sub(r"{[^}]+}", "{}", path)) for method, path, _ in OPERATIONS}
    assert told == routes(application)


def test_it_is_valid() -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_operations_have_names_of_their_own_and_a_room() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names))
    rooms = {tag["name"] for tag in DOCUMENT["tags"]}
    assert {room for _, _, operation in OPERATIONS for room in operation["tags"]} == rooms


def examples() -> Iterator[Any]:
    """Yield each example with its schema."""
    for method, path, operation in OPERATIONS:
        where = f"{method} {path}"
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            if "example" in content:
                yield pytest.param(content["schema"], content["example"], id=f"{where} {kind}")
        for status, told in operation["responses"].items():
            for kind, content in told.get("content", {}).items():
                if "example" in content and "schema" in content:  # streams have none
                    yield pytest.param(content["schema"], content["example"], id=f"{where} {status} {kind}")
        for one in operation.get("parameters", ()):
            if "example" in one:
                yield pytest.param(one["schema"], one["example"], id=f"{where} {one['name']}")


@pytest.mark.parametrize(("schema", "example"), list(examples()))
def test_examples_fit_their_schemas(schema: Any, example: Any) -> None:
    whole = {**schema, "components": DOCUMENT["components"]}
    OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER).validate(example)


def test_links_lead_to_operations() -> None:
    known = {operation["operationId"]: operation for _, _, operation in OPERATIONS}
    for _, _, operation in OPERATIONS:
        for told in operation["responses"].values():
            for link in told.get("links", {}).values():
                there = {one["name"] for one in known[link["operationId"]].get("parameters", ())}
                assert set(link.get("parameters", ())) <= there


def test_it_is_served_and_may_be_kept(application: Flask) -> None:
    client = Client(application)
    answer = client.get("/openapi.json")
    assert (answer.status_code, answer.content_type, answer.json) == (200, "application/json", DOCUMENT)
    again = client.get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


class _Page(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.tags.add(tag)
        self.attributes |= set(told)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if found := told.get("id"):
            assert found not in self.ids
            self.ids.add(found)
        self.links |= {value for name in ("href", "src") if (value := told.get(name))}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_all_of_it_and_fetches_nothing(application: Flask) -> None:
    answer = Client(application).get("/docs")
    assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
    page = _Page(answer.text)
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "form", "object", "embed"}
    assert not {name for name in page.attributes if name.startswith("on")} | page.attributes & {"style"}
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json"}
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    assert {operation["operationId"] for _, _, operation in OPERATIONS} <= page.ids
    assert set(DOCUMENT["components"]["schemas"]) <= page.ids


def test_the_page_may_use_its_one_style_and_nothing_else(application: Flask) -> None:
    answer = Client(application).get("/docs")
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    assert "prefers-color-scheme:dark" in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_page_shows_no_markup_of_others() -> None:
    from llm_mcp.web.openapi.page import render

    bad = {
        "info": {"title": "<b>", "version": "1", "description": "`<i>`"},
        "tags": [{"name": "<u>", "description": "&lt;"}],
        "paths": {"/<s>": {"get": {"operationId": '"x', "tags": ["<u>"], "summary": "<a>", "responses": {}}}},
        "components": {"schemas": {}},
    }
    assert not re.search(r"<(b|i|u|s|a)>", render(bad))
