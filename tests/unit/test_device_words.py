"""The words of the embedded device: durations, options, templates, and grammars for formats."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp.embedded.device import gotemplate, grammar, options
from llm_mcp.ollama_words.duration import keep_alive, seconds
from llm_mcp.ollama_words.wire import Refusal

T = TypeVar("T")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


SCHEMA = st.recursive(
    st.sampled_from([True, {}, {"type": "string", "maxLength": 3}, {"type": "integer", "minimum": 0}, {"$ref": "#"}]),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", "null", "number", ["boolean", "null"], "spoon", []]),
            "properties": st.dictionaries(st.text(max_size=3), inner, max_size=3),
            "required": st.lists(st.text(max_size=3), max_size=2),
            "additionalProperties": inner | st.just(False),
            "items": inner,
            "prefixItems": st.lists(inner, max_size=2),
            "minItems": st.integers(-1, 3),
            "maxItems": st.integers(-1, 3),
            "anyOf": st.lists(inner, max_size=2),
            "allOf": st.lists(inner, max_size=2),
            "enum": st.lists(JSON, max_size=2),
            "$ref": st.sampled_from(["#", "#/properties/a", "#/items", "x"]),
        },
    ),
    max_leaves=6,
)


def outcome(act: Callable[[], T]) -> T | Refusal:
    """Return what `act` returns, or the refusal it raises."""
    try:
        return act()
    except Refusal as refused:
        return refused


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("10m", 600),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("-1s", -1),
        ("0", 0),
        ("+.5h", 1800),
        ("3us", 3e-6),
    ],
)
def test_durations_are_gos(text: str, length: float) -> None:
    assert seconds(text) == pytest.approx(length)


@pytest.mark.parametrize("text", ["", "-", "abc", "5", "5x", "1h x", "1e3s", "ms", "9" * 30 + "h", "١s", "1s "])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        seconds(text)
    assert refused.value.status == 400
    assert refused.value.text.startswith("time: ")


def test_keep_alive_takes_seconds_durations_and_for_ever() -> None:
    wishes: list[Any] = [None, 0, 5, 1.5, "5m", -1, "-1m"]
    assert [keep_alive(wish) for wish in wishes] == [None, 0, 5, 1.5, 300, math.inf, math.inf]
    wrong: list[Any] = [True, [], {}]
    for wish in wrong:
        with pytest.raises(Refusal, match="Unsupported type"):
            keep_alive(wish)


def test_options_have_ollamas_defaults_and_llamas_names() -> None:
    plain = options.read({})
    assert (plain.num_ctx, plain.num_predict, plain.num_keep, plain.stop) == (None, None, 4, [])
    assert plain.sampling["seed"] == 0xFFFFFFFF
    assert (plain.sampling["temperature"], plain.sampling["top_p"], plain.sampling["n_keep"]) == (0.8, 0.9, 4)
    read = options.read({"num_ctx": 512.7, "num_predict": -1, "stop": ["", "a"], "seed": -5, "repeat_last_n": -1})
    assert (read.num_ctx, read.num_predict, read.stop) == (512, None, ["a"])
    assert read.sampling["seed"] == 2**32 - 5
    assert read.sampling["repeat_last_n"] == 65536


@given(st.dictionaries(st.sampled_from([*options._SAMPLING, "num_ctx", "num_predict", "stop"]), JSON))
def test_any_options_are_read_or_refused_in_words(table: dict[str, Any]) -> None:
    read = outcome(lambda: options.read(table))
    if isinstance(read, Refusal):
        assert read.status == 500
        assert read.text.startswith("option ")
    else:
        # What goes on to a reader of 32-bit numbers fits into them.
        assert all(-(2**31) <= number < 2**32 for number in read.sampling.values() if isinstance(number, int))
        assert read.limit(2048, None) <= 20480
        assert read.limit(2048, 5) <= 5


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ .System }}|{{ .Prompt }}", "sys|ask"),
        ("{{ if .System }}S:{{ .System }}{{ end }}{{ if .Nothing }}N{{ else }}-{{ end }}", "S:sys-"),
        ("{{ if .System }}{{ if .Nothing }}a{{ else }}b{{ end }}c{{ else }}d{{ end }}", "bc"),
        ("{{ if .Nothing }}{{ if .System }}a{{ else }}b{{ end }}c{{ else }}d{{ end }}", "d"),
        ("a  {{- .Prompt -}}  b", "aaskb"),
        ("{{/* nothing */}}{{.Prompt}}", "ask"),
        ("no { braces } }}", "no { braces } }}"),
    ],
)
def test_a_template_is_filled_in(template: str, text: str) -> None:
    assert gotemplate.rendered(template, {"System": "sys", "Prompt": "ask"}) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ range .Messages }}{{ end }}",
        "{{ if .A }}",
        "{{ end }}",
        "{{ else }}",
        "{{ .a }}",
        "{{ .A | printf }}",
        "{{ .A",
        "{{ if .A }}" * 200,
    ],
)
def test_a_template_beyond_us_is_refused(template: str) -> None:
    with pytest.raises(Refusal) as refused:
        gotemplate.rendered(template, {})
    assert refused.value.status == 500


@given(st.text(alphabet="{}-. \nabAif/*end", max_size=60))
def test_any_template_is_filled_in_or_refused(template: str) -> None:
    filled = outcome(lambda: gotemplate.rendered(template, {"A": "x"}))
    assert isinstance(filled, str) or filled.text.startswith("template: ")


def test_no_format_is_no_grammar() -> None:
    assert grammar.of(None) is None
    assert grammar.of("") is None


@given(JSON | SCHEMA)
def test_any_format_gives_a_grammar_or_a_refusal(schema: Any) -> None:
    rules = outcome(lambda: grammar.of(schema))
    if isinstance(rules, Refusal):
        assert rules.status == (400 if isinstance(schema, dict) else 500)
    elif rules is not None:
        assert rules.startswith("root ::= ")
        named = re.findall(r"^(\w+) ::=", rules, re.MULTILINE)
        assert len(set(named)) == len(named)
        assert set(re.findall(r"\br\d+\b", re.sub(r'"(?:[^"\\]|\\.)*"', "", rules))) <= set(named)
