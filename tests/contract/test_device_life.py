"""How the embedded device begins, is found, and ends."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_mcp.embedded import ollama
from llm_mcp.embedded.device import state
from tests.waiting import until

from .device import LONG, SHORT, alive, ask, children, running, sent, streaming
from .device_models import TINY, TINY_ONLY


def test_it_is_found_from_ready_to_end(tmp_path: Path) -> None:
    assert ollama.running_url(tmp_path) is None
    with running(tmp_path, TINY_ONLY) as device:
        file = tmp_path / "ollama.json"
        assert json.loads(file.read_text()) == {"url": device.url, "pid": device.process.pid}
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert ollama.running_url(tmp_path) == device.url
    assert ollama.running_url(tmp_path) is None
    assert not file.exists()


def test_a_device_that_was_killed_is_not_found_and_another_takes_its_place(tmp_path: Path) -> None:
    with running(tmp_path, TINY_ONLY) as device:
        ask(device, "POST", "/api/generate", SHORT)
        (engine,) = children(device.process.pid)
        device.process.kill()
        device.process.wait()
        assert (tmp_path / "ollama.json").exists()
        assert ollama.running_url(tmp_path) is None
        until(lambda: not alive(engine))
    with running(tmp_path, TINY_ONLY) as device:
        assert ollama.running_url(tmp_path) == device.url


def test_a_busy_device_is_found(tmp_path: Path) -> None:
    with running(tmp_path, TINY_ONLY) as device:
        device.process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert ollama.running_url(tmp_path) == device.url
            assert time.monotonic() - began < 1.0
        finally:
            device.process.send_signal(signal.SIGCONT)


class _Stranger(http.server.BaseHTTPRequestHandler):
    server_version, sys_version = "somebody", ""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class _Impostor(_Stranger):
    def version_string(self) -> str:
        return state.signature(os.getpid())


@contextlib.contextmanager
def _served(handler: type[_Stranger]) -> Iterator[int]:
    """Serve on a port of this machine, in this process."""
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_only_this_machine_is_asked(tmp_path: Path) -> None:
    """0.0.0.0 reaches the same port, and is no loopback address: what the file names is not trusted further."""
    with _served(_Impostor) as port:
        for host, found in (("127.0.0.1", True), ("0.0.0.0", False), ("localhost", False)):
            url = f"http://{host}:{port}"
            (tmp_path / "ollama.json").write_text(json.dumps({"url": url, "pid": os.getpid()}))
            assert ollama.running_url(tmp_path) == (url if found else None)


def test_what_is_not_the_device_is_not_taken_for_it(tmp_path: Path) -> None:
    with _served(_Stranger) as port:
        url, me = f"http://127.0.0.1:{port}", os.getpid()
        states: list[Any] = [{"url": url, "pid": me}, {"url": "http://127.0.0.1:1", "pid": me}]
        states += [{"url": place, "pid": me} for place in ("http://10.255.255.1:80", "file:///x", "", "http://[", 5)]
        states += [{"url": url, "pid": pid} for pid in (0, -1, 2**40, "1", None, True)]
        texts = [json.dumps(each) for each in states]
        for text in (*texts, "", "{", "[]", "null", "[" * 4000, '"a"', "{}"):
            (tmp_path / "ollama.json").write_text(text)
            assert ollama.running_url(tmp_path) is None, text


def test_two_data_directories_have_two_devices_and_one_has_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with running(one, TINY_ONLY) as first, running(two, TINY_ONLY) as second:
        assert {ollama.running_url(one), ollama.running_url(two)} == {first.url, second.url}
        assert len({first.url, second.url}) == 2
        answers = [
            ask(each, "POST", "/api/generate", {**SHORT, "options": {"seed": 1, "num_predict": 5}})
            for each in (first, second)
        ]
        assert answers[0].json["response"] == answers[1].json["response"]
        again = subprocess.run(ollama.command(one, TINY_ONLY), capture_output=True, text=True, check=False, timeout=20)
        assert (again.returncode, again.stdout) == (2, "")
        assert again.stderr == f"device: --data-dir: a device already runs for {one}\n"
        assert ollama.running_url(one) == first.url


# — its command line —


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--data-dir"),
        (["--data-dir", "D"], "--model"),
        (["--data-dir", "D", "--model", "tiny"], "model"),
        (["--data-dir", "D", "--model", "tiny=/no/such/file"], "/no/such/file"),
        (["--data-dir", "D", "--model", f"tiny={__file__}"], "not a readable GGUF"),
        (["--data-dir", "D", "--model", f"tiny={TINY}", "--port", "70000"], "--port"),
        (["--data-dir", "D", "--model", f"tiny={TINY}", "--context", "1"], "--context"),
        (["--data-dir", "D", "--model", f"tiny={TINY}", "--host", "0.0.0.0"], "--host"),
        (["--data-dir", "/proc/none", "--model", f"tiny={TINY}"], "--data-dir"),
        (["--data-dir", "D", "--speed", "9"], "--speed"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_bad_argument_is_refused_in_one_line(tmp_path: Path, arguments: list[str], named: str) -> None:
    command = [sys.executable, "-m", "llm_mcp.embedded.ollama"]
    given = [str(tmp_path) if argument == "D" else argument for argument in arguments]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_taken_port_is_refused_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = ollama.command(tmp_path, TINY_ONLY, port=taken.getsockname()[1])
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--port" in done.stderr


def test_help_says_what_there_is() -> None:
    command = [sys.executable, "-m", "llm_mcp.embedded.ollama", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    for option in ("--data-dir", "--model", "--embed-model", "--host", "--port", "--context"):
        assert option in done.stdout


# — its end —


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_and_cuts_what_runs(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, TINY_ONLY) as device, streaming(device) as rest:
        with sent(device, "/api/generate", LONG) as waiting:
            engines = children(device.process.pid)
            assert engines
            began = time.monotonic()
            device.process.send_signal(number)
            assert device.process.wait(5) == 0
            assert time.monotonic() - began < 2.0
            # Cut, not finished: no last line, no end of the chunks, and for the one that waits nothing at all.
            assert not any(b'"done":true' in line or line == b"0\r\n" for line in rest)
            with contextlib.suppress(ConnectionResetError):
                assert waiting.recv(1) == b""
        assert not any(alive(engine) for engine in engines)
        assert device.process.stdout is not None
        assert device.process.stdout.read() == ""
        assert not (tmp_path / "ollama.json").exists()
