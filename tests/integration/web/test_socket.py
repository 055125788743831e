"""`GET /v1/jobs/{id}/ws`: the stream's twin, by which a client can cancel too."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.web.door import Door
from tests.integration.web.frames import Frame, text
from tests.integration.web.played import Player
from tests.integration.web.sockets import CLOSE, PING, PONG, TEXT, Refused, Socket
from tests.integration.web.test_stream import EVENTS
from tests.waiting import until

OpenDoor = Callable[..., Door]


def opened(door: Door, job_id: str, after: str = "", **options: Any) -> Socket:
    """Open the WebSocket of a job."""
    query = f"?starting_after={after}" if after else ""
    return Socket((door.host, door.port), f"/v1/jobs/{job_id}/ws{query}", **options)


def free(door: Door, job_id: str) -> bool:
    """Say whether there is a place for another one now."""
    try:
        opened(door, job_id).close()
    except Refused as refused:
        if refused.status != 503:
            raise
        return False
    return True


# — what is told —


def test_it_tells_what_the_stream_tells(door: Door, player: Player, kind: str) -> None:
    job_id = door.submit(kind)
    with opened(door, job_id, headers={"X-Request-ID": "mine"}) as ws, door.watch(job_id) as watch:
        frames = ws.frames()
        told, streamed = [next(frames)], [watch.next()]
        assert told[0].data["status"] == "queued"
        attempt = player.claim(job_id, kind)
        for event in EVENTS:
            attempt.add(event)
        attempt.done({"response": "x"})
        told += list(frames)
        streamed += watch.rest()
        assert told == streamed
        assert [frame.event for frame in told[-2:]] == ["status", "end"]
        assert ws.code == 1000
        assert ws.raw.recv(1) == b""


def test_the_rest_after_an_event(door: Door, player: Player, kind: str) -> None:
    job_id = door.submit(kind)
    attempt = player.claim(job_id, kind)
    attempt.add(*EVENTS)
    attempt.done({})
    for cut in (0, 1, len(EVENTS) - 1, len(EVENTS)):
        with opened(door, job_id, f"1:{cut}") as ws:
            told = list(ws.frames())
        assert [(frame.event, frame.data) for frame in told[:-2]] == EVENTS[cut:]
        assert [frame.id for frame in told[:-2]] == [f"1:{n}" for n in range(cut + 1, len(EVENTS) + 1)]


def test_an_unknown_job_is_one_error(door: Door) -> None:
    with opened(door, str(uuid4())) as ws:
        [frame] = ws.frames()
        assert (frame.event, frame.data["error"]) == ("error", "not_found")
        assert ws.code == 1011


# — what the client says —


@pytest.mark.parametrize("running", [False, True])
def test_a_client_can_cancel(door: Door, player: Player, kind: str, running: bool) -> None:
    job_id = door.submit(kind)
    if running:
        player.claim(job_id, kind).say("half")
    with opened(door, job_id) as ws:
        frames = ws.frames()
        next(frames)
        ws.say({"type": "cancel"})
        *_, status, end = frames
        assert (status.event, status.data["reason"]) == ("status", "cancelled")
        assert end == Frame("end", "", {"status": "error"})


@pytest.mark.parametrize(
    ("message", "code", "field"),
    [
        ("", "invalid_json", None),
        ("nonsense", "invalid_json", None),
        ("[]", "invalid_message", None),
        ("null", "invalid_message", None),
        ("{}", "invalid_message", "type"),
        ({"type": "CANCEL"}, "invalid_message", "type"),
        ({"type": ["cancel"]}, "invalid_message", "type"),
        ("[" * 3000, "invalid_json", None),
        ('{"type": "cancel"}{', "invalid_json", None),
    ],
)
def test_anything_else_is_an_error_and_nothing_comes_of_it(
    door: Door, player: Player, kind: str, message: Any, code: str, field: str | None
) -> None:
    job_id = door.submit(kind)
    attempt = player.claim(job_id, kind)
    with opened(door, job_id) as ws:
        frames = ws.frames()
        assert next(frames).data["status"] == "running"
        ws.say(message)
        error = next(frames)
        assert (error.event, error.id, error.data["error"], error.data.get("field")) == ("error", "", code, field)
        attempt.say("on")
        assert next(frames).data == {"text": "on"}
    assert door.call("GET", f"/v1/jobs/{job_id}")[1]["status"] == "running"


def test_a_message_in_pieces_and_in_bytes_is_one_too(door: Door, kind: str) -> None:
    with opened(door, door.submit(kind)) as ws:
        frames = ws.frames()
        next(frames)
        ws.send(2, b'{"type": ', final=False)
        ws.send(PING, b"between")
        ws.send(0, b'"cancel"}')
        assert [frame.event for frame in frames][-2:] == ["status", "end"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_message_has_its_bounds(door: Door, kind: str, whole: bool) -> None:
    with opened(door, door.submit(kind)) as ws:
        frames = ws.frames()
        next(frames)
        if whole:
            ws.say("x" * 5000)
        else:
            for _ in range(6):
                ws.send(TEXT if _ == 0 else 0, b"x" * 1000, final=False)
        with suppress(EOFError, ConnectionError):
            assert [frame.event for frame in frames if frame.event != "queue"] == []
            assert ws.code == 1009


def test_more_messages_than_anybody_reads_end_it(open_door: OpenDoor, player: Player, kind: str) -> None:
    """The client floods us and does not read, so that we are busy writing: what it said is not kept without bound."""
    door = open_door(max_streams=1)
    job_id = door.submit(kind)
    attempt = player.claim(job_id, kind)
    for _ in range(12):
        attempt.say(*("x" * 100_000 for _ in range(10)))
    message = b"{}" + b" " * 2000
    frame = b"\x81\xfe" + len(message).to_bytes(2, "big") + bytes(4) + message  # masked by nothing
    before = peak_kib(door)
    with opened(door, job_id, receive_bytes=4096) as ws:
        ws.raw.settimeout(2)
        with suppress(OSError):  # whichever way the connection ends, or stalls
            for _ in range(1000):
                ws.raw.sendall(frame * 100)
        assert peak_kib(door) - before < 50_000
        until(lambda: free(door, job_id), timeout_s=30, every_s=0.1)
    assert "rror" not in door.log


def peak_kib(door: Door) -> int:
    """Return the most memory that the serving process ever had, KiB."""
    [pid] = door.pids()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


@pytest.mark.parametrize("bad", [b"\x81\x02{}", b"\xff\xff\xff\xff", b"\x83\x80\0\0\0\0", b"\x81\x82\0\0\0\0\xff\xff"])
def test_what_breaks_the_protocol_is_cut_quietly(open_door: OpenDoor, kind: str, bad: bytes) -> None:
    """Not masked, reserved bits, an unknown opcode, text that is no UTF-8."""
    door = open_door(max_streams=1)
    job_id = door.submit(kind)
    with opened(door, job_id) as ws:
        next(ws.frames())
        ws.raw.sendall(bad)
        with suppress(EOFError, ConnectionError):
            while ws.frame()[0] != CLOSE:
                pass
        until(lambda: free(door, job_id))
    assert "rror" not in door.log
    assert "Traceback" not in door.log


def test_a_ping_is_answered(door: Door, kind: str) -> None:
    with opened(door, door.submit(kind)) as ws:
        next(ws.frames())
        ws.send(PING, b"are you there")
        while (found := ws.frame())[0] == TEXT:
            pass
        assert found == (PONG, b"are you there")


def test_we_ping_and_who_answers_stays(open_door: OpenDoor, kind: str) -> None:
    door = open_door(max_streams=1)
    job_id = door.submit(kind)
    with opened(door, job_id) as ws:
        pings = 0
        while pings < 2:
            opcode, payload = ws.frame()
            if opcode == PING:
                pings += 1
                ws.send(PONG, payload)
        assert not free(door, job_id)
        ws.say({"type": "cancel"})
        assert [frame.event for frame in ws.frames()][-1] == "end"


# — the handshake —


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/v1/jobs/nope/ws", {}, 404, "not_found"),
        ("/v1/jobs/{id}/ws?starting_after=x", {}, 400, "invalid_event_id"),
        ("/v1/jobs/{id}/ws", {"Last-Event-ID": "1;2"}, 400, "invalid_event_id"),
        ("/v1/jobs/{id}/ws", {"Host": "evil.example"}, 421, "misdirected_request"),
        ("/v1/jobs/{id}/ws", {"Origin": "http://evil.example"}, 403, "origin_not_allowed"),
        ("/v1/jobs/{id}/ws", {"Origin": "null"}, 403, "origin_not_allowed"),
        ("/v1/jobs/{id}/ws", {"Upgrade": ""}, 426, "upgrade_required"),
        ("/v1/jobs/{id}/ws", {"Connection": "keep-alive"}, 426, "upgrade_required"),
        ("/v1/jobs/{id}/ws", {"Sec-WebSocket-Version": "8"}, 426, "upgrade_required"),
        ("/v1/jobs/{id}/ws", {"Sec-WebSocket-Version": ""}, 426, "upgrade_required"),
        ("/v1/jobs/{id}/ws", {"Sec-WebSocket-Key": ""}, 400, "bad_request"),
        ("/v1/jobs/{id}/ws", {"Sec-WebSocket-Key": "dG9vIHNob3J0"}, 400, "bad_request"),
    ],
)
def test_what_is_refused_is_refused_in_http(
    door: Door, kind: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    with pytest.raises(Refused) as refused:
        Socket((door.host, door.port), path.format(id=door.submit(kind)), headers=headers)
    assert (refused.value.status, refused.value.body["error"]) == (status, code)
    if status == 426:
        assert refused.value.headers["upgrade"] == "websocket"
        assert refused.value.headers["sec-websocket-version"] == "13"


def test_a_page_of_ours_may(door: Door, kind: str) -> None:
    own = f"localhost:{door.port}"
    with opened(door, door.submit(kind), headers={"Host": own, "Origin": f"http://{own}"}) as ws:
        assert next(ws.frames()).event == "status"


# — places, and ends —


def test_sockets_and_streams_share_the_places(open_door: OpenDoor, kind: str) -> None:
    door = open_door(max_streams=2)
    job_id = door.submit(kind)
    with opened(door, job_id, headers={"X-Request-ID": "mine"}) as ws, door.watch(job_id) as watch:
        next(ws.frames())
        assert watch.next().event == "status"
        assert not free(door, job_id)
        with door.watch(job_id) as refused:
            assert refused.status == 503
        assert door.call("GET", "/health")[0] == 200


@pytest.mark.parametrize("farewell", ["close", "half-close", "reset", "goodbye"])
def test_a_client_that_leaves_frees_its_place_at_once(open_door: OpenDoor, kind: str, farewell: str) -> None:
    door = open_door(max_streams=1)
    job_id = door.submit(kind)
    with opened(door, job_id) as ws:
        next(ws.frames())
        assert not free(door, job_id)
        match farewell:
            case "close":
                ws.close()
            case "half-close":
                ws.raw.shutdown(socket.SHUT_WR)
            case "reset":
                ws.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                ws.close()
            case "goodbye":
                ws.send(CLOSE, b"\x03\xe8")
                while ws.frame()[0] != CLOSE:
                    pass
        began = time.monotonic()
        until(lambda: free(door, job_id), timeout_s=10, every_s=0.05)
        assert time.monotonic() - began < 3.0


def test_a_goodbye_is_answered_by_one(open_door: OpenDoor, kind: str) -> None:
    """Not by hanging up at once, which is a failure to clients."""
    door = open_door()
    job_id = door.submit(kind)
    for _ in range(40):
        with opened(door, job_id) as ws:
            next(ws.frames())
            ws.send(CLOSE, b"\x03\xe8")
            while ws.frame()[0] != CLOSE:
                pass
            with pytest.raises(EOFError):
                ws.frame()


def test_a_client_that_never_reads_is_cut(open_door: OpenDoor, player: Player, kind: str) -> None:
    door = open_door(max_streams=1)
    job_id = door.submit(kind)
    attempt = player.claim(job_id, kind)
    for _ in range(12):
        attempt.say(*("x" * 100_000 for _ in range(10)))
    with opened(door, job_id, receive_bytes=4096):
        assert not free(door, job_id)
        until(lambda: free(door, job_id), timeout_s=25, every_s=0.1)
    assert "rror" not in door.log


def test_a_stop_says_goodbye_and_nothing_is_lost(open_door: OpenDoor, player: Player, kind: str) -> None:
    door = open_door()
    job_id = door.submit(kind)
    attempt = player.claim(job_id, kind)
    attempt.say("one ")
    with ExitStack() as stack:
        sockets = [stack.enter_context(opened(door, job_id)) for _ in range(20)]
        lives = [ws.frames() for ws in sockets]
        told = [[next(life), next(life)] for life in lives]
        door.process.terminate()
        for frames, life in zip(told, lives, strict=True):
            frames.extend(life)
        assert [frames[-1] for frames in told] == [Frame("bye", "", {}, 500)] * 20
        assert {ws.code for ws in sockets} == {1001}
        assert door.process.wait(10) == 0
    attempt.say("two")
    attempt.done({})
    with opened(open_door(), job_id, after=told[0][1].id) as ws:
        rest = list(ws.frames())
    assert text(told[0] + rest) == "one two"
    assert "rror" not in door.log
