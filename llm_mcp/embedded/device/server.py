"""The listening side of the device, on the standard library's threading server: it alone hands the connection itself
to the handler, which is what noticing a client that hangs up needs, and brings no process model of its own to one
that holds child processes.

What that server leaves open is closed here and in `handler`: threads, headers and bodies are bounded, silence ends,
and a client that does not read is cut.
"""

from __future__ import annotations

import contextlib
import http.server
import logging
import socket
import sys
import threading
from typing import Any

from .call import Watch
from .handler import ConnectionHandler
from .residents import Residents

# More than may wait for a model's turn, and few enough for the usual limit of 1024 open files.
MAX_CONNECTIONS = 600

_log = logging.getLogger(__name__)


class DeviceServer(http.server.ThreadingHTTPServer):
    """Listens from its making on; `serve_forever` answers, `close` ends that and cuts every running call.

    `signature` is its `Server` header. Raises OSError when it cannot listen at `address` (host, port).
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], residents: Residents, *, signature: str) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.residents = residents
        self.signature = signature
        self.watch = Watch()
        self._seats = threading.BoundedSemaphore(MAX_CONNECTIONS)
        try:
            super().__init__(address, ConnectionHandler)
        except BaseException:
            self.watch.close()
            raise

    @property
    def url(self) -> str:
        """Base URL it answers at."""
        return (
            f"http://[{self.server_name}]:{self.server_port}"
            if ":" in self.server_name
            else (f"http://{self.server_name}:{self.server_port}")
        )

    def close(self) -> None:
        """Stop listening and cut every running call. Only while `serve_forever` runs in another thread."""
        self.shutdown()
        self.server_close()
        self.watch.close()

    def server_bind(self) -> None:
        """Bind without asking the resolver for a name, as the base class would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, or refuse it when all are taken."""
        if self._seats.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.settimeout(0)
            request.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._seats.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        """Log that serving a connection failed, without what the error says, which may be a caller's words."""
        _log.error("a connection failed: %s", type(sys.exception()).__name__)
