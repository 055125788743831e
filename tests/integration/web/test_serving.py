"""The real server: clients that leave, stall, or read slowly, a full house, and a database that comes and goes."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import psycopg
import pytest

from llm_mcp import config
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.runtime import Runtime
from llm_mcp.store.migrate import migrate
from tests.conftest import new_scratch
from tests.integration.web.door import Door, Watch
from tests.integration.web.frames import Frame, text
from tests.integration.web.played import Player
from tests.waiting import until

OpenDoor = Callable[..., Door]


def free(door: Door, job_id: str) -> bool:
    """Say whether there is a place for another stream now; takes none."""
    with door.watch(job_id) as watch:
        return watch.status == 200


def seconds_until_free(door: Door, job_id: str, timeout_s: float) -> float:
    """Wait for a free place and return how long that took, s."""
    began = time.monotonic()
    until(lambda: free(door, job_id), timeout_s=timeout_s, every_s=0.05)
    return time.monotonic() - began


def test_it_says_where_it_serves(door: Door) -> None:
    assert door.url == f"http://127.0.0.1:{door.port}"
    assert door.call("GET", "/health") == (200, {"status": "ok", "version": config.installed_version()})


@pytest.mark.parametrize("farewell", ["close", "half-close", "reset"])
def test_a_client_that_leaves_a_quiet_stream_frees_its_place_at_once(
    open_door: OpenDoor, kind: str, farewell: str
) -> None:
    door = open_door(max_streams=1)
    job_id = door.submit(kind)
    watch = door.watch(job_id)
    assert watch.next().event == "status"
    assert not free(door, job_id)
    match farewell:
        case "close":
            watch.close()
        case "half-close":
            watch.socket.shutdown(socket.SHUT_WR)
        case "reset":
            watch.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            watch.close()
    assert seconds_until_free(door, job_id, timeout_s=10) < 3.0
    watch.close()


def test_a_client_that_stays_is_left_alone(open_door: OpenDoor, kind: str) -> None:
    door = open_door(max_streams=1)
    job_id = door.submit(kind)
    with door.watch(job_id) as watch:
        blocks = watch.blocks()
        assert next(blocks).startswith(b"event: status")
        assert next(blocks).startswith(b"event: queue")
        began = time.monotonic()
        assert next(blocks) == b": keep-alive"
        assert 10 < time.monotonic() - began < 25
        assert not free(door, job_id)


def test_a_full_house_is_said_so_and_everything_else_goes_on(open_door: OpenDoor, kind: str) -> None:
    door = open_door(max_streams=5)
    job_id = door.submit(kind)
    with ExitStack() as stack:
        watches = [stack.enter_context(door.watch(job_id)) for _ in range(5)]
        assert [watch.next().event for watch in watches] == ["status"] * 5
        for _ in range(20):
            with door.watch(job_id) as refused:
                assert (refused.status, refused.headers["content-type"]) == (503, "application/json")
                assert int(refused.headers["retry-after"]) >= 1
                assert refused.json()["error"] == "too_many_streams"
        assert door.call("GET", "/health", timeout_s=3)[0] == 200
        assert door.call("GET", f"/v1/jobs/{job_id}", timeout_s=3)[0] == 200
        watches[0].close()
        seconds_until_free(door, job_id, timeout_s=10)


def test_watchers_hold_no_database_connection(open_door: OpenDoor, player: Player, dsn: str, kind: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:

        def sessions() -> tuple[int, int]:
            row = conn.execute(
                "SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in transaction%') FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()
            assert row is not None
            return int(row[0]), int(row[1])

        player.report(kind)  # opens the test's own connection
        before, _ = sessions()
        door = open_door(db_pool_size=2)
        job_id = door.submit(kind)
        with ExitStack() as stack:
            watches = [stack.enter_context(door.watch(job_id)) for _ in range(60)]
            assert [watch.next().data["status"] for watch in watches] == ["queued"] * 60
            attempt = player.claim(job_id, kind)
            attempt.say("hello")
            attempt.done({"response": "hello"})
            told = [watch.rest() for watch in watches]
            after, in_transaction = sessions()
        assert {text(frames) for frames in told} == {"hello"}
        assert {frames[-1].event for frames in told} == {"end"}
        assert after - before <= 10  # its pool, listener and notifier, and what the test opens itself: not sixty
        assert in_transaction == 0


def test_two_readers_and_one_who_is_slow(door: Door, player: Player, kind: str) -> None:
    job_id = door.submit(kind)
    attempt = player.claim(job_id, kind)
    words = [f"{n:05} " + "x" * 4000 for n in range(1000)]
    with door.watch(job_id, receive_bytes=4096) as slow, door.watch(job_id) as fast, door.watch(job_id) as other:
        for start in range(0, 1000, 100):
            attempt.say(*words[start : start + 100])
        attempt.done({"ok": True})
        for watch in (fast, other):
            assert text(watch.rest()) == "".join(words)
        told = []
        for frame in slow.frames:
            told.append(frame)
            if len(told) % 50 == 0:
                threading.Event().wait(0.02)  # what makes it slow
        assert text(told) == "".join(words)
        assert told[-1] == Frame("end", "", {"status": "done"})


def test_clients_that_stall_are_cut_and_hold_up_nobody(open_door: OpenDoor, player: Player, kind: str) -> None:
    door = open_door(max_streams=1)
    job_id = door.submit(kind)
    attempt = player.claim(job_id, kind)
    for _ in range(12):
        attempt.say(*("x" * 100_000 for _ in range(10)))  # more than all buffers between us hold
    with ExitStack() as stack:
        never_reads = stack.enter_context(door.watch(job_id, receive_bytes=4096))
        assert never_reads.status == 200
        halves = []
        for half in (
            b"GET /health HTTP/1.1\r\nHost: loc",
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        ):
            connection = stack.enter_context(socket.create_connection((door.host, door.port), timeout=30))
            connection.sendall(half)
            halves.append(connection)
        assert door.call("GET", "/health", timeout_s=3)[0] == 200
        assert not free(door, job_id)
        assert seconds_until_free(door, job_id, timeout_s=40) < 25
        for connection in halves:
            answer = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))  # type: ignore[misc] # mypy cannot infer a lambda with a default
            assert answer.startswith(b"HTTP/1.1 408 ")
    assert "rror" not in door.log


def test_clients_that_do_not_hang_up_hold_up_nobody(door: Door) -> None:
    with ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(socket.create_connection((door.host, door.port), timeout=10))
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        began = time.monotonic()
        assert b"200 OK" in connection.recv(65536)
        assert door.call("GET", "/health")[0] == 200
        assert time.monotonic() - began < 3


def test_a_stream_outlives_a_restart_of_postgres(tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    scratch = new_scratch("restart")
    try:
        with EmbeddedPostgres(scratch / "data") as server, ExitStack() as stack:
            migrate(server.dsn)
            folder = tmp_path_factory.mktemp("restart")
            settings = config.load(db_dsn=server.dsn, data_dir=folder)
            runtime = Runtime(settings)
            stack.callback(runtime.close)
            door = Door(settings, log=folder / "web.log")
            stack.callback(door.close)
            player = Player(runtime)
            job_id = door.submit(kind)
            watch = stack.enter_context(door.watch(job_id))
            attempt = player.claim(job_id, kind)
            attempt.say("before ")
            told = watch.until("delta")
            server.stop()
            status, error = door.call("GET", f"/v1/jobs/{job_id}")
            assert (status, error["error"]) == (503, "unavailable")
            assert door.call("GET", "/health")[0] == 200
            server.start()
            attempt.say("after")
            told += watch.until("delta")
            attempt.done({"response": "before after"})
            told += watch.rest()
        assert [(frame.event, frame.id) for frame in told if frame.event != "status"] == [
            ("delta", "1:1"),
            ("delta", "1:2"),
            ("end", ""),
        ]
        assert text(told) == "before after"
        assert [frame.data["status"] for frame in told if frame.event == "status"] == ["queued", "running", "done"]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def test_a_stop_says_goodbye_to_every_stream_and_is_quick(open_door: OpenDoor, player: Player, kind: str) -> None:
    door = open_door()
    job_id = door.submit(kind)
    attempt = player.claim(job_id, kind)
    with ExitStack() as stack:
        watches: list[Watch] = [stack.enter_context(door.watch(job_id)) for _ in range(30)]
        attempt.say("half")
        for watch in watches:
            watch.until("delta")
        never_reads = stack.enter_context(door.watch(job_id, receive_bytes=4096))
        assert never_reads.status == 200
        attempt.say(*("x" * 100_000 for _ in range(100)))
        for watch in watches:
            for _ in range(100):
                watch.next()
        took_s = door.terminate()
        assert [watch.rest() for watch in watches] == [[Frame("bye", "", {}, 500)]] * 30
    assert took_s < 6.0
    assert door.process.returncode == 0
    assert door.out.read() == b""


def test_a_job_that_ends_while_we_stop_is_not_lost(open_door: OpenDoor, player: Player, kind: str) -> None:
    door = open_door()
    job_id = door.submit(kind)
    attempt = player.claim(job_id, kind)
    attempt.say("one ")
    with door.watch(job_id) as watch:
        told = watch.until("delta")
        door.terminate()
        told += watch.rest()
    assert told[-1].event == "bye"
    attempt.say("two")
    attempt.done({"response": "one two"})
    last = [frame.id for frame in told if frame.id][-1]
    with open_door().watch(job_id, after=last) as watch:
        told += watch.rest()
    assert text(told) == "one two"
    assert told[-1] == Frame("end", "", {"status": "done"})
