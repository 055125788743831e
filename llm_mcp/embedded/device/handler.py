"""One HTTP connection to the device: requests read one after another, answered, streamed."""

from __future__ import annotations

import contextlib
import http.server
import io
import ipaddress
import logging
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llm_mcp.ollama_words.wire import Lines, Refusal, encode

from .call import Call, Cancelled
from .inlet import BodyRefused, Inlet, body, has_body
from .routes import ROUTES, Handler

if TYPE_CHECKING:
    from .server import DeviceServer

_IDLE_S = 60.0
_HEADERS_S = 10.0
_WRITE_S = 30.0
_LINGER_S = 2.0
_MAX_LINE = 65536
_JSON = "application/json; charset=utf-8"
_PLAIN = "text/plain"

_log = logging.getLogger(__name__)


class ConnectionHandler(http.server.BaseHTTPRequestHandler):
    """Serves one connection in its own thread, until either side ends it or it falls silent."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: DeviceServer

    def setup(self) -> None:
        """Read through our own inlet, which keeps time."""
        super().setup()
        self._inlet = Inlet(self.connection)
        self.rfile = io.BufferedReader(self._inlet)
        self._begun = False

    def handle(self) -> None:
        """Answer requests until the connection ends."""
        # Silence, a broken pipe, a client that left: nobody is there to be told.
        with contextlib.suppress(OSError, Cancelled):
            super().handle()

    def handle_one_request(self) -> None:
        """Read one request and answer it."""
        self.close_connection = True
        self._begun = False
        self._inlet.within(_IDLE_S)
        self.raw_requestline = self.rfile.readline(_MAX_LINE + 1)
        self._inlet.within(_HEADERS_S)
        if len(self.raw_requestline) > _MAX_LINE:
            self.requestline = self.request_version = self.command = ""
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
        elif self.raw_requestline and self.parse_request():
            self._route()

    def _route(self) -> None:
        path = self.path.partition("?")[0]
        methods = ROUTES.get(path)
        if not _meant(self.headers.get("Host", ""), self.headers.get("Origin")):
            self._unread(403, b"")
        elif path == "/" and self.command in ("GET", "HEAD"):
            self._reply(200, b"Ollama is running", f"{_PLAIN}; charset=utf-8")
        elif methods is None:
            self._unread(404, b"404 page not found")
        elif self.command not in methods:
            self._unread(405, b"405 method not allowed")
        else:
            self._answer(path, methods[self.command])

    def _answer(self, path: str, handler: Handler) -> None:
        call = Call()
        try:
            raw = body(self._inlet, self.rfile, self.headers)
            with self.server.watch.over(self.connection, call):
                answer = handler(self.server.residents, raw, call)
                if isinstance(answer, dict):
                    self._reply(200, encode(answer), _JSON)
                else:
                    self._stream(answer)
        except Refusal as refusal:
            self.close_connection = self.close_connection or isinstance(refusal, BodyRefused)
            if refusal.status >= 500:
                _log.warning("%s: %d", path, refusal.status)
            self._reply(refusal.status, encode({"error": refusal.text}), _JSON)
        except (OSError, Cancelled):
            raise
        except Exception as error:  # noqa: BLE001 - the door: a fault of ours is a 500, not a silent hang-up
            # Not its text, which may hold what the caller wrote.
            _log.error("%s failed: %s", path, type(error).__name__)
            self.close_connection = True
            if not self._begun:
                self._reply(500, encode({"error": "internal error"}), _JSON)

    def _stream(self, lines: Lines) -> None:
        with contextlib.closing(lines):
            # What goes wrong before the first line still is an answer with a status.
            line = next(lines)
            chunked = self.request_version != "HTTP/1.0"
            self.close_connection = self.close_connection or not chunked
            self._head(200, "application/x-ndjson", {"Transfer-Encoding": "chunked"} if chunked else {})
            try:
                self._line(line, chunked=chunked)
                for line in lines:
                    self._line(line, chunked=chunked)
            except Refusal as refusal:
                self._line({"error": refusal.text}, chunked=chunked)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _line(self, value: dict[str, Any], *, chunked: bool) -> None:
        data = encode(value) + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)

    def _unread(self, status: int, text: bytes) -> None:
        """Answer without reading the body, if there is one."""
        self.close_connection = self.close_connection or has_body(self.headers)
        self._reply(status, text, _PLAIN)

    def _reply(self, status: int, data: bytes, kind: str) -> None:
        self._head(status, kind, {"Content-Length": str(len(data))})
        if self.command != "HEAD":
            self.wfile.write(data)
        if self.close_connection:
            self._linger()

    def _head(self, status: int, kind: str, headers: dict[str, str]) -> None:
        self._begun = True
        self.connection.settimeout(_WRITE_S)
        self.send_response(status)
        for name, value in ({"Content-Type": kind} | headers).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _linger(self) -> None:
        """Let a client that still sends read the answer: closing under it would throw the answer away."""
        self.connection.shutdown(socket.SHUT_WR)
        self._inlet.within(_LINGER_S)
        buffer = bytearray(65536)
        while self._inlet.readinto(buffer):
            pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 - the base class calls it so
        """Answer a request that could not be read, in plain text."""
        self.close_connection = True
        self.request_version = self.protocol_version
        self._reply(code, f"{int(code)} {HTTPStatus(code).phrase}".encode(), _PLAIN)

    def version_string(self) -> str:
        """Return the `Server` header."""
        return self.server.signature

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name for it
        """Keep requests out of the log."""


def _meant(host: str, origin: str | None) -> bool:
    """Return whether a request means this device: not a page of some website that a browser here is showing."""
    if origin is not None and not (origin.startswith(("http://", "https://")) and _local(origin.partition("://")[2])):
        return False
    return _local(host, any_address=True)


def _local(authority: str, *, any_address: bool = False) -> bool:
    """Return whether HOST[:PORT] is this machine, by name or address; `any_address` lets every IP address pass."""
    try:
        name = urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return False
    if name in ("", "localhost", socket.gethostname().lower()) or name.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return any_address or address.is_loopback
