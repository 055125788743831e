"""`llm-mcp up` as a process of its own, and what tests ask of it over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_mcp import config
from llm_mcp.config import Settings
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from tests.conftest import new_scratch
from tests.waiting import until

TINY = Path(__file__).parent.parent / "gguf" / "tiny.gguf"
COMMAND = [sys.executable, "-m", "llm_mcp"]


@dataclass(frozen=True)
class Frame:
    """One server-sent event: its name, its id ("" without one) and its data."""

    event: str
    id: str
    data: Any


def frames(url: str, *, last_event_id: str = "", timeout_s: float = 60.0) -> Iterator[Frame]:
    """Yield the events of a stream until it ends. Comments and `retry:` are left out."""
    request = urllib.request.Request(url, headers={"Last-Event-ID": last_event_id} if last_event_id else {})
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        fields: dict[str, str] = {}
        for raw in answer:
            line = raw.decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            else:
                if "data" in fields:
                    yield Frame(fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"]))
                fields = {}


def call(method: str, url: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Return (status, JSON) of one request; `body` is any JSON value, or bytes as they are."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@dataclass
class Up:
    """One running `llm-mcp up`."""

    settings: Settings
    process: subprocess.Popen[str]
    url: str = ""
    lines: list[str] = field(default_factory=list)

    def post(self, kind: str, payload: Any = None, **fields: Any) -> str:
        """Submit a job by REST and return its id."""
        status, told = call("POST", f"{self.url}/v1/jobs", {"kind": kind, "payload": payload or {}, **fields})
        assert status == 202, told
        return str(told["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """Return the job object."""
        status, job = call("GET", f"{self.url}/v1/jobs/{job_id}")
        assert status == 200, job
        return dict(job)

    def finished(self, job_id: str, *, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until a job is done or in error and return it."""

        def look() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["status"] in ("done", "error") else None

        found = until(look, timeout_s=timeout_s, every_s=0.05)
        assert found is not None
        return found

    def follow(self, job_id: str, **options: Any) -> Iterator[Frame]:
        """Yield the job's stream."""
        return frames(f"{self.url}/v1/jobs/{job_id}/stream", **options)

    def children(self) -> dict[int, str]:
        """Return the living child processes: their command lines by pid."""
        return living(lambda command, parent: parent == self.process.pid)

    def child(self, word: str) -> int:
        """Return the pid of the one child whose command line has this word."""
        return until(lambda: next((pid for pid, command in self.children().items() if word in command), 0))

    def jobs(self) -> Jobs:
        """Return the jobs service over its database; the caller closes `.runtime`."""
        return Jobs(Runtime(self.settings))

    def stop(self, *, timeout_s: float = 60.0) -> int:
        """Ask it to stop, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=timeout_s)
        self.lines += out.splitlines()
        return self.process.returncode


def living(wanted: Any) -> dict[int, str]:
    """Return command lines by pid of the processes for which `wanted(command, parent pid)` is true; no zombies."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z" and wanted(command, int(fields[1])):
            found[int(entry.name)] = command
    return found


def wait_gone(wanted: Any, *, pids: Collection[int] = (), timeout_s: float = 30.0) -> None:
    """Wait until no such process, and none of these pids, lives; fail with the command lines of those that do."""
    end = time.monotonic() + timeout_s
    while left := living(wanted) | {pid: line for pid, line in living(lambda *_: True).items() if pid in pids}:
        assert time.monotonic() < end, f"still alive: {left}"
        time.sleep(0.05)


def start_up(data_dir: Path, *arguments: str, wait: bool = True, **chosen: Any) -> Up:
    """Start `llm-mcp up` over this data directory with the tiny model, and wait for its ready line.

    The MCP bridge is left out, for those who are not about it, unless `--mcp` is among the arguments.
    """
    arguments = arguments if "--mcp" in arguments else ("--no-mcp", *arguments)
    settings = config.load(
        **{
            "data_dir": data_dir,
            "http_addr": "127.0.0.1:0",
            "grpc_addr": "127.0.0.1:0",
            "mcp_addr": "127.0.0.1:0",
            "lease_s": 3.0,
            "reap_s": 0.2,
            "poll_s": 0.2,
            "local_ollama": False,
            "embedded_model": TINY,
            "modules": "tests.acceptance.slow_words",
            **chosen,
        }
    )
    root = Path(__file__).parent.parent.parent
    process = subprocess.Popen(
        [*COMMAND, "up", *arguments],
        env={**config.child_environment(settings), "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    up = Up(settings, process)
    if wait:
        assert process.stdout is not None
        line = process.stdout.readline().rstrip("\n")
        assert line.startswith("ready http://127.0.0.1:"), (line, process.poll())
        up.lines.append(line)
        up.url = line.removeprefix("ready ")
    return up


class Scratch:
    """A folder for data directories, and the `up`s started in it; all gone at the end."""

    def __init__(self) -> None:
        self.path = new_scratch("up")
        self._started: list[Up] = []

    def up(self, *arguments: str, **chosen: Any) -> Up:
        """Start one, as `start_up` does; always over the same data directory unless told otherwise."""
        made = start_up(chosen.pop("data_dir", self.path / "data"), *arguments, **chosen)
        self._started.append(made)
        return made

    def close(self) -> None:
        """Stop what runs and remove the folder."""
        for up in self._started:
            if up.process.poll() is None:
                up.stop()
            if up.process.stdout is not None:
                up.process.stdout.close()
        wait_gone(lambda command, _: str(self.path) in command)
        shutil.rmtree(self.path, ignore_errors=True)


def kill(pid: int, number: int = signal.SIGKILL) -> float:
    """Send a signal and return the monotonic instant of it, s."""
    os.kill(pid, number)
    return time.monotonic()
