"""Every setting is documented, and nothing is documented that is no setting."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from llm_mcp.config import Settings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"
# Documents that promise all settings by name: the example, and a page of settings once there is one.
DOCUMENTS = [EXAMPLE, *sorted(ROOT.glob("docs/**/settings*.md"))]
LINE = re.compile(r"# ?([A-Z][A-Z0-9_]*)=(.*)")


def names(field: FieldInfo) -> list[str]:
    """Return the environment names of a setting, the one to tell people first."""
    assert isinstance(field.validation_alias, AliasChoices)
    return [str(name) for name in field.validation_alias.choices]


def names_of_compose() -> set[str]:
    """Return the variables that compose.yml takes from the environment or `.env`."""
    return set(re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / "compose.yml").read_text(encoding="utf-8")))


def unsaid(text: str) -> set[str]:
    """Return the names of settings that a document does not say, other names of the same setting included."""
    said = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", text))
    return {name for field in Settings.model_fields.values() for name in names(field)} - said


def examples(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (name, value, line above) for each commented-out assignment of an example file."""
    lines = text.splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        match = LINE.fullmatch(line)
        if match is not None:
            yield match[1], match[2], above


SAID = list(examples(EXAMPLE.read_text(encoding="utf-8")))
FIELDS = {names(field)[0]: (key, field) for key, field in Settings.model_fields.items()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_says_every_setting(document: Path) -> None:
    assert unsaid(document.read_text(encoding="utf-8")) == set()


def test_the_example_has_each_setting_once_and_knows_no_other() -> None:
    told = [name for name, _, _ in SAID]
    assert sorted(told) == sorted(set(FIELDS) | names_of_compose())


@pytest.mark.parametrize(("name", "value", "above"), SAID, ids=[name for name, _, _ in SAID])
def test_an_example_is_explained_and_is_the_default(
    name: str, value: str, above: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert above.startswith("# ")
    assert not LINE.fullmatch(above), f"{name}: say what it is"
    if name not in FIELDS:
        return
    key, field = FIELDS[name]
    for other in names(field):
        monkeypatch.delenv(other, raising=False)
    written = tmp_path / "env"
    written.write_text(f"{name}={value}\n", encoding="utf-8")
    read = getattr(Settings(_env_file=written), key)
    if field.default_factory is None:
        assert (read or None) == (field.default or None)
    if key.endswith(("_s", "_bytes", "_days")):
        unit = {"s": r"\bs\b", "bytes": r"\bbytes\b", "days": r"(?i)\bdays\b"}[key.rsplit("_", 1)[1]]
        assert re.search(unit, above), f"{name}: say its unit"


def test_a_setting_that_is_not_said_is_found() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert unsaid(text.replace("WORKER_LEASE_SECONDS", "")) == {"WORKER_LEASE_SECONDS"}
    assert unsaid(text.replace("DB_DSN", "DB-DSN")) == {"DB_DSN"}
