"""The bridge as a process: where it listens, how it stops, what it says; and over standard input and output."""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import grpc
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from llm_mcp.config import Settings, child_environment
from llm_mcp.mcp_bridge.serving import _Discreet
from llm_mcp.rpc import llm_pb2 as pb
from llm_mcp.rpc.llm_pb2_grpc import CoreServicer, add_CoreServicer_to_server
from tests.integration.mcp.served import Bridge, Frame, Told
from tests.integration.web.played import Player
from tests.waiting import until

_BOTH = "application/json, text/event-stream"
_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
}
_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "0"},
}


def _ways(bridge: Bridge) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """Return parameters and headers of a call without a session, and of one in a session of its own."""
    opened = bridge.ask("POST", "/mcp", _INITIALIZE, Accept=_BOTH)
    newest = {"Mcp_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": "llm_job_status"}
    return [({"_meta": _META}, newest), ({}, {"Mcp_Session_Id": opened.headers["mcp-session-id"]})]


def _waited(bridge: Bridge, job_id: str, way: tuple[dict[str, Any], dict[str, str]]) -> Told:
    """Call the tool that waits for a job."""
    call = {"name": "llm_job_status", "arguments": {"job_id": job_id, "wait_s": 45}, **way[0]}
    body = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}
    return bridge.ask("POST", "/mcp", body, Accept=_BOTH, **way[1])


def test_calls_in_a_session_share_a_connection(served: Bridge) -> None:
    """Their answers are one message each, and the connection stays open after it."""
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=30)

    def ask(method: str, **more: Any) -> http.client.HTTPResponse:
        body = json.dumps({"jsonrpc": "2.0", "method": method, **more})
        connection.request("POST", "/mcp", body, {"Content-Type": "application/json", "Accept": _BOTH, **session})
        return connection.getresponse()

    session: dict[str, str] = {}
    opened = ask("initialize", id=1, params=_INITIALIZE["params"])
    session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
    (first, opening) = (connection.sock, json.loads(opened.read()))
    assert opening["result"]["protocolVersion"] == "2025-06-18"
    ask("notifications/initialized").read()
    for number in (2, 3):
        answer = ask("tools/list", id=number)
        assert answer.headers["content-type"] == "application/json"
        assert json.loads(answer.read())["id"] == number
    assert connection.sock is first is not None
    connection.close()


def test_a_stop_tells_what_waits_and_takes_no_time(
    bridge_settings: Settings, player: Player, log: Path, kind: str
) -> None:
    told: list[Told] = []
    frames: list[Frame] = []
    with Bridge(bridge_settings, log) as bridge:
        job_id = bridge.ask("POST", "/submit", {"kind": kind}).json["job_id"]
        attempt = player.claim(job_id, kind)
        with bridge.watch(f"/jobs/{job_id}/stream") as watch:
            asking = [
                threading.Thread(target=lambda way: told.append(_waited(bridge, job_id, way)), args=(way,))
                for way in (way for _ in range(3) for way in _ways(bridge))
            ]
            watching = threading.Thread(target=lambda: frames.extend(watch.frames()))
            for thread in (*asking, watching):
                thread.start()
            until(lambda: len(frames) >= 1)
            _in_flight(bridge, 7)
            code, seconds = bridge.stop()
            for thread in (*asking, watching):
                thread.join(timeout=20)
        assert code == 0, log.read_text()
        assert seconds < 6
        assert len(told) == 6
        assert all(answer.status == 200 and job_id in answer.body.decode() for answer in told), told
        assert frames[-1] == Frame("bye", "", {})
        attempt.done({})  # the job went on
    assert "Traceback" not in log.read_text()


def _in_flight(bridge: Bridge, count: int) -> None:
    """Wait until so many connections are open to the bridge."""
    port = f":{int(bridge.url.rpartition(':')[2]):04X}"

    def open_ones() -> bool:
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        return sum(line.split()[1].endswith(port) and line.split()[3] == "01" for line in lines) >= count

    until(open_ones)


class _Silent(CoreServicer):
    """A core that takes calls and does not answer them."""

    def __init__(self) -> None:
        self.asked, self.over = threading.Event(), threading.Event()

    def GetJob(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the method
        """Wait for the end of the test."""
        self.asked.set()
        self.over.wait(30)
        return pb.GetJobResponse()


def test_a_call_that_does_not_end_is_cut(bridge_settings: Settings, log: Path) -> None:
    silent = _Silent()
    core = grpc.server(ThreadPoolExecutor(2))
    add_CoreServicer_to_server(silent, core)
    address = f"127.0.0.1:{core.add_insecure_port('127.0.0.1:0')}"
    core.start()
    try:
        with Bridge(bridge_settings.model_copy(update={"grpc_addr": address}), log) as bridge:

            def ask() -> None:
                with suppress(OSError, http.client.HTTPException):
                    bridge.ask("GET", "/jobs/x")

            asking = threading.Thread(target=ask)
            asking.start()
            assert silent.asked.wait(20)
            code, seconds = bridge.stop()
            asking.join(timeout=20)
    finally:
        silent.over.set()
        core.stop(None).wait()
    assert (code, seconds < 6) == (0, True), (code, seconds)


def test_a_port_that_is_taken(served: Bridge, bridge_settings: Settings, log: Path) -> None:
    taken = served.url.removeprefix("http://")
    with Bridge(bridge_settings.model_copy(update={"mcp_addr": taken}), log) as bridge:
        assert bridge.ended == 1
    assert log.read_text() == f"llm-mcp: MCP_HTTP_ADDR: cannot listen on {taken}: Address already in use\n"


def test_it_says_little_and_nothing_of_a_client(served: Bridge) -> None:
    secret = "a prompt of mine 8e1d"
    for path in ("/submit", "/mcp"):
        served.ask("POST", path, {"kind": "echo", "payload": secret, "method": secret, "id": 1}, Accept=_BOTH)
        served.ask("POST", path, secret.encode(), Authorization=f"Bearer {secret}", Accept=_BOTH)
    said = served.log.read_text()
    assert secret not in said
    assert [line for line in said.splitlines() if json.loads(line)["level"] not in ("warning", "error")] == []


def test_an_error_of_the_sdk_is_logged_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(discreet := _Discreet())
    try:
        for name in ("mcp.server.runner", "llm_mcp.mcp_bridge.door"):
            try:
                raise ValueError("a prompt of mine")
            except ValueError:
                logging.getLogger(name).exception("it failed")
    finally:
        caplog.handler.removeFilter(discreet)
    theirs, ours = caplog.records
    assert (theirs.exc_info, theirs.__dict__["error"]) == (None, "ValueError")
    assert __file__ in theirs.__dict__["where"][0]
    assert ours.exc_info is not None


def test_over_standard_input_and_output(bridge_settings: Settings, player: Player, tmp_path: Path) -> None:
    async def run() -> None:
        with (tmp_path / "err").open("w") as err:
            command = StdioServerParameters(
                command=sys.executable,
                args=["-m", "llm_mcp", "mcp", "--stdio"],
                env=child_environment(bridge_settings),
            )
            async with Client(_over(command, err)) as client:
                names = {tool.name for tool in (await client.list_tools()).tools}
                assert "llm_job_status" in names
                made = await client.call_tool("llm_submit", {"kind": "echo", "params_json": "{}"})
                assert not made.is_error, made

    anyio.run(run)
    assert (tmp_path / "err").read_text() == ""


def _over(command: StdioServerParameters, err: Any) -> Any:
    return stdio_client(command, errlog=err)


def test_without_a_core_a_tool_says_so(bridge_settings: Settings, tmp_path: Path) -> None:
    settings = bridge_settings.model_copy(update={"grpc_addr": "127.0.0.1:1"})

    async def run() -> None:
        command = StdioServerParameters(
            command=sys.executable, args=["-m", "llm_mcp", "mcp", "--stdio"], env=child_environment(settings)
        )
        async with Client(command) as client:
            told = await client.call_tool("llm_jobs", {})
            assert told.is_error
            assert "127.0.0.1" not in str(told.content)
            assert (await client.list_tools()).tools

    anyio.run(run)


def test_stdio_ends_with_its_client(bridge_settings: Settings, tmp_path: Path) -> None:
    for number in (None, signal.SIGTERM, signal.SIGINT):
        with (tmp_path / "err").open("w") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "llm_mcp", "mcp", "--stdio"],
                env=child_environment(bridge_settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"nonsense\n" + json.dumps(_INITIALIZE).encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "llm-mcp"
            if number is None:
                process.stdin.close()
            else:
                os.kill(process.pid, number)
            assert process.wait(timeout=10) == 0, number
            process.stdout.close()
            if number:
                process.stdin.close()


@pytest.mark.parametrize("words", [["--stdio", "--http", "127.0.0.1:0"], ["--http", "nonsense"], ["--fd", "0"]])
def test_nonsense_is_one_line(words: list[str]) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "llm_mcp", "mcp", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert made.returncode in (1, 2)
    assert "Traceback" not in made.stderr
    assert made.stdout == ""
