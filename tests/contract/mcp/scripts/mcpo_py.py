"""mcpo: the tools as an OpenAPI server, asked by plain HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from seeing import PATIENCE_S, TOLD, URL, WORDS, Looks, Seen, look


def free_port() -> int:
    """Return a port that nobody listens at, and that no connection is given."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


def ask(url: str, body: Any = None) -> tuple[int, Any]:
    """Return (status, JSON) of a request."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as told:
            return told.status, json.load(told)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def document(base: str, process: subprocess.Popen[bytes]) -> Any:
    """Return the OpenAPI document, as soon as there is one."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask(f"{base}/openapi.json")[1]
        except OSError:
            assert process.poll() is None, "mcpo ended"
            assert time.monotonic() < end, "mcpo does not answer"
            time.sleep(0.1)


def main() -> None:
    """Look at all there is."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "mcpo"), "--host", "127.0.0.1", "--port", str(port)]
    stdio = TOLD["stdio"]
    if WORDS == ["http"]:
        command += ["--server-type", "streamable-http", "--", URL]
    else:
        command += ["--", stdio["command"], *stdio["args"]]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env={**os.environ, **stdio["env"]}, **quiet) as process:
        try:
            seen(f"http://127.0.0.1:{port}", process)
        finally:
            process.terminate()


def seen(base: str, process: subprocess.Popen[bytes]) -> None:
    """Look at all there is of a running one."""
    told = document(base, process)

    async def listed() -> list[Seen]:
        return [
            {
                "name": path.strip("/"),
                "description": methods["post"].get("description"),
                "parameters": _schema(told, methods["post"]),
            }
            for path, methods in told["paths"].items()
        ]

    async def call(name: str, arguments: Seen) -> Seen:
        status, said = await asyncio.to_thread(ask, f"{base}/{name}", arguments)
        texts = [
            one if isinstance(one, str) else json.dumps(one) for one in (said if isinstance(said, list) else [said])
        ]
        structured = said if isinstance(said, dict) and status == 200 else None
        return {"failed": status != 200, "texts": texts, "structured": structured}

    looks = Looks(listed, call)
    asyncio.run(look(looks.tools, looks.chat, looks.job, looks.cancelled, looks.errors))


def _schema(told: Any, operation: Any) -> Any:
    if "requestBody" not in operation:
        return {"properties": {}}
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return told["components"]["schemas"][reference.rpartition("/")[2]]


if __name__ == "__main__":
    main()
