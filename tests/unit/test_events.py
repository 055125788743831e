"""Places in a stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp.errors import InvalidInput
from llm_mcp.events import Cursor, Event

_place = st.integers(0, 2**31 - 1)
_cursors = st.builds(Cursor, _place, _place)


@given(_cursors)
def test_a_place_reads_back_as_it_was_written(cursor: Cursor) -> None:
    assert Cursor.parse(str(cursor)) == cursor
    assert Cursor.parse(f" {cursor}\n") == cursor


@given(_cursors, _cursors)
def test_places_compare_in_stream_order(one: Cursor, other: Cursor) -> None:
    assert (one < other) == (one.attempt < other.attempt or (one.attempt == other.attempt and one.seq < other.seq))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1:",
        ":1",
        "1:2:3",
        "a:b",
        "-1:2",
        "1:-2",
        "1.0:2",
        "+1:2",
        "1 :2",
        "١:٢",
        "2147483648:1",
        "1:99999999999",
    ],
)
def test_anything_else_is_refused_by_the_name_of_its_field(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Cursor.parse(text, field="starting_after")
    assert (caught.value.field, caught.value.code) == ("starting_after", "invalid_event_id")


def test_an_event_knows_its_place_and_keeps_its_text_to_itself() -> None:
    event = Event(2, 7, "delta", {"text": "secret"})
    assert event.cursor == Cursor(2, 7)
    assert "secret" not in repr(event)
