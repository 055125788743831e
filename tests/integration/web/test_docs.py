"""docs/http.md: its examples are run as they stand, and answer what they say they do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import llm_mcp.actors  # noqa: F401 - what the worker can run
from llm_mcp import runtime as runtimes
from llm_mcp.config import Settings
from llm_mcp.providers.fake import Fake, Text, Used
from llm_mcp.runtime import Runtime
from llm_mcp.worker import Worker
from tests.integration.web.door import ROOT, Door

PAGE = (ROOT / "docs" / "http.md").read_text()
BASE = "http://127.0.0.1:8080"
MARK = "-- 8< --"
VOLATILE = [
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "<instant>"),
    (re.compile(r"\d{4}\.\d+\.\d+"), "<version>"),
    (re.compile(r'"lease_token": ?\d+'), '"lease_token": 0'),
]


@dataclass(frozen=True)
class Example:
    """A command of the page and the answer that stands under it."""

    command: str
    form: str
    answer: str


def examples() -> list[Example]:
    """Return the page's examples, in order."""
    found = re.findall(r"```sh\n(.*?)```\n\n```(\w+)\n(.*?)```", PAGE, re.DOTALL)
    return [Example(*parts) for parts in found]


def settled(text: str) -> str:
    """Put names in place of what differs from run to run."""
    for pattern, name in VOLATILE:
        text = pattern.sub(name, text)
    return text


def essence(form: str, answer: str) -> Any:
    """Return what two answers have in common when they say the same.

    Of a stream, the statuses before the last depend on how quick the reader was, and so does who says `retry`, and
    whether the job had to wait.
    """
    if form == "json":
        return json.loads(settled(answer))
    if form == "http":
        return answer.split()
    blocks = [re.sub(r"\nretry: 2000", "", block) for block in settled(answer).strip().split("\n\n")]
    blocks = [block for block in blocks if not block.startswith("event: queue")]
    last_status = max(n for n, block in enumerate(blocks) if block.startswith("event: status"))
    return [block for n, block in enumerate(blocks) if n == last_status or not block.startswith("event: status")]


@pytest.fixture
def worker(settings: Settings) -> Iterator[Worker]:
    """A worker whose model always names the same colours."""
    model = Fake([Text("Red, "), Text("green and blue."), Used(tokens_in=2, tokens_out=4)], models=["colours"])
    runtime = Runtime(settings, providers={"ollama": model})
    runtimes.use(runtime)
    made = Worker(runtime, threads=2)
    made.start()
    yield made
    made.drain(0.0)
    runtimes.use(None)
    runtime.close()


def test_every_command_has_its_answer() -> None:
    assert len(examples()) == PAGE.count("```sh\n") >= 12
    for example in examples():
        assert BASE in example.command


def test_the_examples_answer_what_they_say(door: Door, worker: Worker, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    script = f"\necho '{MARK}'\n".join(example.command for example in examples()).replace(BASE, door.url)
    ran = subprocess.run(["sh", "-euc", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    answers = ran.stdout.split(f"{MARK}\n")
    assert len(answers) == len(examples())
    for example, answer in zip(examples(), answers, strict=True):
        assert essence(example.form, answer) == essence(example.form, example.answer), example.command


def test_every_error_of_the_page_is_one_we_give() -> None:
    said = set(re.findall(r"^\| [\d, ]+ \| (.*?) \|", PAGE, re.MULTILINE))
    codes = {code for cell in said for code in re.findall(r"`(\w+)`", cell)}
    sources = "\n".join(path.read_text() for folder in ("web", "llm_mcp") for path in (ROOT / folder).rglob("*.py"))
    for code in codes - {"invalid_deadline_at"}:
        assert f'"{code}"' in sources, code
    assert codes >= {"invalid_json", "invalid_payload", "unavailable", "too_many_streams", "body_too_large"}
