"""docs/openai.md: its examples are run as they stand, and answer what they say they do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import llm_mcp.actors  # noqa: F401 - what the worker can run
from llm_mcp import runtime as runtimes
from llm_mcp.config import Settings
from llm_mcp.providers.fake import Fake, Text, Used
from llm_mcp.runtime import Runtime
from llm_mcp.worker import Worker
from tests.contract.provider_peer import Peer, answer
from tests.integration.web.door import ROOT, Door
from tests.integration.web.test_docs import BASE, MARK, Example

PAGE = (ROOT / "docs" / "openai.md").read_text()
LISTED = {
    "models": [
        {"name": "colours:latest", "modified_at": "2026-11-01T12:00:00Z", "capabilities": ["completion"]},
        {"name": "words-embed:latest", "modified_at": "2026-11-01T12:00:00Z", "capabilities": ["embedding"]},
    ]
}
VOLATILE = [(re.compile(r"(chatcmpl|cmpl)-[0-9a-f]{32}"), r"\1-<id>"), (re.compile(r'("created": ?)\d+'), r"\1 0")]


def examples() -> list[Example]:
    """Return the page's examples, in order."""
    found = re.findall(r"```sh\n(.*?)```\n\n```(\w+)\n(.*?)```", PAGE, re.DOTALL)
    return [Example(*parts) for parts in found]


def essence(form: str, told: str) -> Any:
    """Return what two answers have in common when they say the same: all but ids and instants."""
    for pattern, name in VOLATILE:
        told = pattern.sub(name, told)
    if form == "json":
        return json.loads(told)
    blocks = [block.removeprefix("data: ") for block in told.split("\n\n") if block.strip()]
    return [block.strip() if "[DONE]" in block else json.loads(block) for block in blocks]


@pytest.fixture
def served(settings: Settings, tmp_path: Path) -> Iterator[Door]:
    """A door beside a worker whose model always names the same colours; what is listed, a machine lists."""
    model = Fake([Text("Red, green and blue."), Used(tokens_in=4, tokens_out=6)], models=["colours:latest"])
    words = Fake(models=["words-embed:latest"], dimensions=4)
    model.embed = words.embed  # type: ignore[method-assign] # one machine has both
    runtime = Runtime(settings, providers={"ollama": model})
    runtimes.use(runtime)
    worker = Worker(runtime, threads=2)
    worker.start()
    with Peer(answer(200, LISTED)) as machine:  # to both questions: what there is, and what is loaded
        door = Door(settings.model_copy(update={"ollama_base_url": machine.url}), log=tmp_path / "web.log")
        yield door
        door.close()
    worker.drain(0.0)
    runtimes.use(None)
    runtime.close()


def test_every_command_has_its_answer() -> None:
    assert len(examples()) == PAGE.count("```sh\n") >= 8
    for example in examples():
        assert BASE in example.command


def test_the_examples_answer_what_they_say(served: Door, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    script = f"\necho '{MARK}'\n".join(example.command for example in examples()).replace(BASE, served.url)
    ran = subprocess.run(["sh", "-euc", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    answers = ran.stdout.split(f"{MARK}\n")
    assert len(answers) == len(examples())
    for example, told in zip(examples(), answers, strict=True):
        assert essence(example.form, told) == essence(example.form, example.answer), example.command


def test_every_error_of_the_page_is_one_we_give() -> None:
    said = re.findall(r"^\| [\dx, ]+ \| (.*?) \|", PAGE, re.MULTILINE)
    codes = {code for cell in said for code in re.findall(r"`(\w+)`", cell)}
    folders = [ROOT / "web" / "openai", ROOT / "web", ROOT / "llm_mcp"]
    sources = "\n".join(path.read_text() for folder in folders for path in folder.glob("*.py"))
    for code in codes:
        assert f'"{code}"' in sources, code
    assert codes >= {"messages_required", "no_api_key", "no_device", "model_not_found", "call_timeout"}


def test_every_route_of_the_dialect_is_on_the_page() -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/models/{id}"):
        assert f"{path}`" in PAGE
