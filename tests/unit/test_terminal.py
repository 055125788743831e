"""What a model said cannot steer a terminal, and JSON stays exact."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp.cli import terminal

EVIL = "a\x1b[31mb\x07\x9bc\u202ed\u200be\U000e0041f\r\x08g"


def test_control_bidi_and_tag_characters_are_taken_out() -> None:
    assert terminal.clean(EVIL) == "a[31mbcdefg"
    assert terminal.clean("Größe\t→ 語\nж 🙂") == "Größe\t→ 語\nж 🙂"


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_printed_json_is_harmless_and_says_the_same(value: object) -> None:
    with terminal.out.capture() as captured:
        terminal.print_json(value)
    text = captured.get()
    assert json.loads(text) == value
    assert terminal.clean(text) == text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (200000, "2 d")]
)
def test_ages_are_in_the_largest_whole_unit(seconds: int, shown: str) -> None:
    assert terminal.ago(datetime.now(UTC) - timedelta(seconds=seconds)) == shown
