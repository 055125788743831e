"""The web process among others: killed, started again, handed a socket, and gone when its master is."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llm_mcp import config
from llm_mcp.config import Settings
from llm_mcp.runtime import Runtime
from llm_mcp.worker import Worker
from tests.integration.web import paced
from tests.integration.web.door import ROOT, Door, Watch, alive
from tests.integration.web.frames import Frame, text
from tests.waiting import until

OpenDoor = Callable[..., Door]


@pytest.fixture
def open_door(settings: Settings, tmp_path: Path) -> Iterator[OpenDoor]:
    """Start web processes that know the kind of `paced`; each is stopped at the end."""
    opened: list[Door] = []
    chosen = settings.model_copy(update={"modules": paced.__name__})

    def start(**options: object) -> Door:
        opened.append(Door(chosen, log=tmp_path / f"web{len(opened)}.log", **options))  # type: ignore[arg-type] # passed on as they are
        return opened[-1]

    yield start
    for door in opened:
        door.close()


@pytest.fixture
def worker(runtime: Runtime) -> Iterator[Worker]:
    """A worker in this process, so that the test says when it goes on."""
    made = Worker(runtime, threads=2)
    made.start()
    yield made
    made.drain(0.0)


def heard(watch: Watch) -> list[Frame]:
    """Return what still arrives on a connection until it breaks."""
    frames: list[Frame] = []
    with contextlib.suppress(http.client.HTTPException, OSError, AssertionError, StopIteration):
        while True:
            frames.append(watch.next())
    return frames


def web(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `llm-mcp web` until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "llm_mcp", "web", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LLM_MCP_LOG_FORMAT": "json", **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


# — killed —


def test_a_stream_goes_on_over_kills_of_the_web_process(open_door: OpenDoor, worker: Worker) -> None:
    door = open_door()
    job_id = door.submit(paced.KIND, {"count": 40})
    told: list[Frame] = []
    for said in (7, 8, 9):
        last = next((frame.id for frame in reversed(told) if frame.id), "")
        watch = door.watch(job_id, after=last)
        for _ in range(said):
            paced.permits.release()
            told += watch.until("delta")
        paced.permits.release(2)  # said while nobody is there to tell
        door.kill()
        told += heard(watch)
        watch.close()
        door = open_door(address=f"127.0.0.1:{door.port}")
    for _ in range(40 - 24 - 6):
        paced.permits.release()
    last = next(frame.id for frame in reversed(told) if frame.id)
    with door.watch(job_id, after=last) as watch:
        told += watch.rest()
    job = door.call("GET", f"/v1/jobs/{job_id}")[1]
    assert (job["status"], job["attempts"]) == ("done", 1)
    assert text(told) == job["result"]["response"] == "".join(f"word{n} " for n in range(40))
    assert [frame.id for frame in told if frame.id] == [f"1:{n}" for n in range(1, 41)]
    assert told[-1] == Frame("end", "", {"status": "done"})


def test_a_serving_process_that_dies_is_replaced(open_door: OpenDoor) -> None:
    door = open_door(processes=2)
    until(lambda: len(door.pids()) == 2)
    for pid in door.pids():
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: len(door.pids()) == 2 and pid not in door.pids())  # type: ignore[misc] # mypy cannot infer a lambda with a default
    assert door.call("GET", "/health")[0] == 200
    door.terminate()
    assert door.out.read() == b""  # it said `ready` once, whoever booted since
    lines = [json.loads(line) for line in door.log.splitlines()]  # the server's own words have our form too
    assert sum("SIGKILL" in line["event"] for line in lines) == 2


def test_nothing_is_left_of_a_master_that_is_killed(open_door: OpenDoor) -> None:
    door = open_door(processes=2)
    pids = until(lambda: door.pids() if len(door.pids()) == 2 else [])
    job_id = door.submit("test.unserved")
    watches = [door.watch(job_id) for _ in range(10)]
    for watch in watches:
        watch.next()
    door.process.kill()
    door.process.wait(10)
    began = time.monotonic()
    until(lambda: not any(alive(pid) for pid in pids), timeout_s=10)
    assert time.monotonic() - began < 5.0
    for watch in watches:
        assert heard(watch) == []
        watch.close()
    assert open_door(address=f"127.0.0.1:{door.port}").call("GET", f"/v1/jobs/{job_id}")[0] == 200


# — handed a socket —


def test_no_connection_is_refused_while_it_is_started_again(open_door: OpenDoor) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as owned:
        port = owned.getsockname()[1]
        door = open_door(fd=owned.fileno())
        assert door.url == f"http://127.0.0.1:{port}"
        job_id = door.submit("test.unserved")
        for end in (door.kill, door.terminate):
            end()
            waiting = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(10)]
            for connection in waiting:
                connection.sendall(
                    f"GET /v1/jobs/{job_id} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
                )
            door = open_door(fd=owned.fileno())
            for connection in waiting:
                assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
                connection.close()


# — asked to stop —


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_either_signal_with_streams_open(open_door: OpenDoor, number: signal.Signals) -> None:
    door = open_door()
    job_id = door.submit("test.unserved")
    watches = [door.watch(job_id) for _ in range(20)]
    for watch in watches:
        watch.next()
    began = time.monotonic()
    door.process.send_signal(number)
    assert door.process.wait(20) == 0
    assert time.monotonic() - began < 6.0
    for watch in watches:
        assert watch.rest() == [Frame("bye", "", {}, 500)]
        watch.close()


def test_a_request_on_its_way_is_still_answered(open_door: OpenDoor) -> None:
    door = open_door()
    [pid] = door.pids()
    before = sockets(pid)
    body = b'{"kind": "test.unserved"}'
    with socket.create_connection((door.host, door.port), timeout=20) as connection:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[:10])
        until(lambda: sockets(pid) > before)
        door.process.send_signal(signal.SIGTERM)
        until(lambda: refuses(door.port))
        connection.sendall(body[10:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")
    assert door.process.wait(20) == 0


def sockets(pid: int) -> int:
    """Return how many sockets a process has."""
    return sum(str(entry.readlink()).startswith("socket:") for entry in Path(f"/proc/{pid}/fd").iterdir())


def refuses(port: int) -> bool:
    """Say whether nobody listens there any more."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


# — started wrongly —


def test_a_busy_port_is_one_line_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = web("--http", address)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"llm-mcp: CORE_HTTP_ADDR: cannot listen on {address}: Address already in use\n"


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--http", "127.0.0.1:0", "--fd", "0"], {}, "--fd: 0 is not a TCP socket"),
        (["--http", "127.0.0.1:0", "--fd", "999"], {}, "--fd: 999 is not a TCP socket"),
        (["--http", "no.such.host.invalid:1"], {}, "CORE_HTTP_ADDR: cannot listen on no.such.host.invalid:1"),
        (["--http", "127.0.0.1:0"], {"LLM_MCP_MODULES": "no_such_module"}, "cannot import no_such_module"),
    ],
)
def test_other_mistakes_are_one_line_too(arguments: list[str], environment: dict[str, str], words: str) -> None:
    ended = web(*arguments, **environment)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"llm-mcp: {words}")
    assert ended.stderr.count("\n") == 1


# — where it serves, and what it loads —


@pytest.mark.parametrize(("address", "host"), [(":0", "127.0.0.1"), ("localhost:0", None), ("0.0.0.0:0", "127.0.0.1")])
def test_its_line_says_where(open_door: OpenDoor, address: str, host: str | None) -> None:
    door = open_door(address=address)
    assert host in (None, door.host)
    assert door.port > 0
    assert door.call("GET", "/health")[0] == 200


def test_without_a_host_it_is_loopback_only(open_door: OpenDoor) -> None:
    door = open_door(address=":0")
    listening = Path("/proc/net/tcp").read_text()
    assert f"0100007F:{door.port:04X} 00000000:0000 0A" in listening
    assert f"00000000:{door.port:04X} 00000000:0000 0A" not in listening


def test_ipv6(open_door: OpenDoor) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    door = open_door(address="[::1]:0")
    assert door.url == f"http://[::1]:{door.port}"
    assert door.call("GET", "/health")[0] == 200


def test_it_loads_nothing_that_only_workers_need(settings: Settings) -> None:
    look = (
        "import sys; from llm_mcp.config import load; from llm_mcp.runtime import Runtime;"
        "import llm_mcp.web.server; llm_mcp.web.server.create_app(Runtime(load()));"
        "print(*sorted(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", look],
        env=config.child_environment(settings),
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "llm_mcp.payloads" in loaded
    for name in ("dramatiq", "tenacity", "xllamacpp", "typer"):
        assert name not in loaded
    for name in ("actors", "broker", "worker", "keeper", "middleware", "execution", "scheduler", "supervisor", "cli"):
        assert f"llm_mcp.{name}" not in loaded
