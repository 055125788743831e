"""The whole document."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from llm_mcp.config import installed_version

from . import of_files, of_jobs, of_ollama, of_openai, of_responses, of_server, of_workers, refusals
from .parts import Schema, parameter

_ROOMS = (of_jobs, of_openai, of_responses, of_files, of_ollama, of_workers, of_server)
_ABOUT = (
    "One door to every language model you can reach. Every call is a job: a row in Postgres that is run under a lease, "
    "streamed as it is written, never lost.\n\n"
    "A body is JSON, whatever its `Content-Type` says. Errors have three shapes: `Error` on our own paths, "
    "`OpenAIError` and `OllamaError` on those of these dialects. What is refused before any path hears of it (a "
    "foreign `Host` or `Origin`, limits of the server) is an `Error` everywhere. What is refused leaves nothing.\n\n"
    "Every answer has an `X-Request-ID`: the request's own when it is 1 to 128 of `A-Z a-z 0-9 . _ -`, else a new one. "
    "`HEAD` is `GET` without the body, and `OPTIONS` tells a path's methods."
)
_TAGS = {
    of_jobs.TAG: "Submit, watch, read and cancel.",
    of_openai.TAG: "OpenAI's dialect: its clients work unchanged.",
    of_responses.TAG: "OpenAI's newer dialect; a response is a job that can be gone back to.",
    of_files.FILES: "Files of requests, and of what these gave.",
    of_files.BATCHES: "Requests in a file, run when there is time.",
    of_ollama.TAG: "Ollama's dialect, over all machines and clouds.",
    of_workers.TAG: "Work on jobs, in any language.",
    of_server.TAG: "Is it there, can it work, what can it do.",
}
_REQUEST_ID = parameter(
    "X-Request-ID",
    "header",
    {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    "What to call this request in the answer and in the log.",
)


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document. It is one and the same object each time: leave it as it is."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Schema] = dict(refusals.SCHEMAS)
    for room in _ROOMS:
        paths.update(copy.deepcopy(room.PATHS))
        schemas.update(room.SCHEMAS)
    for operations in paths.values():
        operations["parameters"] = [{"$ref": "#/components/parameters/RequestId"}]
    return {
        "openapi": "3.1.0",
        "info": {"title": "llm-mcp", "version": installed_version(), "description": _ABOUT, "license": _LICENSE},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": about} for name, about in _TAGS.items()],
        "paths": paths,
        "components": {"schemas": schemas, "parameters": {"RequestId": _REQUEST_ID}},
    }


_LICENSE = {"name": "MIT", "identifier": "MIT"}
