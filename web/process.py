"""One serving process: gunicorn's thread worker, in which threads are for whole requests only.

Its main thread accepts, collects requests and handles signals; a request that is whole gets a thread of its own. It
says goodbye to streams, dies with its master and echoes nothing.
"""

from __future__ import annotations

import errno
import re
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import FrameType
from typing import Any

from gunicorn import http as gunicorn_http  # type: ignore[import-untyped] # gunicorn ships no types
from gunicorn.glogging import Logger  # type: ignore[import-untyped] # as above
from gunicorn.http import errors as http  # type: ignore[import-untyped] # as above
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped] # as above

from llm_mcp import logs

from . import refusals, request_id
from .errors import unforeseen
from .incoming import HEAD_TOO_LARGE, URI_TOO_LONG
from .refusals import Refusal
from .streams import Streams
from .waiting import Connection, Waiting

# What gunicorn refuses before there is a request for the application; everything else of the sort is a 400.
_REFUSALS: dict[type[Exception], Refusal] = {
    http.LimitRequestLine: URI_TOO_LONG,
    http.LimitRequestHeaders: HEAD_TOO_LARGE,
    http.ExpectationFailed: Refusal("417 Expectation Failed", "expectation_failed", "Expect can be 100-continue only"),
    http.UnsupportedTransferCoding: Refusal(
        "501 Not Implemented", "unsupported_transfer_coding", "Transfer-Encoding can be chunked only"
    ),
}
_UNREADABLE = Refusal("400 Bad Request", "bad_request", "the request could not be read")
_FAULT = Refusal("500 Internal Server Error", "internal_error", "internal error")
# These are answered whatever else every thread is busy with.
_PROBE = re.compile(rb"[A-Z]+ /(?:health|version|livez|readyz)[ ?]")
_PROBE_THREADS = 8
# With hundreds of busy streams the main thread waits for its turn; a fifth of Python's default, s.
_SWITCH_S = 0.001
# How long a whole request waits for a thread, s.
_PATIENCE_S = 10.0
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
TOLD = 256
"""So many more than the limit are told that there is no place; beyond, they are hung up on."""


class Process(ThreadWorker):  # type: ignore[misc] # gunicorn ships no types
    """A process of many threads. `cfg.most_connections` is set by the server, as is `cfg.limit_bytes`."""

    def init_process(self) -> None:
        """Make what watches connections; gunicorn makes the rest, and runs."""
        sys.setswitchinterval(_SWITCH_S)
        self._probes = ThreadPoolExecutor(_PROBE_THREADS, thread_name_prefix="probe")
        self._working = 0
        self._unserved: deque[tuple[float, Future[bool]]] = deque()
        self._waiting: Waiting | None = None
        super().init_process()

    @property
    def waiting(self) -> Waiting:
        """Whoever watches the connections nobody works for."""
        if self._waiting is None:
            limits = self.app.limits
            self._waiting = Waiting(
                self.poller,
                limit_bytes=limits.body_bytes,
                keep_s=self.cfg.keepalive,
                hand_over=self.enqueue_req,
                on_close=self._closed,
            )
        return self._waiting

    # — connections, in the main thread —

    def accept(self, listener: Any) -> None:
        """Take a new connection in; over the limit, another makes room, or it is told so."""
        if not self._accepting:  # the door was closed earlier in this very turn of the main loop
            return
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in _NONE_LEFT:
                if not self.waiting.make_room():
                    self.set_accept_enabled(False)  # until the next turn of the main loop
            elif error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
                raise
            return
        if self.nr_conns >= self.app.limits.connections + TOLD:
            client.close()
            return
        self.nr_conns += 1
        conn = self.waiting.meet(self.cfg, client, address, listener.getsockname())
        over = self.nr_conns - self.waiting.lingering > self.app.limits.connections
        if over and not self.waiting.make_room():
            self.waiting.refuse(conn, refusals.FULL)
        else:
            self.waiting.welcome(conn)

    def enqueue_req(self, conn: Connection) -> None:
        """Give a whole request a thread."""
        incoming = conn.incoming
        conn.parser = gunicorn_http.get_parser(self.cfg, incoming, conn.client)
        pool = self._probes if _PROBE.match(incoming.line) else self.tpool
        try:
            future = pool.submit(self.handle, conn)
        except RuntimeError:  # told to leave at once
            self.waiting.linger(conn)
            return
        self._working += 1
        if self._working > self.cfg.threads:  # it may have to wait for one of them
            self._unserved.append((time.monotonic() + _PATIENCE_S, future))
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def finish_request(self, conn: Connection, fs: Future[bool]) -> None:
        """Take a connection back from its thread."""
        self._working -= 1
        if fs.cancelled():
            self.waiting.refuse(conn, refusals.BUSY)
        elif fs.exception() is None and fs.result():
            self.waiting.keep(conn)
        else:
            self.waiting.linger(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        """Part with connections whose time is over. gunicorn calls it in each turn."""
        now = time.monotonic()
        while self._unserved and now >= self._unserved[0][0]:
            self._unserved.popleft()[1].cancel()  # one that runs by now goes on
        self.waiting.look(all_of_them=force)
        if force:
            self._probes.shutdown(wait=False)

    def _cap_keepalive(self, deadline: float) -> None:
        self.waiting.stop(deadline)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Turn once; often enough for deadlines while anybody has one."""
        super().wait_for_and_dispatch_events(min(timeout, 0.25) if self.nr_conns else timeout)

    def _closed(self) -> None:
        self.nr_conns -= 1

    # — signals —

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

    # — requests, each in its thread —

    def handle(self, conn: Connection) -> bool:
        """Serve one request and return whether its connection may ask again."""
        logs.bind_request(request_id.of_head(conn.incoming.head))
        try:
            return bool(super().handle(conn))
        finally:
            logs.bind_request(None)

    def handle_request(self, req: Any, conn: Connection) -> Any:
        """Serve it; where its body was not taken, the next request's beginning is unknown."""
        req._expected_100_continue = False  # whoever collected the body said it
        if not conn.incoming.whole:
            req.force_close()
        return super().handle_request(req, conn)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        # What the application did not read of a body is in memory: passing over it costs nothing.
        return bool(keepalive and conn.parser.finish_body())

    def handle_error(self, _req: Any, client: Any, _addr: Any, exc: BaseException) -> None:
        """Answer in our shape what could not be read as HTTP; gunicorn would repeat it, and in the log too."""
        if isinstance(exc, http.ParseException | http.NoMoreData):
            refusal = _REFUSALS.get(type(exc), _UNREADABLE)
        else:
            unforeseen(exc)
            refusal = _FAULT
        with suppress(OSError):  # it went away
            client.sendall(refusals.answer(refusal, name=logs.request_id() or request_id.chosen(None)))


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
