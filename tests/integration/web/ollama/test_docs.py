"""docs/ollama.md: its examples are run as they stand, and answer what they say they do."""

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
from llm_mcp.web.ollama.door import _ROUTES
from llm_mcp.worker import Worker
from tests.contract.provider_peer import Line, Peer, answer
from tests.integration.web.door import ROOT, Door
from tests.integration.web.test_docs import BASE, MARK, Example

PAGE = (ROOT / "docs" / "ollama.md").read_text()
VOLATILE = [
    (re.compile(r'("created_at": ?)"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"'), r'\1"<instant>"'),
    (re.compile(r'("total_duration": ?)[1-9]\d*'), r"\1 1"),
]


def examples() -> list[Example]:
    """Return the page's examples, in order."""
    found = re.findall(r"```sh\n(.*?)```\n\n```(\w+)\n(.*?)```", PAGE, re.DOTALL)
    return [Example(*parts) for parts in found]


def essence(form: str, told: str) -> Any:
    """Return what two answers have in common when they say the same: where a stream's pieces end is chance."""
    for pattern, name in VOLATILE:
        told = pattern.sub(name, told)
    if form == "json":
        return json.loads(told)
    *pieces, last = [json.loads(line) for line in told.strip().splitlines()]
    return "".join(piece.pop("response") for piece in pieces), pieces[0], last


def listing(path: str) -> Any:
    """Return what the page says a device answers to a question without a body."""
    return next(json.loads(one.answer) for one in examples() if one.command.rstrip().endswith(path))


@pytest.fixture
def served(settings: Settings, tmp_path: Path) -> Iterator[Door]:
    """A door beside a worker whose model always names the same colours; what is listed, a device lists."""
    model = Fake([Text("Red, "), Text("green and blue."), Used(tokens_in=4, tokens_out=6)], models=["colours:latest"])
    words = Fake(models=["words-embed:latest"], dimensions=4)
    model.embed = words.embed  # type: ignore[method-assign] # one device has both
    runtime = Runtime(settings, providers={"ollama": model})
    runtimes.use(runtime)
    worker = Worker(runtime, threads=2)
    worker.start()

    def told(line: Line) -> None:
        path = peer.requests[-1].head.split()[1]
        answer(200, listing(path))(line)

    with Peer(told) as peer:
        door = Door(settings.model_copy(update={"ollama_base_url": peer.url}), log=tmp_path / "web.log")
        yield door
        door.close()
    worker.drain(0.0)
    runtimes.use(None)
    runtime.close()


def test_every_command_has_its_answer() -> None:
    assert len(examples()) == PAGE.count("```sh\n") >= 9
    for example in examples():
        assert BASE in example.command


def test_the_examples_answer_what_they_say(served: Door, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    script = f"\necho '{MARK}'\n".join(example.command for example in examples()).replace(BASE, served.url)
    ran = subprocess.run(["sh", "-euc", script], cwd=tmp_path, capture_output=True, text=True, timeout=90, check=True)
    answers = ran.stdout.split(f"{MARK}\n")
    assert len(answers) == len(examples())
    for example, told in zip(examples(), answers, strict=True):
        assert essence(example.form, told) == essence(example.form, example.answer), example.command


def test_every_route_of_the_dialect_is_on_the_page() -> None:
    for rule, _, _ in _ROUTES:
        assert f"{rule.replace('<', '{').replace('>', '}')}`" in PAGE
