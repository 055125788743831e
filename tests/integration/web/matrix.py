"""What every route is asked that it must refuse, made from the routes there are and from what their document says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from openapi_schema_validator import OAS31Validator

from llm_mcp import config
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from llm_mcp.web.openapi import document

DOCUMENT: dict[str, Any] = document()
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
UNKNOWN = "01890000-0000-7000-8000-0000000000aa"
_HEX = UNKNOWN.replace("-", "")
_DIALECTS = {"openai": "OpenAIError", "responses": "OpenAIError", "batches": "OpenAIError", "ollama": "OllamaError"}
# These never lose a finished answer over its characters; of a job that is not there it is a 404.
TOLERANT = ("/v1/workers/events", "/v1/workers/complete", "/v1/workers/fail")


@dataclass(frozen=True)
class Route:
    """A route: its method and path, the shape of its errors, and what the document says of it."""

    method: str
    path: str
    rule: str
    shape: str
    told: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def at(self, value: str | None = None) -> str:
        """Return the path of something of this form that is not there, or with this value for each id."""
        unknown = UNKNOWN
        for prefix, sign in (("/v1/responses", "resp_"), ("/v1/files", "file-"), ("/v1/batches", "batch_")):
            if self.path.startswith(prefix):
                unknown = sign + _HEX
        return re.sub(r"{[^}]+}", lambda _: unknown if value is None else value, self.path)

    @property
    def content(self) -> dict[str, Any]:
        """Return the schema and the example of its JSON body, {} for a route without."""
        found: dict[str, Any] = self.told.get("requestBody", {}).get("content", {}).get("application/json", {})
        return found

    @property
    def example(self) -> dict[str, Any]:
        """Return a body that nothing is wrong with, of a model that is there."""
        model = {"model": "play"} if "model" in self.content["schema"]["properties"] else {}
        return {**self.content["example"], **model}

    def parameters(self, place: str) -> list[dict[str, Any]]:
        """Return its parameters in the query, or the headers."""
        return [one for one in self.told.get("parameters", ()) if one["in"] == place]


def routes() -> list[Route]:
    """Return every route of the application, each with what the document says of it ({} when it says nothing)."""
    runtime = Runtime(config.load(db_dsn="postgresql://nobody@127.0.0.1:1/none", data_dir=Path("/nowhere")))
    told = {re.sub(r"{[^}]+}", "{}", path): (path, operations) for path, operations in DOCUMENT["paths"].items()}
    found = {}
    for rule in create_app(runtime).url_map.iter_rules():
        if rule.endpoint.endswith(".unknown"):  # answers for paths that are none
            continue
        path, operations = told.get(re.sub(r"<[^>]+>", "{}", rule.rule), (rule.rule, {}))
        shape = _DIALECTS.get(rule.endpoint.partition(".")[0], "Error")
        for method in sorted((rule.methods or set(METHODS)) - {"HEAD", "OPTIONS"}):
            found[method, path] = Route(method, path, rule.rule, shape, operations.get(method.lower(), {}))
    runtime.close()
    return list(found.values())


def wrong(schema: dict[str, Any]) -> Iterator[Any]:
    """Yield values that a field's schema does not let in."""
    whole = {**schema, "components": DOCUMENT["components"]}
    validator = OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER)
    values: tuple[Any, ...] = (
        *(True, 0, -1, 1, 1.5, 10**6, 2**31, -(2**31) - 1, 2**63 - 1, 1e300),
        *("", " ", "x", "1", "x" * 5000, [], [1], ["x"], [None], ["x"] * 2000, [[]], [{}], {}, {"x": 1}, {"x": []}),
    )
    for value in values:
        if value == "" and "format" in schema:
            continue  # the same as absent
        if not validator.is_valid(value):
            yield value


def names(answer: Any, shape: str) -> str:
    """Return what an error says of the field that is to blame."""
    told = answer.json
    if shape == "OllamaError":
        return str(told["error"])
    return str(told.get("field") or "") if shape == "Error" else str(told["error"]["param"] or "")


def blames(answer: Any, shape: str, field: str) -> bool:
    """Return whether an error blames a field, or something in it."""
    said = names(answer, shape)
    if shape == "OllamaError":
        return field in said
    return re.match(re.escape(field) + r"($|[.\[])", said, re.IGNORECASE) is not None


class Judge:
    """Sends what must be refused, and notes what was not."""

    def __init__(self, application: Flask, rows: Callable[[], dict[str, int]]) -> None:
        self._client = application.test_client()
        self._rows = rows
        self._before = rows()
        self.faults: list[str] = []
        self.asked = 0

    def ask(
        self,
        route: Route,
        what: str,
        *,
        path: str | None = None,
        method: str | None = None,
        field: str | None = None,
        statuses: tuple[int, ...] = (),
        **request: Any,
    ) -> Any:
        """Ask what must be refused: a 4xx in the shape of the route's errors, that blames `field`."""
        self.asked += 1
        answer: Any = self._client.open(path or route.at(), method=method or route.method, **request)
        fault = self._fault(answer, route.shape, field, statuses)
        if fault:
            self.faults.append(f"{what[:150]}: {fault}: {answer.status_code} {answer.get_data(as_text=True)[:300]}")
        return answer

    def _fault(self, answer: Any, shape: str, field: str | None, statuses: tuple[int, ...]) -> str:
        if not 400 <= answer.status_code < 500:
            return "not refused"
        if statuses and answer.status_code not in statuses:
            return f"not {statuses}"
        if answer.mimetype != "application/json":
            return "not JSON"
        schema = {"$ref": f"#/components/schemas/{shape}", "components": DOCUMENT["components"]}
        if not OAS31Validator(schema).is_valid(answer.json):
            return f"not of the shape {shape}"
        if field is not None and answer.status_code == 400 and not blames(answer, shape, field):
            return f"does not blame {field}"
        return ""

    def close(self) -> None:
        """Say what was wrong; of what was refused, no row may be there."""
        after = self._rows()
        grown = {name: count - self._before.get(name, 0) for name, count in after.items()}
        left = {name: count for name, count in grown.items() if count}
        found = f"{len(self.faults)} of {self.asked} faults, rows left: {left}\n" + "\n".join(self.faults[:30])
        assert not left, found
        assert not self.faults, found


def raw(route: Route, name: str, text: str) -> bytes:
    """Return a body that is right but for one more field, whose JSON is this text."""
    return (json.dumps(route.example)[:-1] + f', "{name}": {text}}}').encode("utf-8", "surrogatepass")
