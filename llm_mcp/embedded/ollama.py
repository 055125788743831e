"""The embedded device: llama.cpp behind Ollama's HTTP interface, for machines where no Ollama is installed.

    python -m llm_mcp.embedded.ollama --data-dir FOLDER --model NAME=FILE.gguf

Prints `ready URL` once it serves, and can be found by its state file from then on. Models are loaded when first asked
for, each in a process of its own, and unloaded when nobody asks for five minutes.
"""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from llm_mcp.errors import SetupError

from .device import state
from .device.catalog import CatalogModel, ModelFile, as_arguments, parse_models
from .device.residents import Residents
from .device.server import DeviceServer
from .device.state import running_url

__all__ = ["command", "main", "running_url"]

_CONTEXT = 2048
_END = (signal.SIGTERM, signal.SIGINT)
_log = logging.getLogger(__name__)


def command(
    data_dir: Path, models: Mapping[str, ModelFile], *, host: str = "127.0.0.1", port: int = 0, context: int = _CONTEXT
) -> list[str]:
    """Return the argv that starts the device.

    Parameters: `data_dir`, where its state file goes; `models`, what it serves, by name; `host` (a loopback address)
    and `port`, where it listens (0: any free port, told in its `ready` line and state file); `context`, tokens a model
    is loaded with unless a request says `num_ctx`.
    """
    where = ["--data-dir", str(data_dir), "--host", host, "--port", str(port), "--context", str(context)]
    return [sys.executable, "-m", "llm_mcp.embedded.ollama", *where, *as_arguments(models)]


def main(arguments: Sequence[str]) -> int:
    """Run the device until SIGTERM or SIGINT; return the exit status.

    Refuses what it cannot run with in one line on stderr, status 2.
    """
    wanted = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="device: %(message)s")
    try:
        return _run(wanted)
    except SetupError as error:
        print(f"device: {error}", file=sys.stderr)
        return 2


def _run(wanted: argparse.Namespace) -> int:
    if importlib.util.find_spec("xllamacpp") is None:
        raise SetupError("llama.cpp is not installed: pip install 'llm-mcp[local]'")
    files = parse_models(wanted.model, wanted.embed_model)
    if not files:
        raise SetupError("--model: nothing to serve; give at least one NAME=FILE.gguf")
    models = {name: CatalogModel(name, file) for name, file in files.items()}
    # Blocked in every thread and waited for below: a handler could be called in a thread that does not wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, _END)
    with state.claimed(wanted.data_dir):
        residents = Residents(models, wanted.context)
        try:
            server = DeviceServer((wanted.host, wanted.port), residents, signature=state.signature(os.getpid()))
        except OSError as error:
            residents.close()
            raise SetupError(f"--port: cannot listen on {wanted.host}:{wanted.port}: {error.strerror}") from None
        acceptor = threading.Thread(target=server.serve_forever, args=(0.05,), name="acceptor")
        acceptor.start()
        try:
            state.write(wanted.data_dir, server.url)
            print(f"ready {server.url}", flush=True)
            signal.sigwait(_END)
        finally:
            # First of all, so that nobody is sent here any more.
            state.remove(wanted.data_dir)
            _log.info("ending")
            server.close()
            acceptor.join()
            residents.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(prog="python -m llm_mcp.embedded.ollama", description="Serve GGUF models as Ollama does.")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder for the state file; made when missing")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE", help="a model for text")
    parser.add_argument("--embed-model", action="append", default=[], metavar="NAME=FILE", help="a model for vectors")
    parser.add_argument("--host", type=_loopback, default="127.0.0.1", help="loopback address (default %(default)s)")
    parser.add_argument("--port", type=_port, default=0, help="port; 0, the default, takes a free one")
    parser.add_argument("--context", type=_context, default=_CONTEXT, help="tokens of context (default %(default)s)")
    return parser


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"device: {message.removeprefix('argument ')}\n")


def _loopback(text: str) -> str:
    address = "127.0.0.1" if text == "localhost" else text
    try:
        if ipaddress.ip_address(address).is_loopback:
            return address
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a loopback address; the device asks nobody for a key")


def _port(text: str) -> int:
    return _whole(text, 0, 65535)


def _context(text: str) -> int:
    return _whole(text, 64, 1_048_576)


def _whole(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
