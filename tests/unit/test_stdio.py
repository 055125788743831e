"""Standard output as the bridge takes it: answers come whole and in order, and nothing else comes between them."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

_ANSWERS = ["a\n", "€" * 30_000 + "\n", "b\n" * 1000, "c\n"]
_WHOLE = "".join(_ANSWERS)
_TELLING = """
import subprocess, sys, anyio
from llm_mcp.mcp_bridge.stdio import Answers
async def tell():
    answers = Answers()
    print("printed", flush=True)
    subprocess.run(["echo", "by a child"], check=True)
    for text in sys.argv[1:]:
        await answers.write(text)
        await answers.flush()
    print("kept until the end")
anyio.run(tell)
"""


def _told(stdout: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _TELLING, *_ANSWERS], stdout=stdout, stderr=subprocess.PIPE)


def test_answers_to_a_pipe() -> None:
    with _told(subprocess.PIPE) as process:
        told, said = process.communicate()
    assert (process.returncode, told.decode() == _WHOLE) == (0, True), said
    assert said.decode().splitlines() == ["printed", "by a child", "kept until the end"]


@pytest.mark.parametrize("waits", [True, False])
def test_answers_to_a_socket(waits: bool) -> None:
    """So do clients that run on Node; one may give it to us as it uses its own end, waiting for nobody."""
    here, there = socket.socketpair()
    there.setblocking(waits)
    with here, there, _told(there.fileno()) as process:
        there.close()
        got = b""
        while chunk := here.recv(2**16):
            got += chunk
        assert process.wait() == 0
    assert got.decode() == _WHOLE


def test_answers_to_a_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file, _told(file.fileno()) as process:
        assert process.stderr is not None
        process.stderr.read()
    assert process.returncode == 0
    assert out.read_text() == _WHOLE
