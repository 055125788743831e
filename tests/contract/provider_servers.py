"""Real servers of models as child processes, which a test can freeze."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_mcp.embedded import ollama as device
from llm_mcp.embedded.device.catalog import ModelFile

MODELS = Path(__file__).parents[1] / "gguf"
_START_S = 30.0


class Server:
    """A child that serves at `url`."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.url = url
        self._process = process

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let the process do nothing at all meanwhile: whoever waits for it waits."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def served(command: list[str]) -> Iterator[Server]:
    """Start a server that says `ready URL`, and stop it in the end."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        alarm = threading.Timer(_START_S, process.kill)
        alarm.start()
        try:
            assert process.stdout is not None
            ready = next((line for line in process.stdout if line.startswith("ready ")), None)
            alarm.cancel()
            assert ready is not None, f"{command[1:4]} did not start"
            yield Server(process, ready.split()[1])
        finally:
            alarm.cancel()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def ollama_device(data_dir: Path) -> Iterator[Server]:
    """The embedded device with the two tiny models, `tiny` and `tiny-embed`."""
    models = {name: ModelFile(MODELS / f"{name}.gguf") for name in ("tiny", "tiny-embed")}
    with served(device.command(data_dir, models)) as server:
        yield server


@contextmanager
def llama_server(sort: str) -> Iterator[Server]:
    """llama.cpp's own server with a tiny model, for `text` or to `embed`."""
    model = MODELS / {"text": "tiny.gguf", "embed": "tiny-embed.gguf"}[sort]
    script = Path(__file__).with_name("provider_llama.py")
    with served([sys.executable, str(script), str(model), sort]) as server:
        yield server
