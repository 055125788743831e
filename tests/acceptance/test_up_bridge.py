"""`llm-mcp up` with the MCP bridge: it serves, it is kept alive, it is in nobody's way."""

from __future__ import annotations

import json
import socket
import subprocess

from llm_mcp import config
from tests.acceptance.running import COMMAND, Scratch, call, kill, wait_gone
from tests.waiting import until


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_it_serves_a_job_from_end_to_end_and_is_started_again(scratch: Scratch) -> None:
    addr = f"127.0.0.1:{_free_port()}"
    up = scratch.up("--mcp", "--no-model", mcp_addr=addr)
    status, told = call("POST", f"http://{addr}/submit", {"payload": {"n": 1}}, **{"Content-Type": "application/json"})
    assert status == 202
    result = up.finished(told["job_id"])["result"]
    assert result == {"ok": True, "echo": {"n": 1}}
    assert json.loads(call("GET", f"http://{addr}/jobs/{told['job_id']}")[1]["result_json"]) == result
    victim = up.child(" mcp ")
    kill(victim)
    # Its socket is the supervisor's: who asks meanwhile is served by the next one.
    assert call("GET", f"http://{addr}/jobs/{told['job_id']}")[0] == 200
    assert until(lambda: up.child(" mcp ")) != victim
    assert up.stop() == 0
    wait_gone(lambda command, _: str(scratch.path) in command)


def test_it_can_be_left_out(scratch: Scratch) -> None:
    up = scratch.up("--no-mcp", "--no-model", "--workers", "0")
    assert not any(" mcp " in command for command in up.children().values())


def test_a_port_that_is_taken_is_one_line(scratch: Scratch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        addr = f"127.0.0.1:{other.getsockname()[1]}"
        for changed, words in (
            ({"mcp_addr": addr}, f"MCP_HTTP_ADDR: cannot listen on {addr}: Address already in use; --no-mcp leaves"),
            ({"mcp_addr": "0.0.0.0:0"}, "MCP_HTTP_ADDR: 0.0.0.0:0 is beyond loopback"),
        ):
            settings = config.load(data_dir=scratch.path / "none", http_addr="127.0.0.1:0", **changed)
            made = subprocess.run(
                [*COMMAND, "up", "--no-model"],
                env=config.child_environment(settings),
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
            assert made.returncode == 1
            assert made.stderr.startswith(f"llm-mcp: {words}"), made.stderr
            assert made.stderr.count("\n") == 1
