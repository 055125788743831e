"""Bad input: a code, the field's name, and never half a job."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from llm_mcp.config import Settings
from tests.integration.web.client import Client
from tests.integration.web.door import Door
from tests.integration.web.test_submit import post


def refuse(client: Client, count: Callable[[], int], body: Any, *, code: str, field: str, status: int = 400) -> None:
    """Submit what must be refused with this code and field, and leave no row."""
    before = count()
    answer = post(client, body)
    assert answer.status_code == status, answer.json
    assert answer.content_type == "application/json"
    assert answer.json["error"] == code
    assert answer.json["field"] == field
    assert answer.json["message"]
    assert count() == before


@pytest.mark.parametrize(
    "body",
    [b"", b" \r\n\t", b"{", b'{"kind": "echo"', b"}", b"kind=echo", b"'x'", b'{"kind": "echo",}', b'{"kind" "echo"}'],
)
def test_no_json(client: Client, count: Callable[[], int], body: bytes) -> None:
    refuse(client, count, body, code="invalid_json", field="body")


@pytest.mark.parametrize("body", [b"[]", b'"echo"', b"1", b"true", b"[null]"])
def test_no_object(client: Client, count: Callable[[], int], body: bytes) -> None:
    refuse(client, count, body, code="invalid_json", field="body")


@pytest.mark.parametrize("body", [b"null", b"{}", b'{"kind": ""}', b'{"kind": null}', b'{"kind": " \\t\\n "}'])
def test_no_kind(client: Client, count: Callable[[], int], body: bytes) -> None:
    refuse(client, count, body, code="kind_required", field="kind")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        *[(1, "invalid_json"), (["echo"], "invalid_json"), ({}, "invalid_json"), (False, "invalid_json")],
        *[
            ("k" * 201, "invalid_kind"),
            ("a\nb", "invalid_kind"),
            ("a\x7fb", "invalid_kind"),
            ("\u200b", "invalid_kind"),
        ],
    ],
)
def test_no_such_kind_of_kind(client: Client, count: Callable[[], int], kind: Any, code: str) -> None:
    refuse(client, count, {"kind": kind}, code=code, field="kind")


@pytest.mark.parametrize("field", ["priority", "max_attempts"])
@pytest.mark.parametrize(
    ("number", "code"),
    [("2147483648", "invalid_input"), ("-2147483649", "invalid_input"), ("9223372036854775807", "invalid_input")]
    + [(text, "invalid_json") for text in ("9223372036854775808", "1.5", "1.0", "1e3", '"1"', "true", "[]", "{}")],
)
def test_integers(client: Client, count: Callable[[], int], field: str, number: str, code: str) -> None:
    refuse(client, count, f'{{"kind": "echo", "{field}": {number}}}', code=code, field=field)


@pytest.mark.parametrize(
    ("number", "code"),
    [("-1", "invalid_input"), ("1e300", "invalid_input"), ('"1"', "invalid_json"), ("true", "invalid_json")],
)
def test_delays(client: Client, count: Callable[[], int], number: str, code: str) -> None:
    refuse(client, count, f'{{"kind": "echo", "delay_s": {number}}}', code=code, field="delay_s")


@pytest.mark.parametrize(
    ("source", "code"),
    [(1, "invalid_json"), ([], "invalid_json"), ("s" * 201, "invalid_input"), ("a\nb", "invalid_input")],
)
def test_sources(client: Client, count: Callable[[], int], source: Any, code: str) -> None:
    refuse(client, count, {"kind": "echo", "source": source}, code=code, field="source")


@pytest.mark.parametrize(
    "deadline",
    [
        "soon",
        "infinity",
        "-infinity",
        "now",
        "2026-11-22",
        "2026-11-22 07:00:31Z",
        "2026-11-22T07:00:31",
        "2026-11-22t07:00:31z",
        "2026-11-22T07:00Z",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T07:00:60Z",
        "2026-11-22T07:00:31+24:00",
        "2026-11-22T07:00:31.Z",
        "2026-11-22T07:00:31.1234567890Z",
        "2026-11-22T07:00:31Z ",
        "２０２６-11-22T07:00:31Z",
        "0001-01-01T00:00:00+14:00",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:59Z",
        "10000-01-01T00:00:00Z",
        "2226-01-01T00:00:00Z",
        "1795646400",
    ],
)
def test_deadlines(client: Client, count: Callable[[], int], deadline: str) -> None:
    refuse(client, count, {"kind": "echo", "deadline_at": deadline}, code="invalid_deadline_at", field="deadline_at")


@pytest.mark.parametrize("deadline", [1795646400, 1.5, True, [], {}])
def test_deadlines_that_are_no_text(client: Client, count: Callable[[], int], deadline: Any) -> None:
    refuse(client, count, {"kind": "echo", "deadline_at": deadline}, code="invalid_json", field="deadline_at")


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ('"\\u0000"', "payload"),
        ('{"a": ["x", {"b": "y\\u0000"}]}', "payload.a[1].b"),
        ('{"a": "\\ud800"}', "payload.a"),
        ('{"a": "\\udc00\\ud800"}', "payload.a"),
        ('{"a": {"\\ud800": 1}}', "payload.a"),
        ('{"a": {"\\u0000": 1}}', "payload.a"),
        ("NaN", "payload"),
        ('{"n": [0, Infinity]}', "payload.n[1]"),
        ('{"n": -Infinity}', "payload.n"),
        ('{"n": 1e400}', "payload.n"),
        ('{"n": -1e400}', "payload.n"),
        ('{"n": 1e131071}', "payload.n"),
        ('{"n": 18446744073709551616}', "payload.n"),
        (f'{{"n": {"9" * 5000}}}', "payload.n"),
    ],
)
def test_values_that_would_poison_a_row(client: Client, count: Callable[[], int], payload: str, field: str) -> None:
    refuse(client, count, f'{{"kind": "echo", "payload": {payload}}}', code="invalid_json", field=field)


@pytest.mark.parametrize("bad", ["\\u0000", "\\ud800"])
@pytest.mark.parametrize("field", ["kind", "source"])
def test_texts_that_would_poison_a_row(client: Client, count: Callable[[], int], field: str, bad: str) -> None:
    refuse(client, count, f'{{"kind": "echo", "{field}": "a{bad}"}}', code="invalid_json", field=field)


@pytest.mark.parametrize("raw", [b'{"kind": "\xff"}', b'{"kind": "\xed\xa0\x80"}', '{"kind": "echo"}'.encode("utf-16")])
def test_other_encodings(client: Client, count: Callable[[], int], raw: bytes) -> None:
    refuse(client, count, raw, code="invalid_json", field="body")


def test_a_compressed_body(client: Client, count: Callable[[], int]) -> None:
    before = count()
    packed = gzip.compress(b'{"kind": "echo"}')
    answer = client.post("/v1/jobs", data=packed, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json["error"], answer.json["field"]) == (400, "invalid_json", "body")
    assert count() == before


@pytest.mark.parametrize("depth", [65, 10_000, 200_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting(client: Client, count: Callable[[], int], depth: int, opening: str, closing: str) -> None:
    before = count()
    answer = post(client, f'{{"kind": "echo", "payload": {opening * depth}1{closing * depth}}}')
    assert (answer.status_code, answer.json["error"]) == (400, "invalid_json")
    assert answer.json["field"] == "body" or answer.json["field"].startswith("payload")
    assert count() == before


CHAT_KINDS = ["ollama.chat", "openai.chat", "openrouter.chat"]
EMBED_KINDS = ["ollama.embed", "openai.embed"]
GENERATE = [
    ({"prompt": 1}, "payload.prompt"),
    ({"prompt": ["hi"]}, "payload.prompt"),
    ({"prompt": "hi", "model": 5}, "payload.model"),
    ({"prompt": "hi", "system": {}}, "payload.system"),
    ({"prompt": "hi", "options": []}, "payload.options"),
    ({"prompt": "hi", "images": "one"}, "payload.images"),
    ({"prompt": "hi", "images": [1]}, "payload.images.0"),
    ({"prompt": "hi", "temperature": "0.7"}, "payload.temperature"),
    ({"prompt": "hi", "temperature": True}, "payload.temperature"),
    ({"prompt": "hi", "max_tokens": 1.5}, "payload.max_tokens"),
    ({"prompt": "hi", "thinking": "yes"}, "payload.thinking"),
]
CHAT = [
    ({}, "payload"),
    ({"messages": []}, "payload"),
    ({"messages": "hi"}, "payload.messages"),
    ({"messages": {"role": "user"}}, "payload.messages"),
    ({"messages": ["hi"]}, "payload.messages.0"),
    ({"messages": [{"content": "hi"}]}, "payload.messages.0.role"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": 1, "content": "b"}]}, "payload.messages.1.role"),
    ({"prompt": 1}, "payload.prompt"),
    ({"prompt": "hi", "temperature": []}, "payload.temperature"),
    ({"prompt": "hi", "max_tokens": "9"}, "payload.max_tokens"),
]
EMBED = [
    ({}, "payload"),
    ({"prompt": 1}, "payload.prompt"),
    ({"prompt": ["a"]}, "payload.prompt"),
    ({"prompt": "a", "dimensions": 1.5}, "payload.dimensions"),
]


@pytest.mark.parametrize(
    ("kind", "payload", "field"),
    [("ollama.generate", *case) for case in GENERATE]
    + [(kind, *case) for kind in CHAT_KINDS for case in CHAT]
    + [(kind, *case) for kind in EMBED_KINDS for case in EMBED],
)
def test_payloads_of_shipped_kinds(
    client: Client, count: Callable[[], int], kind: str, payload: Any, field: str
) -> None:
    refuse(client, count, {"kind": kind, "payload": payload}, code="invalid_payload", field=field)


@pytest.mark.parametrize("kind", ["ollama.generate", *CHAT_KINDS, *EMBED_KINDS])
@pytest.mark.parametrize("payload", [None, "text", 1, True, ["a"]])
def test_payloads_of_shipped_kinds_are_objects(
    client: Client, count: Callable[[], int], kind: str, payload: Any
) -> None:
    refuse(client, count, {"kind": kind, "payload": payload}, code="invalid_payload", field="payload")


@pytest.mark.parametrize(
    ("kind", "payload", "field"),
    [
        *((kind, {"messages": [{"role": "user", "content": 5}]}, "payload.messages.0.content") for kind in CHAT_KINDS),
        *((kind, {"input": 5}, "payload.input") for kind in EMBED_KINDS),
        *((kind, {"input": [1]}, "payload.input") for kind in EMBED_KINDS),
        *((kind, {"input": {}}, "payload.input") for kind in EMBED_KINDS),
    ],
)
def test_fields_of_several_types_are_named_too(
    client: Client, count: Callable[[], int], kind: str, payload: Any, field: str
) -> None:
    before = count()
    answer = post(client, {"kind": kind, "payload": payload})
    assert (answer.status_code, answer.json["error"]) == (400, "invalid_payload")
    assert answer.json["field"].startswith(field)
    assert count() == before


# — sizes: over real sockets, for that is where they hurt —


@pytest.fixture
def small_door(open_door: Callable[..., Door]) -> Door:
    """A server that takes bodies of up to 1 MiB."""
    return open_door(max_body_bytes=2**20)


CHUNKED = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(body: bytes) -> bytes:
    """Return a whole chunked request."""
    pieces = (body[i : i + 65536] for i in range(0, len(body), 65536))
    return CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def sized(body: bytes) -> bytes:
    """Return a whole request with a Content-Length."""
    return b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize("frame", [sized, chunked])
def test_twenty_megabytes(door: Door, count: Callable[[], int], frame: Callable[[bytes], bytes]) -> None:
    before = count()
    body = b'{"kind": "echo", "payload": "%s"}' % (b"x" * 20_000_000)
    for _ in range(2):
        status, _, answer = door.exchange(frame(body))
        told = json.loads(answer)
        assert (status, told["error"], told["field"]) == (413, "body_too_large", "body")
    assert door.call("GET", "/health")[0] == 200
    assert count() == before


@pytest.mark.parametrize("frame", [sized, chunked])
def test_the_limit_to_the_byte(small_door: Door, count: Callable[[], int], frame: Callable[[bytes], bytes]) -> None:
    before = count()
    frill = len(b'{"kind": "echo", "payload": ""}')
    fits = b'{"kind": "echo", "payload": "%s"}' % (b"x" * (2**20 - frill))
    assert small_door.exchange(frame(fits + b" "))[0] == 413
    assert count() == before
    assert small_door.exchange(frame(fits))[0] == 202
    assert count() == before + 1


def test_the_same_limit_without_a_server(client: Client, settings: Settings, count: Callable[[], int]) -> None:
    body = b'{"kind": "echo", "payload": "%s"}' % (b"x" * settings.max_body_bytes)
    refuse(client, count, body, code="body_too_large", field="body", status=413)


# — below HTTP's own rules —


@pytest.mark.parametrize(
    "request_bytes",
    [
        CHUNKED + b"zz\r\n",
        CHUNKED + b"3\r\n{}xBAD\r\n0\r\n\r\n",
        CHUNKED + b'10\r\n{"kind": "echo"}\r\n0\r\nbad trailer\r\n\r\n',
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0",
        b"POST /v1/jobs HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nBad Header: x\r\n\r\n",
    ],
)
def test_broken_http_is_a_400_in_our_shape(door: Door, count: Callable[[], int], request_bytes: bytes) -> None:
    before = count()
    status, headers, body = door.exchange(request_bytes)
    assert (status, headers["content-type"]) == (400, "application/json")
    assert json.loads(body)["error"] == "bad_request"
    assert count() == before


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "uri_too_long"),
        (b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431, "headers_too_large"),
        (b"GET /health HTTP/1.1\r\nA: " + b"b" * 9000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET /health HTTP/1.1\r\nExpect: the-moon\r\n\r\n", 417, "expectation_failed"),
        (b"POST /health HTTP/1.1\r\nTransfer-Encoding: riddle\r\n\r\n", 501, "unsupported_transfer_coding"),
    ],
)
def test_what_http_has_words_for(door: Door, request_bytes: bytes, status: int, code: str) -> None:
    found, headers, body = door.exchange(request_bytes)
    assert (found, headers["content-type"], json.loads(body)["error"]) == (status, "application/json", code)


def test_a_body_that_breaks_off_leaves_nothing(door: Door, count: Callable[[], int]) -> None:
    before = count()
    with socket.create_connection((door.host, door.port)) as connection:
        connection.sendall(
            b'POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{"kind": "echo", "pay'
        )
        connection.shutdown(socket.SHUT_WR)
        assert b" 400 " in connection.recv(65536)
    assert count() == before
