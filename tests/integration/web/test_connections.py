"""Connections: how many there may be, what is said to those there is no place for, and how requests follow on one."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from tests.integration.web.door import Door
from tests.waiting import until

OpenDoor = Callable[..., Door]

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
BODY = b'{"kind": "test.unserved"}'


def spoken(answer: bytes) -> tuple[int, str]:
    """Return status and error code of one raw answer, which must be all there is and in our shape."""
    head, _, body = answer.partition(b"\r\n\r\n")
    told = json.loads(body)
    assert set(told) >= {"error", "message"}
    assert int(re.findall(rb"\r\nContent-Length: ([0-9]+)", head)[0]) == len(body)
    assert len(re.findall(rb"\r\nX-Request-ID: [A-Za-z0-9._-]{1,128}", head)) == 1
    if b" 503 " in head[:20]:
        assert re.search(rb"\r\nRetry-After: [1-9][0-9]*(\r\n|$)", head)
    return int(head.split(b" ", 2)[1]), told["error"]


def connect(door: Door, said: bytes = b"") -> socket.socket:
    """Return a connection over which this was sent."""
    connection = socket.create_connection((door.host, door.port), timeout=20)
    connection.sendall(said)
    return connection


def hear(connection: socket.socket) -> bytes:
    """Return what comes until the server closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def answered(connection: socket.socket, request: bytes) -> bytes:
    """Return the answer to one more request on a connection that stays open."""
    connection.sendall(request)
    heard = b""
    while not heard.endswith(b"}"):
        heard += connection.recv(65536)
    return heard


# — how many —


def test_idle_connections_make_room_for_others(open_door: OpenDoor) -> None:
    door = open_door(max_streams=1, max_connections=16)  # 65: a few more than streams
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(door)) for _ in range(30)]
        kept = [stack.enter_context(connect(door)) for _ in range(35)]
        for connection in kept:
            assert answered(connection, HEALTH).startswith(b"HTTP/1.1 200 ")
        time.sleep(1.1)  # nobody is hung up on before
        for _ in range(65):
            assert answered(stack.enter_context(connect(door)), HEALTH).startswith(b"HTTP/1.1 200 ")
        for connection in (*idle, *kept):
            assert hear(connection) == b""


def test_over_the_limit_one_is_told_to_come_again(open_door: OpenDoor) -> None:
    door = open_door(max_streams=1, max_connections=16)
    began = time.monotonic()
    with ExitStack() as stack:
        halves = [stack.enter_context(connect(door, POST)) for _ in range(80)]
        over = halves[65:]
        quick = time.monotonic() - began < 0.8
        heard = [hear(connection) for connection in over]
        if quick:  # on a machine that was not, the first of them made room
            assert {spoken(answer) for answer in heard} == {(503, "too_many_connections")}
        time.sleep(1.1)
        # Whoever still sends by now makes room for who comes whole.
        for _ in range(10):
            with connect(door) as connection:
                assert answered(connection, HEALTH).startswith(b"HTTP/1.1 200 ")
        assert spoken(hear(halves[0])) == (503, "too_many_connections")
        halves[64].sendall(b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        assert halves[64].recv(65536).startswith(b"HTTP/1.1 202 ")


def test_too_much_at_once_is_refused_and_room_comes_back(open_door: OpenDoor) -> None:
    door = open_door(max_body_bytes=1024 * 1024)
    half = POST + b"Content-Length: 1048000\r\n\r\n" + b" " * 1_000_000
    with ExitStack() as stack:
        halves = [stack.enter_context(connect(door, half)) for _ in range(20)]
        assert door.call("GET", "/health")[0] == 200
        told = [spoken(hear(connection)) for connection in halves]
        assert set(told) == {(503, "server_busy"), (408, "request_timeout")}
        assert 4 <= told.count((503, "server_busy")) <= 8
    whole = b'{"kind": "test.unserved", "payload": "%s"}' % (b"x" * 1_000_000)

    def taken() -> bool:
        return door.call("POST", "/v1/jobs", whole)[0] == 202

    until(taken)
    for _ in range(30):
        assert taken()


# — one after the other —


def test_requests_sent_together_are_answered_in_turn(open_door: OpenDoor) -> None:
    door = open_door()
    post = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    last = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    together = HEALTH + post + chunked + HEALTH + chunked + last
    for step in (len(together), 1000, 50, 7):
        with connect(door) as connection:
            for start in range(0, len(together), step):
                connection.sendall(together[start : start + step])
            heard = hear(connection)
        assert re.findall(rb"HTTP/1.1 ([0-9]+) ", heard) == [b"200", b"202", b"202", b"200", b"202", b"200"]


def test_nothing_of_a_refused_body_is_taken_for_a_request(open_door: OpenDoor) -> None:
    door = open_door(max_body_bytes=1024 * 1024)
    for body in (
        b"Content-Length: 2000000\r\n\r\n" + HEALTH * 10,
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + HEALTH * 10,
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + HEALTH * 10,
    ):
        with connect(door, POST + body) as connection:
            heard = hear(connection)
        assert re.findall(rb"HTTP/1.1 ([0-9]+) ", heard) in ([b"413"], [b"400"]), body
        assert b"\r\nConnection: close\r\n" in heard


def test_a_client_is_told_to_go_on_once_and_only_when_its_body_may_come(open_door: OpenDoor) -> None:
    door = open_door(max_body_bytes=1024 * 1024)
    with connect(door, POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)) as connection:
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")
    with connect(door, POST + b"Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n") as connection:
        heard = b""
        while not heard.endswith(b"}"):
            heard += connection.recv(65536)
        assert spoken(heard) == (413, "body_too_large")


def test_an_idle_connection_is_still_there_for_a_client_that_comes_back(open_door: OpenDoor) -> None:
    door = open_door()
    with connect(door) as connection:
        assert answered(connection, HEALTH).startswith(b"HTTP/1.1 200 ")
        time.sleep(10)  # longer than a request may take to arrive
        assert answered(connection, HEALTH).startswith(b"HTTP/1.1 200 ")
