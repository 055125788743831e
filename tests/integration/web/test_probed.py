"""The server probed by schemathesis, which makes its requests of the API document and follows its links.

Whatever it asks: no 5xx but honest ones, no status, type or form of an answer that the document does not tell of, and
no job that nobody was told of.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

import llm_mcp.actors  # noqa: F401 - what the worker can run
from llm_mcp import runtime as runtimes
from llm_mcp.config import Settings
from llm_mcp.providers.fake import Fake, Step, Text, Used
from llm_mcp.runtime import Runtime
from llm_mcp.worker import Worker
from tests.contract.provider_peer import Peer, answer
from tests.integration.web.door import Door

CHECKS = "not_a_server_error,status_code_conformance,response_schema_conformance,content_type_conformance"
# Lives of jobs that may never end; their bad input is in the matrix.
STREAMS = ("stream_job", "follow_job")
# The machine's own words, and sorts that say so, are honest: nothing there is ours to mend.
HONEST = (501, 502, 503, 504)
_TOLD = re.compile(r'"(?:x-llm-mcp-job|location)": ?\["(?:/v1/jobs/)?([0-9a-f-]{36})"\]')
MODELS = ["play:latest", "play-embed:latest"]


@pytest.fixture
def probed(open_door: Callable[..., Door], settings: Settings) -> Iterator[Door]:
    """A server over a worker whose models answer at once."""
    script: list[Step] = [Text("Red, "), Text("green."), Used(2, 3)]
    model = Fake(*([script] * 100_000), models=MODELS)
    working = Runtime(settings.model_copy(update={"lease_s": 60.0}), providers={"ollama": model})
    runtimes.use(working)
    worker = Worker(working, threads=4)
    worker.start()
    with Peer(answer(200, {"models": [{"name": name} for name in MODELS]})) as machine:
        yield open_door(ollama_base_url=machine.url, local_ollama=False, call_timeout_s=2.0)
    worker.drain(0.0)
    runtimes.use(None)
    working.close()


def quick(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with models that are there, and with no wait of a minute."""
    text = json.dumps(document).replace("qwen3:1.7b", "play").replace("embeddinggemma", "play-embed")
    changed: dict[str, Any] = json.loads(text)
    paths = changed["paths"]
    for one in paths["/v1/jobs/{id}"]["get"]["parameters"]:
        if one["name"] == "wait_s":
            one["schema"]["maximum"] = 0.1
    claim = paths["/v1/workers/claim"]["post"]["requestBody"]["content"]["application/json"]
    claim["schema"]["properties"]["wait_s"]["maximum"] = 0.1
    claim["example"]["wait_s"] = 0
    for path, method in (
        ("/v1/chat/completions", "post"),
        ("/v1/completions", "post"),
        ("/v1/embeddings", "post"),
        ("/v1/responses", "post"),
        ("/api/generate", "post"),
        ("/api/chat", "post"),
        ("/api/embed", "post"),
    ):
        # Otherwise nearly every request would be of a model that is not there.
        properties = paths[path][method]["requestBody"]["content"]["application/json"]["schema"]["properties"]
        properties["model"] = {"enum": ["play", "play-embed", "none.such"]}
    return changed


def probe(door: Door, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run schemathesis against the server."""
    status, document = door.call("GET", "/openapi.json")
    assert status == 200
    file = folder / "openapi.json"
    file.write_text(json.dumps(quick(document)))
    (folder / "schemathesis.toml").write_text(
        f"[checks.not_a_server_error]\nexpected-statuses = {['2XX', '3XX', '4XX', *map(str, HONEST)]}\n"
    )
    excluded = [word for name in STREAMS for word in ("--exclude-operation-id", name)]
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(folder / "schemathesis.toml")]
    command += ["run", str(file), "--url", door.url, "--checks", CHECKS, "--no-color", "--warnings", "off"]
    command += ["--request-timeout", "20", "--suppress-health-check", "all", "--generation-database", "none"]
    command += ["--report", "ndjson", "--report-ndjson-path", str(folder / "report.ndjson"), *excluded, *more]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3000, check=False)


def judge(found: subprocess.CompletedProcess[str], folder: Path, dsn: str) -> None:
    """Say what was found; look at what is stored: whole rows only, each of which somebody was told of."""
    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr[-2000:]
    told = set(_TOLD.findall((folder / "report.ndjson").read_text()))
    with psycopg.connect(dsn, autocommit=True) as conn:
        rows = conn.execute("SELECT id::text, kind, source, payload, status, result FROM llm.jobs").fetchall()
    untold = [(name, kind, source) for name, kind, source, *_ in rows if name not in told and source != "batch"]
    assert not untold, f"{len(untold)} of {len(rows)}: {untold[:10]}"
    assert rows
    for _, kind, _, payload, status, result in rows:
        assert kind.strip()
        orjson.loads(payload)
        assert (result is not None) <= (status == "done")
        orjson.loads(result or "null")


@pytest.mark.timeout(240)
def test_a_minute_of_it(probed: Door, dsn: str, tmp_path: Path) -> None:
    judge(probe(probed, tmp_path, "--max-examples", "4", "--max-time", "35", "--seed", "4"), tmp_path, dsn)


@pytest.mark.soak
@pytest.mark.timeout(4000)
def test_a_quarter_of_an_hour_of_it(probed: Door, dsn: str, tmp_path: Path) -> None:
    judge(probe(probed, tmp_path, "--max-examples", "200", "--max-time", "720", "--continue-on-failure"), tmp_path, dsn)
