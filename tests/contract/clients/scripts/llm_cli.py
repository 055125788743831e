"""The `llm` command, by way of OpenAI's dialect and, with its plug-in `llm-ollama`, of Ollama's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from checking import PATIENCE_S, SERVER, run, same

HOME = Path(tempfile.mkdtemp(prefix="llm-mcp-llm-"))
FIRM = ["-o", "temperature", "0", "-o", "seed", "7"]
ADD = 'def add(a: int) -> int:\n    "Add."\n    return a\n'
TINY = "ollama/tiny:latest"
MODELS = """
- model_id: mcp-tiny
  model_name: tiny
  api_base: {base}
  supports_schema: true
- model_id: mcp-caller
  model_name: caller
  api_base: {base}
  supports_tools: true
"""


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "llm"), *words],
        env={**os.environ, "LLM_USER_PATH": str(HOME), "OLLAMA_HOST": SERVER, "OPENAI_API_KEY": "none"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def said(*words: str) -> str:
    """Return what the command says when all goes well."""
    done = command(*words)
    assert done.returncode == 0, done.stderr[-300:]
    return done.stdout.strip()


def chat() -> None:
    """An answer in one piece, by either dialect."""
    assert said("hello", "-m", "mcp-tiny", "--no-stream", "-o", "max_tokens", "12", *FIRM)
    assert said("hello", "-m", TINY, "--no-stream", "-o", "num_predict", "12", *FIRM)


def stream() -> None:
    """The same answer in pieces, by either dialect."""
    for model, limit in (("mcp-tiny", "max_tokens"), (TINY, "num_predict")):
        asked = ["hello", "-m", model, "-o", limit, "30", *FIRM]
        answer = said(*asked)
        assert answer
        same(answer, said(*asked, "--no-stream"))


def tools() -> None:
    """A tool is called, and its result goes back; the model that always calls would go on, and is stopped."""
    done = command("hello", "-m", "mcp-caller", "--functions", ADD, "--td", "--cl", "2", "-o", "max_tokens", "1", *FIRM)
    assert "Tool call: add({'a': " in done.stderr, done.stderr[-300:]
    assert "Chain limit of 2 exceeded" in done.stderr, done.stderr[-300:]


def schema() -> None:
    """An answer that fits a schema, by either dialect."""
    for model, limit in (("mcp-tiny", "max_tokens"), (TINY, "num_predict")):
        asked = ["-m", model, "--schema", "legs int, tame bool", "-o", limit, "300", "-o", "temperature", "1"]
        same(set(json.loads(said("hello", *asked, "-o", "seed", "3"))), {"legs", "tame"})


def embeddings() -> None:
    """Vectors of texts."""
    cat, dog = (
        json.loads(said("embed", "-m", "ollama/tiny-embed:latest", "-c", text)) for text in ("the cat", "the dog")
    )
    assert len(cat) == len(dog) > 1
    assert cat != dog


def models() -> None:
    """The models there are."""
    listed = said("models")
    assert TINY in listed, listed[-300:]
    assert "ollama/caller:latest" in listed
    assert "ollama/tiny-embed:latest" in said("embed-models")


def errors() -> None:
    """A model that is not there is an error that says so."""
    (HOME / "extra-openai-models.yaml").write_text(
        MODELS.format(base=f"{SERVER}/v1") + f"- model_id: mcp-nope\n  model_name: nope\n  api_base: {SERVER}/v1\n"
    )
    done = command("hello", "-m", "mcp-nope")
    assert done.returncode != 0
    assert "model" in done.stderr.lower(), done.stderr[-300:]
    assert "Traceback" not in done.stderr


if __name__ == "__main__":
    (HOME / "extra-openai-models.yaml").write_text(MODELS.format(base=f"{SERVER}/v1"))
    try:
        run(chat, stream, tools, schema, embeddings, models, errors)
    finally:
        shutil.rmtree(HOME, ignore_errors=True)
