"""The registry of kinds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, field_validator

from llm_mcp.errors import InvalidInput, SetupError
from llm_mcp.kinds import MAX_KIND_CHARS, Kind, Kinds, check_name, load_modules


class Order(BaseModel):
    item: str
    count: int = 1

    @field_validator("item")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == "nothing":
            raise ValueError("we sell something")
        return value


def test_the_same_kind_twice_is_one_kind() -> None:
    kinds = Kinds()
    kind = kinds.add(Kind("shop.order", Order))
    assert kinds.add(Kind("shop.order", Order)) == kind
    assert [known.name for known in kinds] == ["shop.order"]
    assert kinds.get("shop.order") == kind
    assert kinds.get("shop.other") is None


@pytest.mark.parametrize(
    "other",
    [Kind("shop.order"), Kind("shop.order", Order, queue="fast"), Kind("shop.order", Order, max_attempts=1)],
)
def test_another_kind_of_that_name_is_refused(other: Kind) -> None:
    kinds = Kinds()
    kinds.add(Kind("shop.order", Order))
    with pytest.raises(SetupError, match="registered twice"):
        kinds.add(other)
    assert kinds.get("shop.order") == Kind("shop.order", Order)


@pytest.mark.parametrize("queue", ["", "a b", "1st", "x" * 101, "a\n", "jöbs"])
def test_a_bad_queue_name_is_refused(queue: str) -> None:
    with pytest.raises(SetupError, match="bad queue name"):
        Kinds().add(Kind("shop.order", queue=queue))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "kind_required"),
        (" \t", "kind_required"),
        ("\u00a0", "kind_required"),
        ("x" * (MAX_KIND_CHARS + 1), "invalid_kind"),
        ("a\nb", "invalid_kind"),
        ("a\x00b", "invalid_kind"),
        ("a\ud800", "invalid_kind"),
    ],
)
def test_a_bad_name_is_refused_and_says_how(name: str, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_name(name)
    assert (caught.value.field, caught.value.code) == ("kind", code)
    with pytest.raises(SetupError):
        Kinds().add(Kind(name))


def test_odd_names_are_fine() -> None:
    for name in ("x" * MAX_KIND_CHARS, " padded ", "acme/summary v2", "резюме"):
        check_name(name)


@pytest.mark.parametrize(
    ("payload", "field", "says"),
    [
        ({}, "payload.item", "Field required"),
        ({"item": "pen", "count": "many"}, "payload.count", "integer"),
        ({"item": "nothing"}, "payload.item", "we sell something"),
        ([1], "payload", "dictionary"),
        (None, "payload", "dictionary"),
    ],
)
def test_a_payload_that_does_not_fit_names_its_field(payload: object, field: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        Kind("shop.order", Order).validate(payload)
    assert (caught.value.field, caught.value.code) == (field, "invalid_payload")


def test_a_payload_that_fits_comes_back_as_its_model_and_without_a_model_as_it_is() -> None:
    assert Kind("shop.order", Order).validate({"item": "pen"}) == Order(item="pen")
    assert Kind("shop.any").validate([1, None]) == [1, None]


@pytest.mark.parametrize(
    ("text", "says"),
    [("import no_such_thing", "no_such_thing"), ("1 / 0", "ZeroDivisionError"), ("def", "SyntaxError")],
)
def test_a_module_that_does_not_load_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    (tmp_path / "broken_kinds.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with pytest.raises(SetupError, match=f"cannot import broken_kinds.*{says}"):
        load_modules(["json", "broken_kinds"])
    with pytest.raises(SetupError, match="cannot import nowhere_at_all"):
        load_modules(["nowhere_at_all"])
