"""The wheel holds what is tracked, all of it, under one name; it lives beside packages called as our folders are."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import re
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from .checkout import ROOT, copy, run, tracked

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PYPROJECT["project"]["version"]
DIST_INFO = f"llm_mcp-{VERSION}.dist-info/"
# What the wheel is made of: folder of the checkout -> package.
SHIPPED = {
    "llm_mcp": "llm_mcp",
    "actors": "llm_mcp/actors",
    "mcp_bridge": "llm_mcp/mcp_bridge",
    "web": "llm_mcp/web",
    "db": "llm_mcp/db",
}
UV = Path(sys.executable).with_name("uv")
UNREACHABLE = re.compile(r"error sending request|network was disabled|operation timed out|dns error")
# Nothing of this process's environment decides what another Python finds.
ENV = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}

WHO_IS_WHO = """
import actors, proto, web
from llm_mcp.actors import ollama
assert actors.WHO == "the service"
assert callable(web.application) and isinstance(proto.Message, type)
assert callable(ollama.generate.submit)
"""
IMPORT_ALL = """
import importlib, pkgutil, llm_mcp
for module in pkgutil.walk_packages(llm_mcp.__path__, "llm_mcp."):
    try:
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        print(module.name, error.name)
"""
CONSUMER = """
from __future__ import annotations
from llm_mcp import Job, JobHandle, Run, actor
from llm_mcp.actors import ollama

@actor("acme.shout")
def shout(payload: str, run: Run) -> str:
    run.text(payload)
    return payload.upper()

handle: JobHandle = ollama.generate.submit(prompt="Why?", priority=3)
job: Job = shout.submit({"a": 1}, delay_s=0.5).job()
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is tracked: a build litters it, not the project."""
    return copy(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    """Our wheel, built without a network."""
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "dist", "."]
    run(sys.executable, "-m", "pip", *words, cwd=checkout, env=ENV)
    (built,) = (checkout / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel, the locked versions of what it asks for, and its neighbours.

    The neighbours are there first, so that anything of theirs which we overwrite is broken.
    """
    home = tmp_path_factory.mktemp("elsewhere") / "env"
    here = ROOT / "tests" / "acceptance"
    run(UV, "venv", "--quiet", "--python", sys.executable, home, cwd=ROOT, env=ENV)
    install: list[str | Path] = [UV, "pip", "install", "--quiet", "--python", home / "bin" / "python"]
    asked: list[str | Path] = [
        "-r",
        here / "neighbours.lock",
        "-r",
        ROOT / "pyproject.toml",
        "-c",
        ROOT / "requirements.lock",
    ]
    try:
        run(*install, "--require-hashes", *asked, cwd=here, env=ENV)
    except AssertionError as error:
        if os.environ.get("CI") == "true" or not UNREACHABLE.search(str(error)):
            raise
        pytest.skip("the package index cannot be reached, so nothing can be installed beside the wheel")
    run(*install, "--no-deps", wheel, cwd=here, env=ENV)
    return home / "bin"


def site(bin_folder: Path) -> list[Distribution]:
    """Return what is installed in that environment."""
    return list(distributions(path=[str(next((bin_folder.parent / "lib").glob("python*/site-packages")))]))


def test_the_wheel_is_what_is_tracked(wheel: Path) -> None:
    expected = {}
    for path in tracked(*SHIPPED):
        folder, _, rest = path.partition("/")
        expected[f"{SHIPPED[folder]}/{rest}"] = (ROOT / path).read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if not name.startswith(DIST_INFO)}
    assert set(expected) - set(found) == set(), "list a new subpackage under [tool.setuptools] packages"
    assert set(found) - set(expected) == set()
    assert found == expected


def test_a_source_distribution_makes_the_same_wheel(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    build = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
    run(sys.executable, "-c", build, "build_sdist", tmp_path, cwd=checkout, env=ENV)
    run("tar", "-xzf", next(tmp_path.glob("*.tar.gz")), cwd=tmp_path, env=ENV)
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    run(sys.executable, "-c", build, "build_wheel", tmp_path, cwd=unpacked, env=ENV)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as other:
        assert sorted(other.namelist()) == sorted(one.namelist())


def test_the_version_is_said_once(wheel: Path) -> None:
    assert re.fullmatch(r"20\d\d\.(1[0-2]|[1-9])\.[1-9]\d*", VERSION)
    assert wheel.name == f"llm_mcp-{VERSION}-py3-none-any.whl"
    assert f'org.opencontainers.image.version="{VERSION}"' in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert VERSION in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_it_takes_one_name(elsewhere: Path) -> None:
    (ours,) = (dist for dist in site(elsewhere) if dist.name == "llm-mcp")
    names = {path.parts[0] for path in ours.files or [] if path.parts[0] != ".."}
    assert names == {"llm_mcp", DIST_INFO.rstrip("/")}
    assert ours.metadata["License-Expression"] == "MIT"


def test_the_neighbours_are_whole(elsewhere: Path) -> None:
    checked = set()
    for dist in site(elsewhere):
        if canonicalize_name(dist.name) not in {"web-py", "proto-plus"}:
            continue
        for name, digest, _ in csv.reader((dist.read_text("RECORD") or "").splitlines()):
            if digest:
                content = Path(str(dist.locate_file(name))).read_bytes()
                assert _digest(content) == digest, f"{dist.name}: {name} was overwritten"
                checked.add(Path(name).parts[0])
    assert {"web", "proto"} <= checked


def test_everyone_finds_their_own(elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "actors").mkdir()
    (tmp_path / "actors" / "__init__.py").write_text('WHO = "the service"\n', encoding="utf-8")
    (tmp_path / "service.py").write_text(WHO_IS_WHO, encoding="utf-8")
    run(elsewhere / "python", "service.py", cwd=tmp_path, env=ENV)


def test_every_module_imports_with_what_we_ask_for(elsewhere: Path, tmp_path: Path) -> None:
    # The child that the embedded device starts; it is there with llm-mcp[local].
    assert (
        run(elsewhere / "python", "-c", IMPORT_ALL, cwd=tmp_path, env=ENV)
        == "llm_mcp.embedded.device.engine xllamacpp\n"
    )


def test_the_command_is_there(elsewhere: Path, tmp_path: Path) -> None:
    assert "worker" in run(elsewhere / "llm-mcp", "--help", cwd=tmp_path, env=ENV)


def test_its_types_reach_those_who_use_it(elsewhere: Path, tmp_path: Path) -> None:
    python = str(elsewhere / "python")
    check = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable", python]
    (tmp_path / "right.py").write_text(CONSUMER, encoding="utf-8")
    (tmp_path / "wrong.py").write_text(CONSUMER.replace("priority=3", 'priority="high"'), encoding="utf-8")
    run(*check, "right.py", cwd=tmp_path, env=ENV)
    assert "[arg-type]" in run(*check, "wrong.py", cwd=tmp_path, env=ENV, fails=True)


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
