"""Logs say what happened, never what was asked or answered."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from llm_mcp import config, logs

SECRET = "the prompt nobody may read"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def fail(prompt: str) -> None:
    """Raise with a prompt among the local variables."""
    copy = f"{prompt}!"
    raise ValueError(f"of {len(copy)} characters")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_local_variables(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    logs.configure(config.load(log_format=log_format))
    try:
        fail(SECRET)
    except ValueError:
        logging.getLogger("llm_mcp.x").exception("it failed", extra={"action": "test"})
    said = capsys.readouterr().err
    assert "it failed" in said
    assert "ValueError" in said
    assert SECRET not in said


def test_a_line_is_one_json_object_with_its_action(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(config.load(log_format="json"))
    logging.getLogger("llm_mcp.x").info("two\nlines", extra={"action": "test", "n": 3})
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["action"], told["n"], told["level"]) == ("two\nlines", "test", 3, "info")
