"""What JSON we let in, and that no finished answer is lost on the way out."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from llm_mcp.errors import InvalidInput, TooLarge
from llm_mcp.strictjson import MAX_DEPTH, check, dumps, dumps_lossy, loads

LIMIT = 1 << 20

_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
_numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=20,
)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@given(_json)
def test_what_is_json_passes_unchanged(value: Any) -> None:
    check(value)
    assert loads(dumps(value), limit_bytes=LIMIT) == value


@given(st.text() | st.binary())
def test_nothing_but_our_errors_comes_out(body: str | bytes) -> None:
    with suppress(InvalidInput):
        check(loads(body, limit_bytes=LIMIT))


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ('{"a": {"b": [1, 2, NaN]}}', "p.a.b[2]", "number out of range"),
        ('{"a": -Infinity}', "p.a", "number out of range"),
        ('{"a": [0, 1e999]}', "p.a[1]", "number out of range"),
        ('{"a": 1e131071}', "p.a", "number out of range"),
        ('{"a": 9223372036854775808}', "p.a", "beyond 64 bits"),
        ('{"a": -9223372036854775809}', "p.a", "beyond 64 bits"),
        ('{"a": ' + "9" * 5000 + "}", "p.a", "beyond 64 bits"),
        (r'{"a": ["x", "\u0000"]}', "p.a[1]", "U+0000"),
        (r'{"a": {"\u0000": 1}}', "p.a", "U+0000"),
        (r'{"a": "\ud800"}', "p.a", "half a character"),
        (r'{"\udfff": 1}', "p", "half a character"),
        ('{"b": ' + nested(MAX_DEPTH) + "}", "p.b" + "[0]" * (MAX_DEPTH - 1), "nested deeper than 64"),
        ("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH, "p" + "[0]" * MAX_DEPTH, "nested deeper than 64"),
        (nested(100_000), "p", "nested deeper than 64"),
        ("", "p", "not JSON"),
        ("{", "p", "not JSON"),
        ("[1,]", "p", "not JSON"),
        ("1 2", "p", "text after the JSON value"),
    ],
)
def test_refusals_name_the_offender(text: str, field: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says.replace("+", r"\+")) as caught:
        loads(text, limit_bytes=LIMIT, root="p")
    assert caught.value.field == field
    assert caught.value.code == "invalid_json"


def test_the_edges_are_let_in() -> None:
    for text in ("9223372036854775807", "-9223372036854775808", "1.7e308", "1e-400", '"\\ud83d\\ude00"', " \r\n\t1 "):
        loads(text, limit_bytes=LIMIT)
    loads(nested(MAX_DEPTH), limit_bytes=LIMIT)


def test_first_offender_is_named_in_the_order_of_the_text() -> None:
    with pytest.raises(InvalidInput) as caught:
        loads('{"a": {"deep": NaN}, "b": NaN}', limit_bytes=LIMIT)
    assert caught.value.field == "a.deep"


def test_errors_point_into_the_text_as_it_was_sent() -> None:
    with pytest.raises(InvalidInput, match="line 3 column 2"):
        loads("\n\n x", limit_bytes=LIMIT)


def test_bytes_may_have_a_mark_and_must_be_utf_8() -> None:
    assert loads(b"\xef\xbb\xbf[1]", limit_bytes=LIMIT) == [1]
    with pytest.raises(InvalidInput, match="not UTF-8"):
        loads(b'"\xff"', limit_bytes=LIMIT)


def test_limit_counts_bytes_and_is_itself_allowed() -> None:
    assert loads('"é"', limit_bytes=4) == "é"
    with pytest.raises(TooLarge, match="4 bytes; the limit is 3") as caught:
        loads('"é"', limit_bytes=3, root="body")
    assert (caught.value.code, caught.value.field) == ("body_too_large", "body")


def test_trailing_text_is_ignored_on_request_only() -> None:
    assert loads('{"a": 1} and more', limit_bytes=LIMIT, trailing=True) == {"a": 1}


def test_a_path_that_is_an_attack_is_cut_and_made_printable() -> None:
    with pytest.raises(InvalidInput) as caught:
        loads(json.dumps({"ключ" + "x" * 10_000: float("nan")}), limit_bytes=LIMIT)
    assert len(caught.value.field) <= 201
    assert caught.value.field.startswith(r"\u043a")


def test_python_values_that_are_not_json_are_refused() -> None:
    for value, says in (
        ({1: "x"}, "object keys must be text"),
        ({"a": b"x"}, "bytes is not JSON"),
        ({"a": {1, 2}}, "set is not JSON"),
        ([datetime.now(UTC)], "datetime is not JSON"),
    ):
        with pytest.raises(InvalidInput, match=says):
            check(value)


def test_a_number_of_some_library_is_refused_when_written() -> None:
    class Odd(float):
        pass

    check(Odd(1.0))
    with pytest.raises(InvalidInput):
        dumps(Odd(1.0))


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    note: str


class Answer(BaseModel):
    text: str
    score: float


class Rude:
    def __str__(self) -> str:
        raise ZeroDivisionError


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**64, 2**70)
    | st.floats()
    | st.text(st.characters())
    | st.just("\ud83d")
    | st.just("a\x00b")
    | st.binary(max_size=5)
    | st.builds(Decimal, st.integers())
    | st.just(Colour.RED)
    | st.builds(Rude)
    | st.builds(Answer, text=st.sampled_from(["ok", "\x00", "\ud800"]), score=st.floats()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.none() | st.booleans(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(_anything)
def test_whatever_an_actor_returns_becomes_json_that_we_would_let_in(value: Any) -> None:
    loads(dumps_lossy(value), limit_bytes=LIMIT)


@given(_json)
def test_what_is_json_already_loses_nothing(value: Any) -> None:
    assert json.loads(dumps_lossy(value)) == value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"t": "a\x00b"}, {"t": "a\ufffdb"}),
        ({"t": "back\\u0000slash"}, {"t": "back\\u0000slash"}),
        ({"t": "x\ud800"}, {"t": "x\ufffd"}),
        ({"t": "\ud83d" + "\ude00"}, {"t": "😀"}),
        ([math.nan, math.inf], [None, None]),
        ([2**64], ["18446744073709551616"]),
        ({1: "a", None: "b", False: "c"}, {"1": "a", "null": "b", "false": "c"}),
        ({(1, 2): "a", 2**70: "b", True: "c"}, {"(1, 2)": "a", str(2**70): "b", "true": "c"}),
        ([Colour.RED, Point(1, "n")], ["red", {"x": 1, "note": "n"}]),
        ([Answer(text="hi", score=0.5)], [{"text": "hi", "score": 0.5}]),
        ([{"s": {7}}, Rude(), "\ud800"], [{"s": [7]}, "<Rude>", "\ufffd"]),
        ([10**5000], [hex(10**5000)]),
        (None, None),
    ],
)
def test_what_is_not_json_is_stored_as_its_nearest_form(value: Any, stored: Any) -> None:
    assert json.loads(dumps_lossy(value)) == stored


def test_deep_and_circular_values_are_cut_not_lost() -> None:
    deep: list[Any] = ["bottom"]
    for _ in range(150):
        deep = [deep]
    assert "bottom" in dumps_lossy(deep)
    for _ in range(1000):
        deep = [deep, "here"]
    assert dumps_lossy(deep).count("here") == 200
    ring: dict[str, Any] = {"text": "answer"}
    ring["self"] = ring
    assert json.loads(dumps_lossy(ring)) == {"text": "answer", "self": "…"}
