"""`llm-mcp mcp` as a process of its own, and plain requests to it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from llm_mcp.config import Settings
from tests.integration.serving import Serving
from tests.waiting import until


@dataclass(frozen=True)
class Told:
    """An answer: its status, its headers by lower-case names, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as a JSON value."""
        return json.loads(self.body)


class Place:
    """Where a bridge answers. Parameters: `url`, without `/mcp`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Told:
        """Send one request on a connection of its own; `body` is any JSON value, or bytes as they are.

        Headers are named with `_` for `-`; JSON is said to be so unless they say something else.
        """
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None and not any(name.lower() == "content-type" for name in said):
            said["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            with suppress(BrokenPipeError):  # it had heard enough; its answer is there
                connection.request(method, path, body=data, headers=said)
            answer = connection.getresponse()
            return Told(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def watch(self, path: str, **headers: str) -> Watch:
        """Open a stream of events."""
        return Watch(self.url, path, {name.replace("_", "-"): value for name, value in headers.items()})


class Bridge(Serving, Place):
    """A running bridge. `url` is where, without `/mcp`; `log` what it said on standard error."""

    def __init__(self, settings: Settings, log: Path) -> None:
        Serving.__init__(self, "mcp", settings, log)
        Place.__init__(self, self.line.removeprefix("ready mcp "))

    @property
    def mcp(self) -> str:
        """Where MCP is spoken."""
        return f"{self.url}/mcp"


@dataclass(frozen=True)
class Frame:
    """One server-sent event."""

    event: str
    id: str
    data: Any


class Watch:
    """An open stream of events; `headers` by lower-case names."""

    def __init__(self, url: str, path: str, headers: Mapping[str, str]) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        self._connection.request("GET", path, headers=dict(headers))
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.headers = {name.lower(): value for name, value in self._answer.getheaders()}

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self._answer.close()
        self._connection.close()

    def frames(self) -> Iterator[Frame]:
        """Yield its events until it ends."""
        fields: dict[str, str] = {}
        while line := self._answer.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                yield Frame(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
                fields = {}


@contextmanager
def in_thread(app: Any) -> Iterator[Place]:
    """Serve an application by a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        config = uvicorn.Config(app, http="h11", log_config=None, timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        try:
            until(lambda: server.started)
            yield Place(f"http://127.0.0.1:{door.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive()
