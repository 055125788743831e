"""Bad input for every route there is: a clear 4xx in its dialect's shape that names the field, and never a row.

The routes come from the application, what may be in them from its document: a new route is here by itself.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from flask import Flask
from psycopg import sql

from llm_mcp import config
from llm_mcp import runtime as runtimes
from llm_mcp.providers.fake import Fake
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.integration.web.matrix import METHODS, TOLERANT, Judge, Route, raw, routes, wrong

ROUTES = routes()
BODIES = [route for route in ROUTES if route.content]
WITH_ID = [route for route in ROUTES if "{" in route.path]
ID = "01890000-0000-7000-8000-00000000000a"


@pytest.fixture(scope="module")
def application(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The application over models that are there, and nobody who works: what is let in is a row for ever."""
    models = Fake(models=["play:latest", "a/cloudy"])
    settings = config.load(db_dsn=dsn, data_dir=tmp_path_factory.mktemp("matrix"), call_timeout_s=1.0)
    runtime = Runtime(settings, providers={"ollama": models, "openai": models, "openrouter": models})
    runtimes.use(runtime)
    yield create_app(runtime)
    runtimes.use(None)
    runtime.close()


@pytest.fixture(scope="module")
def rows(dsn: str) -> Iterator[Callable[[], dict[str, int]]]:
    """Count the rows of every table there is."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        found = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'llm'").fetchall()
        one = sql.SQL("SELECT {}, count(*) FROM llm.{}")
        counts = [one.format(sql.Literal(name), sql.Identifier(name)) for (name,) in found]
        count = sql.SQL(" UNION ALL ").join(counts)
        yield lambda: {str(name): int(number) for name, number in conn.execute(count).fetchall()}


@pytest.fixture
def judge(application: Flask, rows: Callable[[], dict[str, int]]) -> Iterator[Judge]:
    made = Judge(application, rows)
    yield made
    made.close()


def each(chosen: list[Route]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("route", chosen, ids=[route.name for route in chosen])


@each(ROUTES)
def test_the_document_tells_of_it(route: Route) -> None:
    answers_any = route.path in ("/health", "/livez", "/readyz", "/version")
    assert route.told or (answers_any and route.method != "GET")


NO_OBJECT = [
    b"",
    b" \r\n",
    b"{",
    b"}",
    b"[]",
    b"[{}]",
    b'"x"',
    b"1",
    b"true",
    b"{'a': 1}",
    b'{"a": 1,}',
    b"<a/>",
    b"a=b",
]
DEEP = [b"[" * 100_000, b'{"a":' * 100_000]


@each(BODIES)
def test_no_object(judge: Judge, route: Route) -> None:
    field = "body" if route.shape == "Error" else None
    judge.ask(route, "deep", data=b"[" * 500 + b"]" * 500, statuses=(400,))
    for data in [*NO_OBJECT, *DEEP, gzip.compress(b"{}"), b"\xff\xfe{\x00}\x00", b"\x00"]:
        judge.ask(route, repr(data[:40]), data=data, statuses=(400,), field=field)
    if route.content["schema"].get("required") or route.shape != "Error":
        judge.ask(route, "null", data=b"null", statuses=(400, 404))


POISON = {
    "NUL": r'"a\u0000b"',
    "half a character": r'"\ud800"',
    "half a character in a name": r'{"\udc00": 1}',
    "NUL in a name": r'{"\u0000": 1}',
    "NaN": "NaN",
    "-Infinity": "[-Infinity]",
    "1e400": "1e400",
    "1e131071": "[1e131071]",
    "a million digits": "1" + "0" * 1_000_000,
    "64 bits and one": "18446744073709551616",
    "deep": "[" * 100 + "]" * 100,
    "very deep": '{"a":' * 5000 + "1" + "}" * 5000,
    "broken UTF-8": '"\udcff"',
}
# Ollama takes these, as U+FFFD.
_MENDED = ("half a character", "half a character in a name", "broken UTF-8")


@each(BODIES)
def test_poison(judge: Judge, route: Route) -> None:
    for what, text in POISON.items():
        data = raw(route, "zz", text)
        if what == "broken UTF-8":
            data = data.replace("\udcff".encode("utf-8", "surrogatepass"), b"\xff")
        if route.path in TOLERANT:
            judge.ask(route, what, data=data)
        elif route.path == "/api/show":  # where an unknown field goes nowhere
            judge.ask(route, what, data=raw(route, "model", text), statuses=(400, 404))
        elif route.shape == "OllamaError":
            if what not in _MENDED:
                judge.ask(route, what, data=data, statuses=(400, 404))
        else:
            named = "body" if what == "broken UTF-8" or "very" in what else "zz"
            field = None if named == "body" and route.shape != "Error" else named
            judge.ask(route, what, data=data, statuses=(400,), field=field)


@each(BODIES)
def test_fields_of_another_sort_or_out_of_their_bounds(judge: Judge, route: Route) -> None:
    for name, schema in route.content["schema"]["properties"].items():
        for value in wrong(schema):
            field = None if name == "keep_alive" else name  # it is refused in Ollama's own words
            judge.ask(route, f"{name}: {value!r}", json={**route.example, name: value}, field=field)


@each(BODIES)
def test_needed_fields_that_are_not_there(judge: Judge, route: Route) -> None:
    for name in route.content["schema"].get("required", ()):
        rest = {key: value for key, value in route.example.items() if key != name}
        for what, body in (("absent", rest), ("null", {**rest, name: None})):
            judge.ask(route, f"{name} {what}", json=body, field=name)


@each(BODIES)
def test_of_a_field_given_twice_the_last_one_counts(judge: Judge, route: Route) -> None:
    for name, schema in route.content["schema"]["properties"].items():
        if name in route.example and (value := next(wrong(schema), None)) is not None:
            judge.ask(route, f"{name} twice", data=raw(route, name, json.dumps(value)), field=name)


@each(BODIES)
def test_twenty_megabytes(judge: Judge, route: Route) -> None:
    data = raw(route, "zz", '"' + "x" * (20 * 2**20) + '"')
    field = {"Error": "result" if route.path == "/v1/workers/complete" else "body"}.get(route.shape)
    answer = judge.ask(route, "20 MiB", data=data, statuses=(413,))
    assert field is None or answer.json["field"] == field


@each([route for route in ROUTES if route.parameters("header")])
def test_headers(judge: Judge, route: Route) -> None:
    for one in route.parameters("header"):
        bad = ["x" * 300, "-", "1:", "1:-2", "1:99999999999999999999", "٣:٤"]
        if one["name"] == "Idempotency-Key":
            bad = ["", "x" * 256, "clé", "a,b", "a\tb"]
        for value in bad:
            request: dict[str, Any] = {"json": route.example} if route.content else {}
            judge.ask(route, f"{one['name']}: {value!r}", headers={one["name"]: value}, field=one["name"], **request)


HOSTILE = [
    "-1",
    "0x10",
    "1e9",
    "1_0",
    " 1",
    "١",
    "99999999999999999999",
    "' OR 1=1 --",
    "<script>",
    "%00",
    "%0a",
    "%ff",
]


@each([route for route in ROUTES if route.parameters("query")])
def test_queries(judge: Judge, route: Route) -> None:
    for one in route.parameters("query"):
        for text in HOSTILE:
            free = one["schema"].get("type") == "string" and not {"format", "pattern"} & one["schema"].keys()
            if free and one["name"] != "after" and text not in ("%00", "%0a"):
                continue
            judge.ask(route, f"{one['name']}={text}", path=f"{route.at()}?{one['name']}={text}", field=one["name"])


@each(ROUTES)
def test_queries_that_nobody_knows_break_nothing(application: Flask, route: Route) -> None:
    client = application.test_client()
    for text in ("%00", "%ff", "x" * 4000, "=&=&", "a[]=1&a[b]=2", "%F0%9F%98%80", "%"):
        answer = client.open(f"{route.at()}?zz={text}", method=route.method)
        assert answer.status_code < 500 or answer.status_code == 501


IDS = ["x", "0", "-1", ID.upper(), f"{{{ID}}}", ID.replace("-", ""), f"{ID} ", f"{ID}%00", "%00", "%2e%2e", "%ff"]
IDS += ["resp_", f"resp_{ID}", f"file-{'A' * 32}", "batch_'--", "x" * 4000, "%E2%80%AE", "null", "%F0%9F%98%80", "１"]


@each([route for route in WITH_ID if "blobs" not in route.path])
def test_ids_of_no_form(judge: Judge, route: Route) -> None:
    for value in IDS:
        judge.ask(route, value, path=route.at(value), statuses=(404,))


@each(ROUTES)
def test_methods_it_does_not_have(judge: Judge, route: Route) -> None:
    there = {one.method for one in ROUTES if one.path == route.path}
    for method in METHODS:
        if method in there:
            continue
        if route.shape == "OllamaError":  # in Ollama's plain words
            answer = judge._client.open(route.at(), method=method)
            assert answer.status_code == 405
        else:
            answer = judge.ask(route, method, method=method, statuses=(405,))
        assert set(answer.headers["Allow"].split(", ")) >= there
        assert method not in answer.headers["Allow"].split(", ")


FORM = "multipart/form-data; boundary=b"


def part(name: str, value: str, *, file: str = "") -> str:
    named = f'; filename="{file}"' if file else ""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n{value}\r\n'


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ("", "purpose"),
        ("--b--\r\n", "purpose"),
        ("not a form", "purpose"),
        ('{"purpose": "batch"}', "purpose"),
        (part("purpose", "batch") + "--b--\r\n", "file"),
        (part("purpose", "batch") + part("file", "no file") + "--b--\r\n", "file"),
        (part("purpose", "batch") + part("file", "", file="a") + "--b--\r\n", "file"),
        (part("purpose", "batch") + part("file", "x", file="a" * 300) + "--b--\r\n", "file"),
        (part("purpose", "batch") + part("file", "x", file="a\x1bb") + "--b--\r\n", "file"),
        (part("purpose", "tuning") + part("file", "x", file="a") + "--b--\r\n", "purpose"),
        (part("file", "x", file="a") + "--b--\r\n", "purpose"),
        *(
            (
                part("purpose", "batch")
                + part(f"expires_after[{name}]", value)
                + part("file", "x", file="a")
                + "--b--\r\n",
                f"expires_after.{name}",
            )
            for name, value in (
                *(("anchor", "now"), ("seconds", "0"), ("seconds", "-1"), ("seconds", "1e4"), ("seconds", "٣٦٠٠")),
                ("seconds", "9" * 20),
            )
        ),
    ],
)
def test_forms(judge: Judge, data: str, field: str) -> None:
    (route,) = (one for one in ROUTES if one.name == "POST /v1/files")
    judge.ask(route, data, data=data.encode(), content_type=FORM, field=field, statuses=(400,))
    judge.ask(route, "no type", data=data.encode(), content_type="text/plain", field="purpose", statuses=(400,))


def test_forms_that_are_too_much(judge: Judge) -> None:
    (route,) = (one for one in ROUTES if one.name == "POST /v1/files")
    for what, data in {
        "parts": "".join(part(f"p{n}", "x") for n in range(100)) + "--b--\r\n",
        "a field": part("purpose", "x" * 2**20) + "--b--\r\n",
        "20 MiB": part("purpose", "batch") + part("file", "x" * (20 * 2**20), file="a") + "--b--\r\n",
    }.items():
        judge.ask(route, what, data=data.encode(), content_type=FORM, statuses=(413,))
