"""docs/responses.md and docs/batches.md: their examples are run as they stand, and answer what they say they do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

import llm_mcp.actors  # noqa: F401 - what the worker can run
from llm_mcp import runtime as runtimes
from llm_mcp.config import Settings
from llm_mcp.providers.fake import Fake, Text, Used
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from llm_mcp.worker import Worker
from tests.integration.web.door import ROOT

BASE = "http://127.0.0.1:8080"
MARK = "-- 8< --"
VOLATILE = [
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<job>"),
    (re.compile(r"[0-9a-f]{32}"), "<id>"),
    (re.compile(r'"(\w+_at|created)": ?\d+'), r'"\1":0'),
]
PAGES = ["responses", "batches"]


def examples(page: str) -> list[tuple[str, str, str]]:
    """Return a page's examples in order: command, form and answer."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    found = re.findall(r"```sh\n(.*?)```\n\n```(\w+)\n(.*?)```", text, re.DOTALL)
    assert len(found) == text.count("```sh\n") >= 4
    return [(command, form, answer) for command, form, answer in found]


def essence(form: str, answer: str) -> Any:
    """Return what two answers have in common when they say the same."""
    for pattern, name in VOLATILE:
        answer = pattern.sub(name, answer)
    if form != "json":
        return answer
    values, place = [], 0
    while place < len(answer.rstrip()):
        value, place = json.JSONDecoder().raw_decode(answer, place)
        values.append(value)
        place += len(answer[place:]) - len(answer[place:].lstrip())
    return values


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    """Address of a server beside a worker whose model always names the same colours."""
    model = Fake([Text("Red, "), Text("green and blue."), Used(tokens_in=2, tokens_out=4)], models=["colours"])
    runtime = Runtime(settings, providers={"ollama": model})
    runtimes.use(runtime)
    worker = Worker(runtime, threads=2)
    worker.start()
    server = make_server("127.0.0.1", 0, create_app(runtime), threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()
    worker.drain(0.0)
    runtimes.use(None)
    runtime.close()


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_answer_what_they_say(page: str, url: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    told = examples(page)
    script = f"\necho; echo '{MARK}'\n".join(command for command, _, _ in told).replace(BASE, url)
    ran = subprocess.run(["sh", "-euc", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    answers = [answer.removesuffix("\n") for answer in ran.stdout.split(f"{MARK}\n")]
    assert len(answers) == len(told)
    for (command, form, said), answer in zip(told, answers, strict=True):
        assert essence(form, answer.strip("\n")) == essence(form, said.strip("\n")), command


@pytest.mark.parametrize("page", PAGES)
def test_every_error_of_the_pages_is_one_we_give(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    codes = {
        code for cell in re.findall(r"^\| \d+ \| (.*?) \|", text, re.MULTILINE) for code in re.findall(r"`(\w+)`", cell)
    }
    codes |= {"files_full", "batch_expired", "batch_cancelled"} if page == "batches" else set()
    sources = "\n".join(path.read_text() for folder in ("web", "llm_mcp") for path in (ROOT / folder).rglob("*.py"))
    for code in codes:
        assert f'"{code}"' in sources, code
