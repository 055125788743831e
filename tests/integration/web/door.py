"""The HTTP door in a process of its own, as it really serves, and raw connections to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from llm_mcp import config
from llm_mcp.config import Settings
from tests.integration.web.frames import Frame, parse, split
from tests.waiting import until

ROOT = Path(__file__).parents[3]
# Every stream of a test has ended by then, s.
_LONGEST_S = 150.0
_SERVE = """
import sys
from llm_mcp.config import load
from llm_mcp.web.server import serve
serve(load(), processes=int(sys.argv[1]), fd=int(sys.argv[2]) if sys.argv[2] else None)
"""


class Door:
    """A running web process. `url` is what its ready line said; `log` what it wrote to standard error so far."""

    def __init__(
        self,
        settings: Settings,
        *,
        address: str = "127.0.0.1:0",
        processes: int = 1,
        fd: int | None = None,
        log: Path | None = None,
    ) -> None:
        environment = config.child_environment(settings.model_copy(update={"http_addr": address}))
        self._log = log or Path(os.devnull)
        with self._log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, str(processes), "" if fd is None else str(fd)],
                env={**environment, "PYTHONPATH": str(ROOT)},
                cwd="/",
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=() if fd is None else (fd,),
            )
        line = self.out.readline().decode()
        assert line.startswith("ready http://"), (line, self.process.wait(10), self.log)
        self.url = line.split()[1]
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.host, self.port = parts.hostname, parts.port

    @property
    def out(self) -> IO[bytes]:
        """Its standard output."""
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        return self._log.read_text(errors="replace")

    def call(
        self, method: str, path: str, body: Any = None, *, timeout_s: float = 20.0, **headers: str
    ) -> tuple[int, Any]:
        """Return (status, JSON) of one request on a connection of its own; `body` is any JSON value, or bytes."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def submit(self, kind: str = "echo", payload: Any = None, **fields: Any) -> str:
        """Submit a job and return its id."""
        status, told = self.call("POST", "/v1/jobs", {"kind": kind, "payload": payload or {}, **fields})
        assert status == 202, told
        return str(told["job_id"])

    def exchange(self, request: bytes, *, timeout_s: float = 20.0) -> tuple[int, dict[str, str], bytes]:
        """Send raw bytes, half-close nothing, and return (status, headers in lower case, body) of the answer."""
        with socket.create_connection((self.host, self.port), timeout=timeout_s) as connection:
            connection.sendall(request)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def watch(self, job_id: str, *, after: str = "", receive_bytes: int | None = None) -> Watch:
        """Open a stream of a job."""
        return Watch(self, job_id, after=after, receive_bytes=receive_bytes)

    def pids(self) -> list[int]:
        """Return the pids of the serving processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def terminate(self) -> float:
        """Ask it to stop, wait for its end and return how long that took, s."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        return time.monotonic() - began

    def kill(self) -> None:
        """kill -9, the serving processes too, and wait until they are gone."""
        pids = self.pids()
        for pid in (self.process.pid, *pids):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        until(lambda: not any(alive(pid) for pid in pids))

    def close(self) -> None:
        """Stop it when it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        self.out.close()


class Watch:
    """One open stream on a socket of its own; `status` is the answer's, `frames` its events as they come."""

    def __init__(self, door: Door, job_id: str, *, after: str = "", receive_bytes: int | None = None) -> None:
        self._end_at = time.monotonic() + _LONGEST_S
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(30)
        self.socket.connect((door.host, door.port))
        last = f"Last-Event-ID: {after}\r\n" if after else ""
        self.socket.sendall(f"GET /v1/jobs/{job_id}/stream HTTP/1.1\r\nHost: localhost\r\n{last}\r\n".encode())
        self._answer = http.client.HTTPResponse(self.socket)
        self._answer.begin()
        self.status = self._answer.status
        self.headers = {name.lower(): value for name, value in self._answer.getheaders()}
        self.frames = parse(self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        while chunk := self._answer.read1(65536):
            assert time.monotonic() < self._end_at, "a stream without an end"  # comments keep it from timing out
            yield chunk

    def next(self) -> Frame:
        """Return the next event."""
        return next(self.frames)

    def until(self, event: str) -> list[Frame]:
        """Return the next events up to the first of this name."""
        found = [self.next()]
        while found[-1].event != event:
            found.append(self.next())
        return found

    def rest(self) -> list[Frame]:
        """Return the events up to the stream's end."""
        return list(self.frames)

    def blocks(self) -> Iterator[bytes]:
        """Yield raw blocks, comments too."""
        return split(self._chunks())

    def json(self) -> Any:
        """Return the body of a stream that was refused."""
        return json.loads(self._answer.read())

    def close(self) -> None:
        """Close the connection."""
        self._answer.close()
        self.socket.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def alive(pid: int) -> bool:
    """Return whether a process lives; one that ended and was not yet taken note of does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
