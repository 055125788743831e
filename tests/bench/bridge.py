"""What the MCP bridge costs: an echo by a worker over HTTP and stdio, in both eras; many who wait; memory; a stop.

Prints figures and asserts none. Everything is a process of its own, as when it serves.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import mcp
from mcp import StdioServerParameters

from llm_mcp import config
from llm_mcp.client import Client
from llm_mcp.config import Settings, child_environment
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store.migrate import migrate
from tests.conftest import new_scratch
from tests.integration.mcp.served import Bridge
from tests.integration.rpc.served import Served
from tests.integration.web.played import Player

Era = Literal["auto", "legacy"]
_ERAS: dict[Era, str] = {"auto": "2026-07-28", "legacy": "2025-11-25"}
_WAITED = "bench.waited"
_WORK_S = 1.0
_LOOK = "  one look at a job"
_ECHO = "  an echo submitted and waited for"
_TWO = "  the same in two calls"
_LEASE_S = 600.0


def run(calls: int, waiters: int) -> None:
    """Measure and print. Parameters: `calls` of each sort one after the other; `waiters` at once."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with _everything() as (settings, bridge, runtime):
        _alone(settings, calls)
        for era, version in _ERAS.items():
            for name, place in (("HTTP", bridge.mcp), ("stdio", _stdio(settings))):
                asyncio.run(_serial(f"{name} {version}", place, era, calls))
        for era in _ERAS:
            asyncio.run(_together(bridge.mcp, era, Jobs(runtime), Player(runtime), waiters))
        print(f"memory of the bridge after that: {_resident_mib(bridge.pid):.0f} MiB")
        job_id = Jobs(runtime).submit(Submission(kind=_WAITED))
        waiting = threading.Thread(target=lambda: asyncio.run(_one(bridge.mcp, str(job_id))))
        waiting.start()
        time.sleep(_WORK_S)  # a figure, not a test: the call is there by then
        code, seconds = bridge.stop()
        waiting.join()
        print(f"SIGTERM with a call in flight: exit {code} after {seconds:.2f} s")


@contextmanager
def _everything() -> Iterator[tuple[Settings, Bridge, Runtime]]:
    """Give a bridge before a gRPC door, with a worker behind."""
    scratch = new_scratch("bench-bridge")
    try:
        with ExitStack() as stack:
            server = stack.enter_context(EmbeddedPostgres(scratch / "data"))
            migrate(server.dsn)
            settings = config.load(
                db_dsn=server.dsn,
                data_dir=scratch / "none",
                grpc_addr="127.0.0.1:0",
                mcp_addr="127.0.0.1:0",
                local_ollama=False,
                log_level="WARNING",
                mcp_calls_per_minute=10**6,
            )
            door = stack.enter_context(Served(settings, scratch / "rpc.log"))
            settings = settings.model_copy(update={"grpc_addr": door.target})
            stack.enter_context(_worker(settings))
            bridge = stack.enter_context(Bridge(settings, scratch / "mcp.log"))
            runtime = Runtime(settings)
            stack.callback(runtime.close)
            yield settings, bridge, runtime
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _worker(settings: Settings) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "llm_mcp", "worker"], env=child_environment(settings), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _alone(settings: Settings, calls: int) -> None:
    """Measure the same without the bridge: what is over this, it costs."""
    with Client(settings.grpc_addr) as core:
        looks, echoes = [], []
        first = core.submit("echo", n=1)
        for _ in range(calls):
            began = time.perf_counter()
            first.job()
            looks.append((time.perf_counter() - began) * 1000)
        for _ in range(calls):
            began = time.perf_counter()
            core.submit("echo", n=1).wait(timeout=30)
            echoes.append((time.perf_counter() - began) * 1000)
    print("gRPC alone, without the bridge")
    _say(_LOOK, looks)
    _say(_ECHO, echoes)


def _stdio(settings: Settings) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=["-m", "llm_mcp", "mcp", "--stdio"], env=child_environment(settings)
    )


async def _serial(name: str, place: Any, era: Era, calls: int) -> None:
    began = time.perf_counter()
    async with mcp.Client(place, mode=era) as client:
        job_id = await _echo(client)
        connected_ms = (time.perf_counter() - began) * 1000
        print(f"{name}: connected, and a first echo, in {connected_ms:.0f} ms")
        _say(_LOOK, [await _took_ms(client.call_tool("llm_job_status", {"job_id": job_id})) for _ in range(calls)])
        _say(_ECHO, [await _took_ms(_echo(client)) for _ in range(calls)])
        _say(_TWO, [await _took_ms(_echo_in_two(client)) for _ in range(calls)])


async def _took_ms(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return (time.perf_counter() - began) * 1000


async def _echo(client: mcp.Client) -> str:
    """Have a worker answer an echo; return the job's id."""
    told = await client.call_tool("llm_submit", {"kind": "echo", "params_json": '{"n":1}', "wait_s": 30})
    job = told.structured_content or {}
    assert job["status"] == "done", told
    return str(job["job_id"])


async def _echo_in_two(client: mcp.Client) -> None:
    """The same, for whoever has other things to do meanwhile."""
    made = await client.call_tool("llm_submit", {"kind": "echo", "params_json": '{"n":1}'})
    job_id = (made.structured_content or {})["job_id"]
    told = await client.call_tool("llm_job_status", {"job_id": job_id, "wait_s": 30})
    assert (told.structured_content or {})["status"] == "done", told


async def _together(place: str, era: Era, jobs: Jobs, player: Player, waiters: int) -> None:
    """Have so many calls of one client wait for jobs that end a second after the last has begun to wait."""
    ids = [str(jobs.submit(Submission(kind=_WAITED))) for _ in range(waiters)]
    attempts = [player.claim(None, _WAITED, lease_s=_LEASE_S) for _ in ids]
    errors = 0

    def end() -> None:
        time.sleep(_WORK_S)
        for attempt in attempts:
            attempt.done({})

    async def wait(client: mcp.Client, job_id: str) -> None:
        nonlocal errors
        try:
            told = await client.call_tool("llm_job_status", {"job_id": job_id, "wait_s": 30})
            errors += (told.structured_content or {}).get("status") != "done"
        except Exception as error:  # noqa: BLE001 - it is counted, whatever it is
            errors += 1
            print(f"  {type(error).__name__}")

    async with mcp.Client(place, mode=era) as client:
        await client.list_tools()
        ending = threading.Thread(target=end)
        began = time.perf_counter()
        ending.start()
        await asyncio.gather(*(wait(client, job_id) for job_id in ids))
        seconds = time.perf_counter() - began
        ending.join()
    print(f"{waiters} calls at once, {_ERAS[era]}, of work of {_WORK_S:g} s: {seconds:.2f} s, {errors} errors")


async def _one(place: str, job_id: str) -> None:
    async with mcp.Client(place, mode="legacy") as client:
        told = await client.call_tool("llm_job_status", {"job_id": job_id, "wait_s": 45})
        print(f"who waited was told: {(told.structured_content or {}).get('status', told.content)}")


def _say(what: str, took_ms: list[float]) -> None:
    steps = statistics.quantiles(took_ms, n=100)
    print(f"{what}: p50 {statistics.median(took_ms):.1f} ms, p95 {steps[94]:.1f} ms, p99 {steps[98]:.1f} ms")


def _resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
