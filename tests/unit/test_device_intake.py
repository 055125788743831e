"""What comes in to the embedded device: bodies, read within bounds, and clients that hang up."""

from __future__ import annotations

import io
import socket
import threading
from email.message import Message
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp.embedded.device.call import Call, Cancelled, Watch
from llm_mcp.embedded.device.inlet import MAX_BODY_BYTES, BodyRefused, Inlet, body, has_body
from llm_mcp.ollama_words import wire
from llm_mcp.ollama_words.wire import Refusal
from tests.waiting import until

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_a_body_is_read_as_it_was_written(value: Any) -> None:
    body = {"a": value}
    assert wire.decode(wire.encode(body), "X") == body


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\ud8tnf0-1e. \n', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        read = wire.decode(raw, "X")
    except Refusal as refused:
        read = {"error": refused.text, "status": refused.status}
    assert read.get("status", 400) == 400 or "error" not in read
    # Whatever it was, it can be said again.
    assert wire.decode(wire.encode(read), "X") == read


def test_half_characters_become_the_mark_for_them() -> None:
    assert wire.decode(b'{"a":"\\ud83d\\ude00 \\ud83d"}', "X") == {"a": "😀 \ufffd"}


def incoming(raw: bytes, **headers: str) -> bytes:
    """Read a body with these headers from bytes already there."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(raw)
        theirs.shutdown(socket.SHUT_WR)
        message = Message()
        for name, value in headers.items():
            message[name.replace("_", "-")] = value
        inlet = Inlet(ours)
        return body(inlet, io.BufferedReader(inlet), message)


def test_bodies_are_read_by_length_and_in_chunks() -> None:
    assert incoming(b"abcde", Content_Length="3") == b"abc"
    assert incoming(b"", Content_Length="0") == b""
    assert incoming(b"2\r\nab\r\n1;x\r\nc\r\n0\r\nT: u\r\n\r\n", Transfer_Encoding="chunked") == b"abc"


@pytest.mark.parametrize("length", ["-1", "+1", "1_0", "x", "", "²", "9" * 30, str(MAX_BODY_BYTES + 1)])
def test_lengths_that_are_none_or_too_much_are_refused(length: str) -> None:
    with pytest.raises(BodyRefused):
        incoming(b"", Content_Length=length)


@pytest.mark.parametrize(
    "raw", [b"x\r\n", b"\r\n", b"-1\r\n", b"fffffffff\r\n", b"2\r\nabc\r\n0\r\n\r\n", b"0\r\n" + b"T: u\r\n" * 200]
)
def test_broken_chunks_are_refused(raw: bytes) -> None:
    with pytest.raises(BodyRefused):
        incoming(raw, Transfer_Encoding="chunked")


def test_a_body_that_stops_is_no_body() -> None:
    for raw, headers in ((b"ab", {"Content_Length": "3"}), (b"3\r\nab", {"Transfer_Encoding": "chunked"})):
        with pytest.raises(ConnectionAbortedError):
            incoming(raw, **headers)


def test_reading_ends_at_its_time_however_the_bytes_trickle() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        inlet = Inlet(ours)
        inlet.within(0.05)
        theirs.sendall(b"a")
        assert inlet.read(1) == b"a"
        with pytest.raises(TimeoutError):
            inlet.read(1)
        theirs.sendall(b"b")
        with pytest.raises(TimeoutError):
            inlet.read(1)


def test_a_request_says_whether_a_body_follows() -> None:
    for headers, follows in (
        ({}, False),
        ({"Content-Length": "0"}, False),
        ({"Content-Length": "5"}, True),
        ({"Transfer-Encoding": "chunked"}, True),
    ):
        message = Message()
        for name, value in headers.items():
            message[name] = value
        assert has_body(message) is follows


def test_a_call_breaks_what_it_waits_on_and_only_that() -> None:
    call, bell, late = Call(), threading.Event(), threading.Event()
    with call.breaking(late.set):
        pass
    with call.breaking(bell.set):
        call.cancel()
    assert bell.is_set()
    assert not late.is_set()
    assert call.cancelled
    with pytest.raises(Cancelled), call.breaking(late.set):
        pytest.fail("a call given up begins nothing")
    with pytest.raises(Cancelled):
        call.check()


def test_the_watch_sees_a_client_hang_up_but_not_its_next_request() -> None:
    watch = Watch()
    try:
        for sends, cancelled in ((b"", True), (b"GET", False)):
            call, other = Call(), Call()
            ours, theirs = socket.socketpair()
            quiet, far = socket.socketpair()
            with ours, theirs, quiet, far, watch.over(ours, call), watch.over(quiet, other):
                theirs.sendall(sends) if sends else theirs.close()
                if cancelled:
                    until(lambda call=call: call.cancelled)  # type: ignore[misc] # bound now, for the loop's sake
                far.close()
                until(lambda other=other: other.cancelled)  # type: ignore[misc] # as above
                assert call.cancelled is cancelled
                if sends:
                    assert ours.recv(3) == sends
    finally:
        watch.close()


def test_the_watch_ends_with_every_call() -> None:
    watch, call = Watch(), Call()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with watch.over(ours, call):
            watch.close()
            assert call.cancelled
        with pytest.raises(Cancelled), watch.over(ours, Call()):
            pytest.fail("nothing begins after the end")
