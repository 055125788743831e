"""A bridge at standard input and output: it reads whatever a client writes, and ends soon, well, and with its jobs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from llm_mcp.config import child_environment
from tests.integration.mcp.attended import Watched
from tests.integration.mcp.piped import Piped
from tests.integration.web.played import Player
from tests.waiting import until

ENDS: dict[str, Callable[[Piped], None]] = {
    "close": Piped.close,
    "SIGTERM": lambda bridge: bridge.signal(signal.SIGTERM),
    "SIGINT": lambda bridge: bridge.signal(signal.SIGINT),
    "hang up": Piped.hang_up,
}


# A pipe that holds this many bytes takes no further answer.
_FULL = 60_000


@pytest.fixture
def bridge(watched: Watched, log: Path) -> Iterator[Piped]:
    """A bridge before a core that cancels nothing by itself in the time of a test."""
    watched.be_patient(600.0)
    with watched.served() as target, Piped(watched.before(target), log) as made:
        yield made


@pytest.mark.parametrize("end", ENDS)
def test_its_end_cancels_what_waits(bridge: Piped, watched: Watched, player: Player, end: str) -> None:
    bridge.call(1, "llm_chat", prompt="x", wait_s=45)
    attempt = player.claim_soon("ollama.chat")
    watched.heard(attempt.job_id)
    ENDS[end](bridge)
    code, seconds = bridge.ended()
    assert (code, seconds < 3) == (0, True), (seconds, bridge.log.read_text())
    assert watched.jobs.get(attempt.job_id).reason == "cancelled"
    assert [json.loads(line)["action"] for line in bridge.log.read_text().splitlines()] == ["job_left"]


def test_a_signal_that_comes_first_of_all(watched: Watched, log: Path) -> None:
    with watched.served() as target, log.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "llm_mcp", "mcp", "--stdio"],
            env=child_environment(watched.before(target)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=err,
        )
        with process:
            until(lambda: _caught(process.pid, signal.SIGTERM))
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
    assert log.read_text() == ""


@pytest.mark.parametrize("closed", ["0<&-", "1>&-"])
def test_without_a_client_it_does_not_begin(closed: str) -> None:
    said = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m llm_mcp mcp --stdio {closed}', sys.executable],
        stdin=subprocess.PIPE,
        capture_output=True,
        check=False,
        timeout=30,
        text=True,
    )
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.strip().endswith("--stdio: standard input and output must be open")


def test_a_second_signal_ends_it_at_once(bridge: Piped) -> None:
    _fill(bridge)
    bridge.signal(signal.SIGTERM)
    until(lambda: not _caught(bridge.pid, signal.SIGTERM))
    bridge.signal(signal.SIGTERM)
    code, seconds = bridge.ended()
    assert (code, seconds < 1) == (-signal.SIGTERM, True), seconds


@pytest.mark.parametrize("end", ["close", "SIGTERM"])
def test_answers_that_nobody_takes_hold_up_nothing_for_long(bridge: Piped, end: str) -> None:
    _fill(bridge)
    ENDS[end](bridge)
    code, seconds = bridge.ended()
    assert (code, seconds < 7) == (-signal.SIGALRM, True), seconds


def _fill(bridge: Piped) -> None:
    """Ask so much that what is not read fills the pipe of its answers."""
    for number in range(1, 30):
        bridge.ask(number, "tools/list", {})
    until(lambda: bridge.untaken >= _FULL)


def _caught(pid: int, number: signal.Signals) -> bool:
    """Say whether a process has a handler for a signal."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _echo(number: int, text: str) -> bytes:
    """Return the line that submits an echo of a text."""
    call = {"name": "llm_submit", "arguments": {"kind": "echo", "prompt": text}}
    asked = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call}
    return json.dumps(asked, ensure_ascii=False).encode()


def test_it_reads_lines_however_they_come(bridge: Piped, watched: Watched) -> None:
    def arrived(number: int) -> str:
        job_id = bridge.answer(number)["result"]["structuredContent"]["job_id"]
        return str(orjson.loads(watched.jobs.get(job_id).payload or "")["prompt"])

    long = "€😀é" * 60_000
    data = _echo(1, long) + b"\n"
    for start in range(0, len(data), 997):  # a character is cut here and there
        bridge.write(data[start : start + 997])
    assert arrived(1) == long
    bridge.write(_echo(2, "two") + b"\r\n" + _echo(3, "three") + b"\n\n\xff\xfe\n" + _echo(4, "fo"))
    assert [arrived(2), arrived(3)] == ["two", "three"]
    bridge.write(b"\n")
    assert arrived(4) == "fo"


def test_a_file_is_an_input_too(watched: Watched, tmp_path: Path) -> None:
    asked = tmp_path / "in"
    asked.write_bytes(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n' * 3 + uuid4().bytes)
    with watched.served() as target, asked.open("rb") as lines:
        made = subprocess.run(
            [sys.executable, "-m", "llm_mcp", "mcp", "--stdio"],
            env=child_environment(watched.before(target)),
            stdin=lines,
            capture_output=True,
            check=False,
            timeout=30,
        )
    assert (made.returncode, made.stderr) == (0, b"")
