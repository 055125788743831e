"""The README's examples run as they stand, and its Russian twin has the same ones."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_mcp import config
from llm_mcp.embedded.cluster import packaged_binaries
from llm_mcp.embedded.device import catalog
from llm_mcp.errors import Conflict
from llm_mcp.job import Status
from tests.acceptance.running import Scratch, Up

pytestmark = pytest.mark.skipif(
    catalog.unavailable_reason() is not None, reason=f"needs the packaged model: {catalog.unavailable_reason()}"
)
ROOT = Path(__file__).parent.parent.parent
BASE = "http://127.0.0.1:8080"


def blocks(language: str, page: str = "README.md") -> list[str]:
    """Return the page's code blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def shared() -> Iterator[Up]:
    """What `make up` runs: the packaged model, whose answers come to an end."""
    made = Scratch()
    yield made.up(embedded_model=None, modules="")
    made.close()


def run(up: Up, argv: list[str], script: str) -> str:
    """Run a script as the page's reader would, next to a running system; return what it printed.

    So small a model now and then talks on and on. Nobody waits for that: what runs when a script begins is cancelled,
    and one that waited too long is run a second time.
    """
    _cancel_all(up)
    try:
        return _run(up, argv, script, timeout_s=60)
    except subprocess.TimeoutExpired:
        _cancel_all(up)
        return _run(up, argv, script, timeout_s=120)


def _cancel_all(up: Up) -> None:
    jobs = up.jobs()
    with contextlib.closing(jobs.runtime):
        for status in (Status.RUNNING, Status.QUEUED):
            for job in jobs.page(status=status):
                with contextlib.suppress(Conflict):
                    jobs.cancel(job.id)


def _run(up: Up, argv: list[str], script: str, *, timeout_s: float) -> str:
    environment = config.child_environment(up.settings)
    made = subprocess.run(
        argv,
        input=script.replace(BASE, up.url),
        env={
            **environment,
            "DB_DSN": up.jobs().runtime.dsn,
            "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("block", blocks("sh"))
def test_a_shell_example_runs(shared: Up, block: str) -> None:
    said = run(shared, ["bash", "-euo", "pipefail"], block)
    assert said.strip()
    assert '"error":' not in said


@pytest.mark.parametrize("block", blocks("python"))
def test_a_python_example_runs(shared: Up, block: str) -> None:
    said = run(shared, [sys.executable, "-W", "error", "-"], block)
    assert said.strip() or "@actor" in block


def test_the_kind_of_your_own_really_runs(shared: Up) -> None:
    """The page's own kind, in a worker of this process, submitted and answered."""
    block = next(block for block in blocks("python") if "@actor" in block)
    rest = """
from llm_mcp.runtime import current
from llm_mcp.worker import Worker

worker = Worker(current(), threads=1)
worker.start()
handle = summary.submit(text="a text of some length, cut")
kinds = [event.type for event in handle.stream()]
print(handle.wait(timeout=30)["response"], kinds)
worker.drain(1.0)
"""
    assert run(shared, [sys.executable, "-"], block + rest) == "a text of some lengt ['progress', 'delta']\n"


def test_the_sql_example_runs(shared: Up) -> None:
    binaries = packaged_binaries()
    assert binaries is not None
    jobs = shared.jobs()
    (example,) = blocks("sql")
    job_id = run(shared, [str(binaries / "bin" / "psql"), "-XqAt", "-d", jobs.runtime.dsn], example).strip()
    assert shared.finished(job_id)["status"] == "done"


def test_the_recording_is_of_the_demo_there_is(shared: Up) -> None:
    """Its rows and lines are those that `llm-mcp demo` prints today; what the model said may differ."""
    recording = blocks("text")[0]
    source = (ROOT / "llm_mcp" / "cli" / "demo.py").read_text()
    for line in re.findall(r'^        "([a-z/ ]+)": ', source, re.MULTILINE):
        assert f"\n{line}  " in recording
    for line in re.findall(r'err.print\("(?:\\n)?(\d\. [^"]+)"', source):
        assert line in recording
    assert blocks("text", "README.ru.md")[0] == recording


@pytest.mark.parametrize("language", ["sh", "python", "sql"])
def test_the_russian_page_has_the_same_examples(language: str) -> None:
    assert blocks(language, "README.ru.md") == blocks(language)


def test_every_link_leads_somewhere() -> None:
    for page in ("README.md", "README.ru.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"
