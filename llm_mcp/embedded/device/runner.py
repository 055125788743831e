"""The parent's side of one loaded model: starts the engine process, speaks to it, ends it."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from .call import Call
from .catalog import CatalogModel

_ENGINE = Path(__file__).with_name("engine.py")
_LOAD_S = 300.0
_PAGE = 256  # llama.cpp rounds a context up to whole pages of this many tokens
_MAX_LINE = 64 * 2**20
_MAX_FOLDER = 70  # of the 104 bytes a socket's path may have on every system

_log = logging.getLogger(__name__)


class EngineRefused(Exception):
    """llama.cpp refused a request.

    `status` is its HTTP status, `body` its answer as sent, `message` the sentence inside.
    """

    def __init__(self, status: int, body: str) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.message = body
        with contextlib.suppress(ValueError, KeyError, TypeError):
            self.message = str(json.loads(body)["error"]["message"])


class EngineGone(Exception):
    """The process that held the model is not there any more, or never came up; the text says which."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)

    def cut(self) -> None:
        """Break the exchange from another thread; llama.cpp then gives the request up."""
        with contextlib.suppress(OSError):
            if self.sock is not None:
                self.sock.shutdown(socket.SHUT_RDWR)


class Runner:
    """One model in memory, as a child process. Used by one thread at a time, the one whose turn it is; but any may
    `close` it.

    The process is started at once and can be asked after `await_ready`. `context` is what it loads, tokens.
    """

    def __init__(self, model: CatalogModel, context: int) -> None:
        self.context = -(-context // _PAGE) * _PAGE
        # Only this user may enter the folder: the socket has no other lock.
        self._folder = tempfile.mkdtemp(prefix="llm-mcp-", dir=_short_folder())
        self._socket = str(Path(self._folder, "llama.sock"))
        order = {
            "model": str(model.path.resolve()),
            "socket": self._socket,
            "context": self.context,
            "embedding": model.embedding,
            "mean": not model.header.pools,
        }
        self._name = model.name
        self._ready = False
        # Without our own folder among those that modules are looked for in.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_ENGINE), json.dumps(order)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    @property
    def alive(self) -> bool:
        """Whether the model is loaded and its process still runs."""
        return self._ready and self._process.poll() is None

    def await_ready(self) -> None:
        """Wait until the model is loaded. Raises EngineGone when it does not load."""
        began = time.monotonic()
        with selectors.DefaultSelector() as selector:
            pipe = self._process.stdout
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ)
                if selector.select(_LOAD_S) and pipe.readline() == b"ready\n":
                    self._ready = True
                    took = time.monotonic() - began
                    _log.info("loaded %s: %d tokens of context, %.2f s", self._name, self.context, took)
                    return
        self._process.kill()
        code = self._process.wait()
        how = f"signal: {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        raise EngineGone(f"llama-server process has terminated: {how}")

    def close(self) -> None:
        """End the process at once; its memory is free when this returns."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def tokens(self, text: str, *, special: bool) -> list[int]:
        """Return the text's tokens; `special` adds the model's own marks, such as the one of a beginning."""
        answer = self._ask("/tokenize", {"content": text, "add_special": special, "parse_special": True})
        return [int(token) for token in answer["tokens"]]

    def rendered(self, conversation: dict[str, Any]) -> str:
        """Return the prompt that the model's chat template makes of `messages` (and `tools`, template arguments)."""
        return str(self._ask("/apply-template", conversation)["prompt"])

    def vector(self, tokens: list[int], call: Call) -> list[float]:
        """Return the normalised vector of a text. Raises Cancelled when the call is given up meanwhile."""
        answer = self._ask("/v1/embeddings", {"input": tokens}, call)
        return [float(number) for number in answer["data"][0]["embedding"]]

    def stream(self, path: str, body: dict[str, Any], call: Call) -> Generator[dict[str, Any], None, None]:
        """Yield the events of a streamed request as they come.

        Raises Cancelled when the call is given up, EngineRefused, and EngineGone when the process dies.
        """
        body = {**body, "stream": True, "return_progress": True}
        with self._exchange(path, body, call) as answer:
            while line := answer.readline(_MAX_LINE):
                kind, _, text = line.partition(b": ")
                if kind == b"error" or text.startswith(b'{"error"'):
                    raise EngineRefused(500, text.decode())
                if kind == b"data" and not text.startswith(b"[DONE]"):
                    yield json.loads(text)

    def _ask(self, path: str, body: dict[str, Any], call: Call | None = None) -> Any:
        with self._exchange(path, body, call or Call()) as answer:
            return json.loads(answer.read())

    @contextlib.contextmanager
    def _exchange(self, path: str, body: dict[str, Any], call: Call) -> Iterator[http.client.HTTPResponse]:
        connection = _Connection(self._socket)
        try:
            with contextlib.closing(connection):
                connection.connect()  # not under the next line: a cut of what is not there yet would be lost
                with call.breaking(connection.cut):
                    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
                    with connection.getresponse() as answer:
                        if answer.status != http.client.OK:
                            raise EngineRefused(answer.status, answer.read().decode("utf-8", "replace"))
                        yield answer
        except (OSError, http.client.HTTPException) as error:
            call.check()
            raise EngineGone("an error was encountered while running the model: unexpected EOF") from error
        # A cut exchange may end as if it were complete.
        call.check()


def _short_folder() -> str | None:
    """Return where sockets go: the usual place, unless its path is too long for one."""
    return None if len(tempfile.gettempdir()) <= _MAX_FOLDER else "/tmp"  # noqa: S108 - a private folder is made in it
