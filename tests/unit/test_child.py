"""Children say when they are ready, are taken note of when they end, and do not outlive their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llm_mcp.child import Child
from tests.waiting import until

SLEEPER = "import sys, time; print('ready here', flush=True); time.sleep(600)"


def child(code: str, **options: object) -> Child:
    return Child("test", [sys.executable, "-c", code], environment=dict(os.environ), **options)  # type: ignore[arg-type] # passed on as they are


def test_it_is_ready_when_it_says_so_and_not_before() -> None:
    one = child("import sys; sys.stdin.read(); print('ready http://x:1', flush=True); import time; time.sleep(600)")
    one.start()
    try:
        until(one.says_ready)
        assert one.line == "http://x:1"
        assert one.ended() is None
    finally:
        one.kill()
    assert one.pid is None


def test_half_a_line_or_another_word_is_not_ready() -> None:
    for said in ("print('ready x', end='', flush=True)", "print('already', flush=True)"):
        one = child(f"{said}; import time; time.sleep(600)")
        one.start()
        try:
            with pytest.raises(AssertionError):
                until(one.says_ready, timeout_s=0.5)
        finally:
            one.kill()


def test_an_end_is_noticed_and_a_new_start_is_a_new_process() -> None:
    one = child("raise SystemExit(3)")
    assert one.ended() is None
    one.start()
    assert one.wait(10)
    assert one.ended() == 3
    assert not one.says_ready()
    one.start()
    assert one.wait(10)
    one.kill()


def test_ctrl_c_of_the_owner_does_not_reach_it() -> None:
    one = child(SLEEPER)
    one.start()
    try:
        until(one.says_ready)
        assert one.pid is not None
        assert os.getsid(one.pid) == one.pid
        assert os.getsid(0) != one.pid
    finally:
        one.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its owner's death")
def test_it_dies_with_an_owner_that_is_killed() -> None:
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time; from llm_mcp.child import Child\n"
            f"one = Child('x', [sys.executable, '-c', {SLEEPER!r}], environment=dict(os.environ)); one.start()\n"
            "while not one.says_ready(): time.sleep(0.01)\n"
            "print(one.pid, flush=True); time.sleep(600)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    owner.send_signal(signal.SIGKILL)
    owner.communicate(timeout=10)

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    until(gone)
