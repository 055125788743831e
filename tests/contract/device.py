"""The embedded device as a process of its own, and what tests ask of it over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

import pytest

from llm_mcp.embedded import ollama
from llm_mcp.embedded.device.catalog import ModelFile

from .device_models import TINY, TINY_EMBED, write_talkers

LONG = {"model": "tiny", "prompt": "the cat", "options": {"temperature": 0, "num_predict": 20_000}}
"""A body whose answer takes longer than any test waits."""
SHORT = {"model": "tiny", "prompt": "hello", "stream": False, "options": {"num_predict": 1}}
"""A body that is answered at once, in whole."""
_START_S = 30.0


@dataclass(frozen=True)
class Device:
    """One running device."""

    url: str
    process: subprocess.Popen[str]
    data_dir: Path
    idle_threads: int

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def connections(self) -> int:
        """Return how many connections it serves: each has a thread."""
        return _threads(self.process.pid) - self.idle_threads

    def loaded(self) -> list[str]:
        """Return the names of the models in memory, the one that stays longest first."""
        return [model["name"] for model in ask(self, "GET", "/api/ps").json["models"]]


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; `lines` are the objects of a streamed one."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        """The body as one JSON value."""
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        """The body as NDJSON, every line of it valid."""
        assert self.body.endswith(b"\n")
        return [json.loads(line.decode("utf-8", "strict")) for line in self.body.splitlines()]

    @property
    def error(self) -> str:
        """The text of an error, which is all an error holds."""
        (name, text), *others = self.json.items()
        assert name == "error"
        assert not others
        assert isinstance(text, str)
        return text


class Listening(Protocol):
    """Something that can be asked: the device, or what stands before it."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        ...


def ask(device: Listening, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """Return the answer to one request on a connection of its own; `body` is any JSON value, or bytes as they are."""
    connection = http.client.HTTPConnection(*device.address, timeout=60)
    try:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


@contextmanager
def sent(device: Listening, path: str, body: Any) -> Iterator[socket.socket]:
    """Send a POST and give the connection, unread; hang up at the end."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    with socket.create_connection(device.address, timeout=60) as connection:
        connection.sendall(head.encode() + data)
        yield connection


@contextmanager
def running(data_dir: Path, models: dict[str, ModelFile], *extra: str) -> Iterator[Device]:
    """Start a device, wait until it is ready, and end it in the end."""
    command = [*ollama.command(data_dir, models), *extra]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        alarm = threading.Timer(_START_S, process.kill)
        alarm.start()
        try:
            assert process.stdout is not None
            word, url = process.stdout.readline().split()
            assert word == "ready"
            alarm.cancel()
            yield Device(url, process, data_dir, _threads(process.pid))
        finally:
            alarm.cancel()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def streaming(device: Listening, body: dict[str, Any] = LONG) -> Iterator[Iterator[bytes]]:
    """Ask for a stream and wait for its first piece; give the lines that follow, hang up at the end."""
    with sent(device, "/api/generate", body) as connection, connection.makefile("rb") as file:
        next(line for line in file if line.startswith(b'{"model"'))
        yield _lines(file)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield every line of the stream, the mark of its end last, if it comes."""
    for line in file:
        if line.startswith(b"{"):
            yield line
        if line == b"0\r\n":
            yield line
            return


def children(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((process / "stat").read_text().rpartition(") ")[2].split()[1]) == pid:
                found.append(int(process.name))
    return found


def alive(pid: int) -> bool:
    """Return whether a process runs, a zombie not counted."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


def processor_s(pid: int) -> float:
    """Return how long a process has computed, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A device with `tiny`, `tiny-embed`, and the talkers `caller`, `thinker` and `filler`."""
    folder = tmp_path_factory.mktemp("device")
    models = {"tiny": ModelFile(TINY), "tiny-embed": ModelFile(TINY_EMBED)}
    models |= {name: ModelFile(file) for name, file in write_talkers(folder).items()}
    with running(folder, models) as found:
        yield found
