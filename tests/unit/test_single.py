"""When an answer over HTTP is one message, and when it stays the stream it was opened as."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from llm_mcp.mcp_bridge.single import Single

_HEAD: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8"), (b"mcp-session-id", b"s")],
}
_ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"text":"\\n"}}'
_ERROR = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}'
_NOTICE = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{}}'
_END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


def _event(text: bytes) -> Message:
    return {"type": "http.response.body", "body": b"event: message\r\ndata: " + text + b"\r\n\r\n", "more_body": True}


def _sent(says: Sequence[Message], method: str = "POST", path: str = "/mcp") -> list[Message]:
    """Return what goes out when the application says this."""
    out: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in says:
            await send(message)

    async def receive() -> Message:
        raise AssertionError("it needs to hear nothing")

    async def send(message: Message) -> None:
        out.append(message)

    scope: dict[str, Any] = {"type": "http", "method": method, "path": path}
    asyncio.run(Single(app, "/mcp")(scope, receive, send))
    return out


@pytest.mark.parametrize("text", [_ANSWER, _ERROR])
def test_an_answer_that_comes_first_is_the_whole_answer(text: bytes) -> None:
    head, body = _sent([_HEAD, _event(text), _END])
    assert (head["status"], body) == (200, {"type": "http.response.body", "body": text})
    assert dict(head["headers"]) == {
        b"content-type": b"application/json",
        b"content-length": str(len(text)).encode(),
        b"mcp-session-id": b"s",
    }


@pytest.mark.parametrize(
    "first",
    [
        _event(_NOTICE),
        {"type": "http.response.body", "body": b": ping\r\n\r\n", "more_body": True},
        {"type": "http.response.body", "body": b"id: 1\r\ndata: \r\n\r\n", "more_body": True},
        {"type": "http.response.body", "body": b"id: 1\r\nevent: message\r\ndata: " + _ANSWER + b"\r\n\r\n"},
        {"type": "http.response.body", "body": b"event: message\r\ndata: {\r\ndata: }\r\n\r\n", "more_body": True},
        _event(_ANSWER.replace(b"\\n", b"\\ud83d")),
        _END,
    ],
    ids=["notice", "ping", "opening", "numbered", "lines", "half", "nothing"],
)
def test_whatever_else_comes_first_opens_the_stream(first: Message) -> None:
    says = [_HEAD, first, _event(_ANSWER), _END]
    assert _sent(says) == says


@pytest.mark.parametrize(("method", "path"), [("GET", "/mcp"), ("POST", "/submit")])
def test_other_streams_are_left_alone(method: str, path: str) -> None:
    says = [_HEAD, _event(_ANSWER), _END]
    assert _sent(says, method, path) == says


def test_what_is_no_stream_is_left_alone() -> None:
    says: list[Message] = [
        {"type": "http.response.start", "status": 202, "headers": []},
        {"type": "http.response.body", "body": _event(_ANSWER)["body"]},
    ]
    assert _sent(says) == says


def test_an_error_takes_the_place_of_a_stream_that_did_not_begin() -> None:
    says: list[Message] = [
        {"type": "http.response.start", "status": 500, "headers": [(b"content-type", b"application/json")]},
        {"type": "http.response.body", "body": _ERROR},
    ]
    assert _sent([_HEAD, *says]) == says


def test_a_stream_that_is_cut_before_its_first_event_has_a_head() -> None:
    assert _sent([_HEAD]) == [_HEAD]
