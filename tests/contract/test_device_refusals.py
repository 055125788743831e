"""What the embedded device says no to: in Ollama's words, and whatever is thrown at it."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from .device import Answer, Device, ask, device, sent

__all__ = ["device"]

JSON = "application/json; charset=utf-8"
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
ASK = {"model": "tiny", "prompt": "a"}
IMAGE = {"role": "user", "content": "a", "images": ["aGk="]}
LIBRARY = "registry.ollama.ai/library/tiny:latest"
LEVELS = '"high", "medium", "low", "max", true, or false'
NO_VECTORS = "This server does not support embeddings. Start it with `--embeddings`"
TOO_LONG = "the input length exceeds the context length"
BAD_FORMAT = 'invalid format: "{}"; expected "json" or a valid JSON Schema object'
RAW = "raw mode does not support template, system, or context"
STRUCT = "json: cannot unmarshal {} into Go struct field {} of type {}"

GENERATE: list[tuple[Any, int, str]] = [
    (b"", 400, "missing request body"),
    (b" \n", 400, "missing request body"),
    ({}, 404, "model '' not found"),
    ({"model": "nope"}, 404, "model 'nope' not found"),
    ({"model": "tiny\0"}, 404, "model 'tiny\0' not found"),
    ({**ASK, "model": "tiny-embed"}, 400, '"tiny-embed" does not support generate'),
    ({**ASK, "think": "high"}, 400, '"tiny" does not support thinking'),
    ({**ASK, "images": ["aGk="]}, 400, '"tiny" does not support images'),
    ({**ASK, "suffix": "b"}, 400, f"{LIBRARY} does not support insert"),
    ({**ASK, "raw": True, "system": "s"}, 400, RAW),
    ({**ASK, "template": "{{ range .Messages }}"}, 500, "template: 'range .Messages' is not supported"),
    ({**ASK, "keep_alive": "abc"}, 400, 'time: invalid duration "abc"'),
    ({**ASK, "keep_alive": "10"}, 400, 'time: missing unit in duration "10"'),
    ({**ASK, "keep_alive": "1y"}, 400, 'time: unknown unit "y" in duration "1y"'),
    ({**ASK, "keep_alive": True}, 400, "Unsupported type: 'bool'"),
    ({**ASK, "format": "xml"}, 500, BAD_FORMAT.format('\\"xml\\"')),
    ({**ASK, "format": 5}, 500, BAD_FORMAT.format("5")),
    ({**ASK, "format": {"type": "spoon"}}, 400, 'invalid JSON schema in format: unknown type "spoon"'),
    ({**ASK, "format": {"$ref": "#/nowhere"}}, 400, "invalid JSON schema in format: a $ref leads nowhere"),
    ({**ASK, "options": {"num_ctx": "big"}}, 500, 'option "num_ctx" must be of type integer'),
    ({**ASK, "options": {"temperature": True}}, 500, 'option "temperature" must be of type float32'),
    ({**ASK, "options": {"stop": "a"}}, 500, 'option "stop" must be of type array'),
    ({**ASK, "options": {"stop": [1]}}, 500, 'option "stop" must be of an array of strings'),
    # A wrong type for each field.
    ({"model": 1}, 400, STRUCT.format("number", "GenerateRequest.model", "string")),
    ({**ASK, "prompt": ["a"]}, 400, STRUCT.format("array", "GenerateRequest.prompt", "string")),
    ({**ASK, "system": {}}, 400, STRUCT.format("object", "GenerateRequest.system", "string")),
    ({**ASK, "suffix": 1.5}, 400, STRUCT.format("number", "GenerateRequest.suffix", "string")),
    ({**ASK, "template": True}, 400, STRUCT.format("bool", "GenerateRequest.template", "string")),
    ({**ASK, "stream": "yes"}, 400, STRUCT.format("string", "GenerateRequest.stream", "bool")),
    ({**ASK, "raw": 1}, 400, STRUCT.format("number", "GenerateRequest.raw", "bool")),
    ({**ASK, "truncate": 0}, 400, STRUCT.format("number", "GenerateRequest.truncate", "bool")),
    ({**ASK, "options": []}, 400, STRUCT.format("array", "GenerateRequest.options", "map[string]interface {}")),
    ({**ASK, "context": ["a"]}, 400, STRUCT.format("string", "GenerateRequest.context", "int")),
    ({**ASK, "context": [True]}, 400, STRUCT.format("bool", "GenerateRequest.context", "int")),
    ({**ASK, "images": "a"}, 400, STRUCT.format("string", "GenerateRequest.images", "[]api.ImageData")),
    # What is no JSON, or none that Go would read.
    (b"{bad", 400, "invalid character 'b' looking for beginning of object key string"),
    (b'{"model" "tiny"}', 400, "invalid character '\"' after object key"),
    (b'{"model":"tiny" "prompt":""}', 400, "invalid character '\"' after object key:value pair"),
    (b'{"model":tiny}', 400, "invalid character 't' looking for beginning of value"),
    (b'{"model":"a\nb"}', 400, "invalid character '\\n' in string literal"),
    (b'{"model":"\\x"}', 400, "invalid character 'x' in string escape code"),
    (b'{"options":{"seed":NaN}}', 400, "invalid character 'N' looking for beginning of value"),
    (b'{"options":{"seed":1e999}}', 400, "json: cannot unmarshal number 1e999 into Go value of type float64"),
    (b'{"model":"tiny"', 400, "unexpected EOF"),
    (b'{"model":"ti', 400, "unexpected EOF"),
    (b"[]", 400, "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
    (b'{"a":' * 200 + b"1" + b"}" * 200, 400, "exceeded max depth"),
    (b'{"a":' + b"[" * 100_000, 400, "exceeded max depth"),
]

OTHERS: list[tuple[str, Any, int, str]] = [
    ("/api/chat", {}, 400, "model is required"),
    ("/api/chat", {"model": "nope"}, 404, "model 'nope' not found"),
    ("/api/chat", {**CHAT, "model": "tiny-embed"}, 400, '"tiny-embed" does not support chat'),
    ("/api/chat", {**CHAT, "think": True}, 400, '"tiny" does not support thinking'),
    ("/api/chat", {**CHAT, "think": "ultra"}, 400, f'invalid think value: "ultra" (must be {LEVELS})'),
    ("/api/chat", {**CHAT, "think": 1}, 400, f"think must be a boolean or string ({LEVELS})"),
    ("/api/chat", {**CHAT, "tools": [{"type": "function"}]}, 400, f"{LIBRARY} does not support tools"),
    ("/api/chat", {"model": "tiny", "messages": [IMAGE]}, 400, '"tiny" does not support images'),
    ("/api/chat", {**CHAT, "messages": {}}, 400, STRUCT.format("object", "ChatRequest.messages", "[]api.Message")),
    ("/api/chat", {**CHAT, "messages": ["a"]}, 400, STRUCT.format("string", "ChatRequest.messages", "api.Message")),
    (
        "/api/chat",
        {**CHAT, "messages": [{"role": 1}]},
        400,
        STRUCT.format("number", "ChatRequest.messages.role", "string"),
    ),
    ("/api/show", {}, 400, "model is required"),
    ("/api/show", {"model": "nope"}, 404, "model 'nope:latest' not found"),
    ("/api/embed", {}, 404, "model '' not found"),
    ("/api/embed", {"model": "nope", "input": "a"}, 404, 'model "nope" not found, try pulling it first'),
    ("/api/embed", {"model": "tiny", "input": "a"}, 501, NO_VECTORS),
    ("/api/embed", {"model": "tiny-embed", "input": [1]}, 400, "invalid input type"),
    (
        "/api/embed",
        {"model": "tiny-embed", "dimensions": True},
        400,
        STRUCT.format("bool", "EmbedRequest.dimensions", "int"),
    ),
    ("/api/embed", {"model": "tiny-embed", "input": "a " * 3000, "truncate": False}, 400, TOO_LONG),
    ("/api/embeddings", {}, 400, "model is required"),
    ("/api/embeddings", {"model": "nope"}, 404, 'model "nope" not found, try pulling it first'),
    ("/api/embeddings", {"model": "tiny", "prompt": "a"}, 500, NO_VECTORS),
]


def _named(row: tuple[Any, ...]) -> str:
    return str(row[-1])[:48].replace("\0", "NUL")


def _refused(answer: Answer, status: int, text: str) -> None:
    assert (answer.status, answer.headers["Content-Type"], answer.error) == (status, JSON, text)


@pytest.mark.parametrize(("body", "status", "text"), GENERATE, ids=map(_named, GENERATE))
def test_generate_refuses_in_ollamas_words(device: Device, body: Any, status: int, text: str) -> None:
    _refused(ask(device, "POST", "/api/generate", body), status, text)


@pytest.mark.parametrize(("path", "body", "status", "text"), OTHERS, ids=map(_named, OTHERS))
def test_the_others_refuse_in_ollamas_words(device: Device, path: str, body: Any, status: int, text: str) -> None:
    _refused(ask(device, "POST", path, body), status, text)


def test_what_only_looks_wrong_is_answered(device: Device) -> None:
    options = {"num_predict": 1, "seed": 2**60, "top_k": -5, "repeat_last_n": -1, "temperature": -1, "unknown": 1}
    odd = {**ASK, "prompt": "a\0b", "options": {**options, "repeat_penalty": 1e300, "num_keep": 10**12}, "strange": []}
    assert ask(device, "POST", "/api/generate", odd).lines[-1]["eval_count"] == 1
    trailing = json.dumps({**ASK, "stream": False, "options": {"num_predict": 1}}).encode() + b" and more"
    assert ask(device, "POST", "/api/generate", trailing).json["done"]
    halves = b'{"model":"tiny","prompt":"\\ud800 \\uDFFF","stream":false,"system":"\xff","options":{"num_predict":1}}'
    assert ask(device, "POST", "/api/generate", halves).json["done"]
    nulls = dict.fromkeys(("system", "options", "format", "keep_alive", "think", "context", "stream"))
    assert ask(device, "POST", "/api/generate", {**ASK, **nulls, "raw": None, "options": {"num_predict": 1}}).lines


def test_a_schema_made_to_hurt_does_not(device: Device) -> None:
    huge: dict[str, Any] = {"type": "object", "properties": {f"k{n}": {"type": "string"} for n in range(9000)}}
    for schema, status in (
        (huge, 400),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, 400),
        ({"type": "array", "items": {}, "minItems": 10**9}, 400),
        ({"type": "string", "maxLength": 10**9}, 200),
        ({"type": "string", "pattern": "(" * 5000 + "a" + ")" * 5000}, 200),
    ):
        body = {**ASK, "format": schema, "stream": False, "options": {"num_predict": 4}}
        assert ask(device, "POST", "/api/generate", body).status == status


def test_a_body_that_is_too_large_is_refused_while_it_is_still_sent(device: Device) -> None:
    text = "request body too large: the limit is 16777216 bytes"
    _refused(ask(device, "POST", "/api/generate", b'{"model":"' + b"a" * 20_000_000 + b'"}'), 400, text)
    with socket.create_connection(device.address, timeout=10) as connection:
        connection.sendall(
            b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffff1\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
        while connection.recv(4096):
            pass


def test_a_body_in_chunks_is_read(device: Device) -> None:
    with socket.create_connection(device.address, timeout=10) as connection:
        head = b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        connection.sendall(head + b'9\r\n{"model":\r\n7;x=y\r\n"tiny"}\r\n0\r\nTrailer: a\r\n\r\n')
        assert connection.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n{}",
        b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1_0\r\n\r\n{}",
        b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["tls", "no path", "version", "long line", "many headers", "minus", "underscore", "chunk"],
)
def test_what_is_no_http_is_told_so_and_cut(device: Device, raw: bytes) -> None:
    with socket.create_connection(device.address, timeout=10) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505 "))
    assert b"Traceback" not in answer
    assert b"<html" not in answer.lower()
    assert ask(device, "GET", "/").status == 200


def test_pages_of_websites_are_not_served(device: Device) -> None:
    """A page may point a name of its own at this machine, or post a form across origins; neither means us."""
    port = device.address[1]
    for headers in (
        {"Host": f"evil.example:{port}"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://10.0.0.1"},
    ):
        assert ask(device, "POST", "/api/generate", ASK, **headers).status == 403
    for headers in ({"Host": "localhost"}, {"Host": "192.168.1.5:1"}, {"Origin": "http://localhost:3000"}):
        assert ask(device, "GET", "/api/tags", **headers).status == 200


def test_a_connection_carries_many_requests(device: Device) -> None:
    with sent(device, "/api/show", {"model": "nope"}) as connection:
        stream = connection.makefile("rb")
        for _ in range(3):
            assert stream.readline().startswith(b"HTTP/1.1 404 ")
            length = next(int(line[16:]) for line in stream if line.startswith(b"Content-Length: "))
            assert stream.readline() == b"\r\n"
            assert json.loads(stream.read(length)) == {"error": "model 'nope:latest' not found"}
            connection.sendall(
                b'POST /api/show HTTP/1.1\r\nHost: x.local\r\nContent-Length: 16\r\n\r\n{"model":"nope"}'
            )
