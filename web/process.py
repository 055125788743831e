"""One serving process: gunicorn's thread worker, taught to say goodbye, to die with its master and to echo nothing."""

from __future__ import annotations

import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import orjson
from gunicorn.glogging import Logger  # type: ignore[import-untyped] # gunicorn ships no types
from gunicorn.http import errors as http  # type: ignore[import-untyped] # as above
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped] # as above

from .errors import unforeseen
from .streams import Streams

# What gunicorn refuses before there is a request for the application; everything else of the sort is a 400.
_REFUSALS: dict[type[Exception], tuple[str, str]] = {
    http.LimitRequestLine: ("414 URI Too Long", "uri_too_long"),
    http.LimitRequestHeaders: ("431 Request Header Fields Too Large", "headers_too_large"),
    http.ExpectationFailed: ("417 Expectation Failed", "expectation_failed"),
    http.UnsupportedTransferCoding: ("501 Not Implemented", "unsupported_transfer_coding"),
}


class Process(ThreadWorker):  # type: ignore[misc] # gunicorn ships no types
    """A process of many threads. Its main thread accepts and handles signals; requests have threads of their own."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: end open streams in good order; gunicorn itself would cut them."""
        self._say_goodbye()
        super().handle_exit(sig, frame)
        self.method_queue.defer(self._close_door)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT and SIGQUIT: the same, and wait for nothing else."""
        self._say_goodbye()
        super().handle_quit(sig, frame)

    def _close_door(self) -> None:
        """Let the kernel refuse newcomers, or keep them for whoever holds the socket too. For the accepting thread."""
        self.set_accept_enabled(False)
        for door in self.sockets:
            door.close()

    def _say_goodbye(self) -> None:
        # Setting an event in a handler is safe here: the main thread, which it interrupts, never touches this one.
        app = getattr(self, "wsgi", None)
        if app is not None:
            streams: Streams = app.extensions["streams"]
            streams.draining.set()

    def handle(self, conn: Any) -> Any:
        """Serve one request; a connection that ends with it is closed here, in the request's own thread.

        The close waits up to 2 s for the client's side. gunicorn would do it in the thread that accepts everybody.
        """
        stays = super().handle(conn)
        if not stays:
            conn.close(graceful=True)
            conn.close = _closed_already
        return stays

    def handle_error(self, _req: Any, client: Any, _addr: Any, exc: BaseException) -> None:
        """Answer in our shape what could not be read as HTTP; gunicorn would repeat it, and in the log too."""
        if isinstance(exc, http.ParseException | http.NoMoreData):
            line, code = _REFUSALS.get(type(exc), ("400 Bad Request", "bad_request"))
        else:
            unforeseen(exc)
            line, code = "500 Internal Server Error", "internal_error"
        body = orjson.dumps({"error": code, "message": "the request could not be read"})
        head = f"HTTP/1.1 {line}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        with suppress(OSError):  # it went away
            client.sendall(head.encode() + b"\r\n\r\n" + body)


def _closed_already(*, graceful: bool = False) -> None:
    """Do what is left to do with a closed connection."""


class Log(Logger):  # type: ignore[misc] # gunicorn ships no types
    """gunicorn's own words among ours: the same handlers, the same form."""

    def setup(self, cfg: Any) -> None:
        """Hand everything to the root logger."""
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True

    def exception(self, *_args: object, **_kwargs: Any) -> None:
        """Log an error's place without its text; that a client stalled until the kernel gave it up is no error."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, BlockingIOError | TimeoutError):
            unforeseen(error)
