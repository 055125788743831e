"""The ways to the provider that are compared: straight to it, through us, through LiteLLM's proxy. All are running
programs with ports of their own, and what they cost can be read."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from llm_mcp import config
from llm_mcp.child import follow_owner
from llm_mcp.store.migrate import migrate
from tests.acceptance.running import COMMAND
from tests.waiting import until

from .driving import Broken
from .environments import ROOT, python_of
from .roster import Peer
from .stores import Stores

KEY = "sk-bench"
LITELLM_PORTS = range(20000, 32000)
_START_S = 180.0
_TICKS = os.sysconf("SC_CLK_TCK")
# What a way does not carry by itself, it needs not be told of.
_LITELLM_PEER = Peer(
    "litellm", "LiteLLM proxy", "", 0, 0, frozenset(), "litellm.txt", ("litellm", "uvicorn", "fastapi", "aiohttp")
)
_OURS_PEER = Peer("ours", "llm-mcp", "", 0, 0, shown=("llm-mcp", "gunicorn", "flask", "dramatiq", "psycopg", "httpx2"))


@dataclass(frozen=True)
class SetUp:
    """How our way is started: processes of the web and of the worker, and the threads of each worker process.

    As many of each as LiteLLM has.
    """

    web: int = 2
    workers: int = 2
    threads: int = 512


@dataclass
class Cost:
    """What a part of a way used: CPU seconds since it began, and memory now, MB."""

    cpu_s: float = 0.0
    pss_mb: float = 0.0
    largest_rss_mb: float = 0.0
    """Of its largest process."""


@dataclass
class Way:
    """One way. `parts` are its programs: the pids of their first processes by name."""

    name: str
    label: str
    port: int
    versions: Peer | None = None
    parts: dict[str, int] = field(default_factory=dict)
    start_s: float = 0.0
    """From the start of its programs to its first answer, s."""

    def cost(self) -> dict[str, Cost]:
        """Return what each part has used so far."""
        return {name: _cost(pid) for name, pid in self.parts.items()}


@contextlib.contextmanager
def ours(stores: Stores, provider_port: int, how: SetUp) -> Iterator[Way]:
    """Run `llm-mcp web` and `llm-mcp worker` over a database of their own."""
    dsn = stores.create("proxy")
    migrate(dsn)
    provider = f"http://127.0.0.1:{provider_port}"
    settings = config.load(
        db_dsn=dsn,
        data_dir=stores.scratch / "none",
        http_addr="127.0.0.1:0",
        openai_api_key="bench",
        openai_base_url=f"{provider}/v1",
        ollama_base_url=provider,  # which lists no models
        log_level="WARNING",
        log_format="json",
    )
    environment = {**config.child_environment(settings), "PYTHONPATH": str(ROOT)}
    began = time.monotonic()
    with (
        _program([*COMMAND, "web", "--processes", str(how.web)], environment, stores.scratch / "web.log") as web,
        _program(
            [*COMMAND, "worker", "--processes", str(how.workers), "--threads", str(how.threads)],
            environment,
            stores.scratch / "worker.log",
        ) as worker,
    ):
        url = _said(web, "ready http", stores.scratch / "web.log").split()[1]
        for _ in range(how.workers):
            _said(worker, "ready worker", stores.scratch / "worker.log")
        way = Way("ours", "llm-mcp", int(url.rpartition(":")[2]), _OURS_PEER)
        _answers(way.port, "/health")
        way.start_s = time.monotonic() - began
        way.parts = {"web": web.pid, "worker": worker.pid, "Postgres": _postmaster(dsn)}
        yield way


@contextlib.contextmanager
def litellm(stores: Stores, provider_port: int, models: Iterable[str]) -> Iterator[Way]:
    """Run LiteLLM's proxy with two workers, no database and no callbacks. Raises Skipped, Broken."""
    python = python_of(_LITELLM_PEER)
    base = f"http://127.0.0.1:{provider_port}/v1"
    known = [
        {"model_name": model, "litellm_params": {"model": f"openai/{model}", "api_base": base, "api_key": "bench"}}
        for model in models
    ]
    page = stores.scratch / "litellm.yaml"  # JSON is YAML
    page.write_text(json.dumps({"model_list": known, "general_settings": {"master_key": KEY}}))
    port = _free_port()
    environment = {
        "PATH": f"{python.parent}:{os.environ.get('PATH', '')}",
        "HOME": str(stores.scratch),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "NO_PROXY": "127.0.0.1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [str(python.parent / "litellm"), "--config", str(page), "--host", "127.0.0.1", "--port", str(port)]
    # By default a worker that does not answer within 5 s of its start is killed and started again, on a slow machine
    # for ever.
    command += ["--num_workers", "2", "--timeout_worker_healthcheck", "120", "--telemetry", "False"]
    log = stores.scratch / "litellm.log"
    began = time.monotonic()
    with _program(command, environment, log) as proxy:
        _answers(port, "/health/liveliness", lambda: proxy.poll() is None, log)
        way = Way("litellm", "LiteLLM proxy, 2 workers", port, _LITELLM_PEER, {"proxy": proxy.pid})
        way.start_s = time.monotonic() - began
        yield way


@contextlib.contextmanager
def _program(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the block ends; then it, and whatever it started, is gone."""
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if command[: len(COMMAND)] == COMMAND else stderr,
            stderr=stderr,
            text=True,
            start_new_session=True,
            preexec_fn=follow_owner(signal.SIGKILL),  # noqa: PLW1509 - prctl must run in the child; it takes no lock
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _said(process: subprocess.Popen[str], words: str, log: Path) -> str:
    """Return the next line that a program says, which must begin with these words. Raises Broken."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith(words):
        raise Broken(f"said {line!r}, not {words!r}: {log.read_text(errors='replace')[-500:]}")
    return line


def _answers(port: int, path: str, alive: Callable[[], bool] = lambda: True, log: Path | None = None) -> None:
    """Wait until a server answers 200. Raises Broken."""

    def look() -> bool:
        if not alive():
            raise Broken(f"ended: {log.read_text(errors='replace')[-500:] if log else ''}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        until(look, timeout_s=_START_S, every_s=0.05)
    except AssertionError:
        raise Broken(f"no answer on {path} within {_START_S:g} s") from None


def _postmaster(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        return int(Path(f"/proc/{connection.info.backend_pid}/stat").read_text().rpartition(")")[2].split()[1])


def _cost(first: int) -> Cost:
    """Return what a process and all that it started used; of those that ended, the CPU is in who waited for them."""
    cost, todo = Cost(), [first]
    while todo:
        pid = todo.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            todo += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        kb = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
        cost.cpu_s += sum(map(int, fields[11:15])) / _TICKS
        cost.pss_mb += kb.get("Pss", 0) / 1024
        cost.largest_rss_mb = max(cost.largest_rss_mb, kb.get("Rss", 0) / 1024)
    return cost


def _free_port() -> int:
    while True:
        port = random.choice(LITELLM_PORTS)
        with contextlib.suppress(OSError), socket.socket() as door:
            door.bind(("127.0.0.1", port))
            return port
