"""Where a request ends, found piece by piece: the same place where gunicorn's parser, which reads it then, finds it."""

from __future__ import annotations

import re

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped] # gunicorn ships no types
from gunicorn.http import get_parser  # type: ignore[import-untyped] # as above
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped] # as above

from llm_mcp.web.incoming import MAX_HEAD_BYTES, MAX_LINE_BYTES, Incoming

LIMIT = 1000
NEXT = b"GET /next HTTP/1.1\r\nHost: b\r\n\r\n"
POST = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

WHOLE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\r\nGET / HTTP/1.0\r\nHost: a\r\n\r\n",
    b"DELETE /x?y=%0d%0a HTTP/1.1\r\nX-Content-Length: 9\r\nX: content-length: 9\r\n\r\n",
    POST + b"Content-Length: 0\r\n\r\n",
    POST + b"content-LENGTH:  7  \r\nX: y\r\n\r\n\r\n\r\n{} ",
    POST + b"Content-Length: 0000000005\r\n\r\nabcde",
    POST + b"Content-Length: %d\r\n\r\n" % LIMIT + b"x" * LIMIT,
    CHUNKED + b"0\r\n\r\n",
    CHUNKED + b"5;why=not\r\nab\r\nc\r\n00A \t;x\r\n0123456789\r\n0\r\n\r\n",
    CHUNKED + b"2\r\n\r\n\r\n0\r\nTrail: er\r\nAnd: more\r\n\r\n",
    POST + b"Transfer-Encoding: gzip, Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
]
BROKEN = [
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\n\n",
    POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    POST + b"Content-Length: -5\r\n\r\nabcde",
    POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    POST + b"Transfer-Encoding: riddle\r\n\r\n",
    POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    CHUNKED + b"zz\r\n",
    CHUNKED + b"-1\r\n",
    CHUNKED + b"3\r\n{}xBAD\r\n0\r\n\r\n",
    CHUNKED + b"1" * 9000,
]


def read(incoming: Incoming) -> tuple[str, bytes, bytes]:
    """Return what the parser makes of what is there: the target, the body, and what it leaves for the next."""
    parser = get_parser(Config(), incoming, ("127.0.0.1", 1))
    request = next(parser)
    body = request.body.read()
    assert parser.finish_body()
    return request.uri, body, parser.unreader.take_buffered() + incoming.rest()


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("step", [1, 2, 3, 7, 1 << 20])
def test_it_is_whole_where_the_parser_says_so_however_it_comes(whole: bytes, step: int) -> None:
    incoming = Incoming(limit_bytes=LIMIT)
    for start in range(0, len(whole) - 1, step):
        assert not incoming.ready
        incoming.feed(whole[start : min(start + step, len(whole) - 1)])
    assert (incoming.ready, incoming.whole, incoming.refusal) == (False, False, None)
    incoming.feed(whole[-1:] + NEXT)
    assert (incoming.ready, incoming.whole, incoming.refusal) == (True, True, None)
    assert incoming.size == len(whole + NEXT)
    following = Incoming(limit_bytes=LIMIT, begun=read(incoming)[2])
    assert following.whole
    assert read(following) == ("/next", b"", b"")


def test_what_is_read_is_what_was_sent() -> None:
    incoming = Incoming(limit_bytes=LIMIT, begun=WHOLE[8])
    assert read(incoming) == ("/v1/jobs", b"ab\r\nc0123456789", b"")


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_what_cannot_be_read_waits_for_no_more(broken: bytes, step: int) -> None:
    incoming = Incoming(limit_bytes=LIMIT)
    for start in range(0, len(broken), step):
        incoming.feed(broken[start : start + step])
    assert (incoming.ready, incoming.whole, incoming.refusal) == (True, False, None)
    with pytest.raises(ParseException):
        read(incoming)


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: %d\r\n\r\n" % (LIMIT + 1),
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (1 << 40) + b"x" * (LIMIT + 1025),
        b"Transfer-Encoding: chunked\r\n\r\n" + b"64\r\n%s\r\n" % (b"x" * 100) * 20 + b"19\r\n%s" % (b"x" * 25),
    ],
)
def test_what_is_too_large_waits_for_no_more(body: bytes) -> None:
    incoming = Incoming(limit_bytes=LIMIT, begun=POST + body)
    assert (incoming.ready, incoming.whole) == (True, False)
    parser = get_parser(Config(), incoming, ("127.0.0.1", 1))
    request = next(parser)
    if b"chunked" in body:
        assert len(request.body.read(LIMIT + 1)) == LIMIT + 1  # so that the application can see it


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"x" * MAX_LINE_BYTES, "414"),
        (b"x" * 1_000_000, "414"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (MAX_HEAD_BYTES // 6), "431"),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n", "431"),
        (CHUNKED + b"1\r\nx\r\n" * 900 + b"1;%s\r\nx\r\n" % (b"y" * 4000) * 20, "413"),
    ],
)
def test_limits(sent: bytes, status: str) -> None:
    incoming = Incoming(limit_bytes=LIMIT)
    for start in range(0, len(sent), 1000):
        if incoming.refusal is None:
            incoming.feed(sent[start : start + 1000])
    assert incoming.refusal is not None
    assert incoming.refusal.status.startswith(status)
    assert re.fullmatch(r"[a-z_]+", incoming.refusal.code)


def test_a_line_to_the_byte() -> None:
    line = b"GET /" + b"x" * (MAX_LINE_BYTES - len(b"GET / HTTP/1.1")) + b" HTTP/1.1"
    for end in range(len(line), len(line) + 4):
        assert Incoming(limit_bytes=LIMIT, begun=(line + b"\r\n\r\n")[:end]).refusal is None
    assert Incoming(limit_bytes=LIMIT, begun=b"x" + line + b"\r\n\r\n").refusal is not None


@pytest.mark.parametrize(
    ("head", "continues"),
    [
        (POST + b"Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n", True),
        (CHUNKED[:-2] + b"Expect: 100-continue\r\n\r\n", True),
        (POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\na", False),
        (POST + b"Expect: 100-continue\r\nContent-Length: 0\r\n\r\n", False),
        (POST + b"Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n", False),
        (POST.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", False),
        (POST + b"Content-Length: 5\r\n\r\n", False),
    ],
)
def test_who_waits_to_be_told_to_go_on(head: bytes, continues: bool) -> None:
    assert Incoming(limit_bytes=LIMIT, begun=head).continues is continues
