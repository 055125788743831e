"""An environment of its own for each peer, made once by uv under `.bench/` and used again."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from .roster import Peer

ROOT = Path(__file__).parent.parent.parent
CACHE = ROOT / ".bench"
SCRIPTS = Path(__file__).parent / "peers"
_COMPLETE = "complete"
_PIN = re.compile(r"^([\w.-]+)==([\w.+!-]+)", re.MULTILINE)


class Skipped(Exception):
    """A peer cannot take part here; the message says why, and what to do about it."""


def python_of(peer: Peer) -> Path:
    """Return the interpreter of the peer's environment, made now if need be. Raises Skipped."""
    if peer.requirements is None:
        return Path(sys.executable)
    requirements = SCRIPTS / peer.requirements
    base = _base(peer.python)
    key = hashlib.sha256(requirements.read_bytes() + str(base).encode()).hexdigest()[:12]
    folder = CACHE / f"{requirements.stem}-{key}"
    python = folder / "bin" / "python"
    if not (folder / _COMPLETE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        print(f"  making the environment of {requirements.stem}", flush=True)
        _uv("venv", "--quiet", "--python", str(base), str(folder))
        _uv("pip", "install", "--quiet", "--no-deps", "--python", str(python), "-r", str(requirements))
        (folder / _COMPLETE).touch()
    return python


def command(peer: Peer, python: Path) -> list[str]:
    """Return how the peer's driver is started."""
    if peer.requirements is None:
        return [str(python), "-m", peer.driver]
    return [str(python), str(SCRIPTS / peer.driver)]


def versions(peer: Peer) -> str:
    """Return the versions of what the peer is made of, and its Python when that is not ours. Raises Skipped."""
    if peer.requirements is None:
        return ", ".join(f"{name} {version(name)}" for name in peer.shown)
    pins = dict(_PIN.findall((SCRIPTS / peer.requirements).read_text()))
    told = ", ".join(f"{name} {pins[name]}" for name in peer.shown)
    if sys.version_info[:2] >= peer.python:
        return told
    made = (python_of(peer).parent.parent / "pyvenv.cfg").read_text()
    return f"{told}, Python {made.partition('version_info = ')[2].split()[0]}"


def _base(oldest: tuple[int, int]) -> Path:
    """Return our own interpreter, or one that is new enough. Raises Skipped."""
    if sys.version_info[:2] >= oldest:
        return Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    names = [f"python3.{minor}" for minor in range(oldest[1], 15)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(name) for name in names]
    found += [str(path) for name in names for path in sorted(pyenv.glob(f"*/bin/{name}"))]
    for python in filter(None, found):
        asked = subprocess.run(
            [python, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True, check=False
        )
        if asked.returncode == 0:  # a launcher on the PATH may lead nowhere
            return Path(python)
    raise Skipped(f"needs Python {oldest[0]}.{oldest[1]} or newer: have one on the PATH as {names[0]}")


def _uv(*arguments: str) -> None:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise Skipped("needs uv to make its environment")
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    environment.pop("VIRTUAL_ENV", None)
    made = subprocess.run([uv, *arguments], env=environment, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise Skipped(f"its environment could not be made: {made.stderr.strip().splitlines()[-1:]}")
