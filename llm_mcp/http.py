"""The wire to other machines: HTTP calls that another thread can cut while they wait.

A call of minutes cannot be stopped by an exception: its thread sleeps in the kernel. So the socket is shut down under
it, whether it waits for headers, for a body or for the next line of a stream. Answers are bounded in bytes and in
silence, redirects are never followed, and whatever goes wrong is said once, here, in our own words.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx2  # noqa: TID251 - this is the one module that may
import orjson

from .config import installed_version
from .errors import Cut, ProviderError

MAX_BYTES = 128 * 2**20
MAX_LINE_BYTES = 16 * 2**20

_NOT_VALID = "the provider's address or a header is not valid"
_LIMITS = httpx2.Limits(max_connections=4, max_keepalive_connections=4, keepalive_expiry=20.0)
# A machine that was switched off says nothing more, ever: ask it every 5 s after 15 s of silence, give up after 30 s.
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (
            ("TCP_KEEPIDLE", 15),
            ("TCP_KEEPINTVL", 5),
            ("TCP_KEEPCNT", 3),
            ("TCP_USER_TIMEOUT", 30_000),
        )
        if hasattr(socket, name)
    ),
]


@functools.cache
def _tls() -> ssl.SSLContext:
    """The system's trust store, read once: it takes 20 ms."""
    return httpx2.create_ssl_context(trust_env=False)


class Wire:
    """An HTTP client for one thread at a time, kept between jobs so that connections are reused.

    Parameters: `read_timeout_s`, the longest silence of a peer, s; `connect_timeout_s`, for each of its addresses, s;
    `max_bytes` and `max_line_bytes`, the largest answer and the longest line of one, bytes.

    Owned by the thread that calls; `cut`, the function that `arm` returns and `wait_cut` are for any thread. Nothing
    opens before the first call.
    """

    def __init__(
        self,
        *,
        read_timeout_s: float,
        connect_timeout_s: float = 5.0,
        max_bytes: int = MAX_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self.max_bytes = max_bytes
        self.max_line_bytes = max_line_bytes
        self._timeout = httpx2.Timeout(read_timeout_s, connect=connect_timeout_s).as_dict()
        self._headers = {
            "accept": "*/*",
            "accept-encoding": "identity",
            "user-agent": f"llm-mcp/{installed_version()}",
        }
        transport = httpx2.HTTPTransport(verify=_tls(), trust_env=False, limits=_LIMITS, socket_options=[*_KEEPALIVE])
        self._transport = transport
        self._finalizer = weakref.finalize(self, transport.close)  # who drops it leaves no socket open
        self._mutex = threading.Lock()
        self._cut = threading.Event()
        self._sockets: list[socket.socket] = []
        self._handshaking: socket.socket | None = None

    def arm(self) -> Callable[[], None]:
        """Make the wire ready for the next job; return the function that cuts this job's calls and no later one's."""
        with self._mutex:
            self._cut = threading.Event()
            return functools.partial(self._cut_job, self._cut)

    def cut(self) -> None:
        """Stop the running call, and every further one until `arm`: each raises Cut. At once, from any thread.

        A call that is still connecting is stopped when it is through, at the latest after the connect time-out.
        """
        self._cut_job(self._cut)

    def check(self) -> None:
        """Raise Cut when the wire is cut."""
        if self._cut.is_set():
            raise Cut("the call was cut")

    def wait_cut(self, timeout_s: float) -> bool:
        """Wait until the wire is cut, at most `timeout_s` (s); return whether it is."""
        return self._cut.wait(timeout_s)

    @contextlib.contextmanager
    def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Iterator[Answer]:
        """Send one request and give its answer, which lives until the block ends.

        Parameters: `headers` on top of our own; `body`, JSON text. Leaving the block before the body was read to its
        end closes the connection, which tells the peer to stop.
        Raises Cut; ProviderError with code `unreachable`, `timeout` or `broken_stream` (all retryable) when the peer
        fails, `bad_request` when the address or a header is no good. Its text names host and port, nothing else.
        """
        self.check()
        try:
            target = httpx2.URL(url)
            if target.scheme not in ("http", "https") or not target.host:
                raise ValueError
            extra = {"content-type": "application/json"} if body is not None else {}
            request = httpx2.Request(
                method,
                target,
                headers={**self._headers, **extra, **_basic(target), **(headers or {})},
                content=body,
                extensions={"timeout": self._timeout, "trace": functools.partial(self._trace, target.scheme)},
            )
        except (httpx2.InvalidURL, ValueError):
            raise ProviderError(_NOT_VALID, retryable=False, code="bad_request") from None
        origin = f"{target.host}:{target.port or {'https': 443}.get(target.scheme, 80)}"
        with self.foreign_errors(origin):
            response = self._transport.handle_request(request)
        try:
            yield Answer(self, response, origin)
        finally:
            response.close()

    @contextlib.contextmanager
    def foreign_errors(self, origin: str) -> Iterator[None]:
        """Turn the HTTP library's errors into ours; `origin` is the peer's HOST:PORT. For `request` and its answer."""
        try:
            yield
        except (httpx2.HTTPError, UnicodeError) as error:
            self.check()
            raise _in_our_words(error, origin) from None

    def close(self) -> None:
        """Close the connections; for the owning thread."""
        self._transport.close()
        with self._mutex:
            self._sockets.clear()
            self._let_go()

    # — the sockets —

    def _cut_job(self, job: threading.Event) -> None:
        with self._mutex:
            if job is not self._cut:
                return
            job.set()
            for open_socket in self._sockets:
                _shut(open_socket)

    def _trace(self, scheme: str, event: str, info: Mapping[str, Any]) -> None:
        """Learn of every new connection; the HTTP library calls this in the owning thread."""
        if event == "connection.connect_tcp.complete":
            connected = info["return_value"].get_extra_info("socket")
            with self._mutex:
                if scheme == "https":  # the TLS layer takes the descriptor over; a double reaches it meanwhile
                    connected = self._handshaking = connected.dup()
                self._hold(connected)
        elif event in ("connection.start_tls.complete", "connection.start_tls.failed"):
            with self._mutex:
                self._let_go()
                if event.endswith("complete"):
                    self._hold(info["return_value"].get_extra_info("socket"))

    def _hold(self, new: socket.socket) -> None:
        self._sockets = [*(held for held in self._sockets if held.fileno() >= 0), new]
        if self._cut.is_set():
            _shut(new)

    def _let_go(self) -> None:
        if self._handshaking is not None:
            self._handshaking.close()
            self._handshaking = None


class Answer:
    """An answer as it comes in. The body can be read once, whole or by lines.

    `status` is the HTTP status, `headers` its headers with names in lower case.
    """

    def __init__(self, wire: Wire, response: httpx2.Response, origin: str) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        self._wire = wire
        self._response = response
        self._origin = origin

    def read(self) -> bytes:
        """Return the whole body.

        Raises ProviderError as `Wire.request`, and one that is not retryable when the body is over the wire's limit.
        """
        return b"".join(self._chunks())

    def lines(self) -> Iterator[bytes]:
        """Yield the body's lines as they come, without their ends; a last line without an end counts too.

        Raises as `read`.
        """
        rest: list[bytes] = []
        held = 0
        for chunk in self._chunks():
            *whole, tail = chunk.split(b"\n")
            if whole:
                whole[0] = b"".join([*rest, whole[0]])
                rest, held = [], 0
            rest.append(tail)
            held += len(tail)
            if max(held, *map(len, whole), 0) > self._wire.max_line_bytes:
                raise self._too_large("a line", self._wire.max_line_bytes)
            for line in whole:
                self._wire.check()
                yield line.removesuffix(b"\r")
        if held:
            yield b"".join(rest)

    def _chunks(self) -> Iterator[bytes]:
        encoding = self.headers.get("content-encoding", "identity")
        if encoding != "identity":  # not asked for: small on the wire may be anything in memory
            if self.status < 400:
                words = f"{self._origin} answered in an encoding that was not asked for"
                raise ProviderError(words, retryable=False, status=self.status)
            return
        received = 0
        with self._wire.foreign_errors(self._origin):
            for chunk in self._response.iter_raw():
                self._wire.check()
                received += len(chunk)
                if received > self._wire.max_bytes:
                    raise self._too_large("the answer", self._wire.max_bytes)
                yield chunk
        self._wire.check()  # a socket that was shut can look like a clean end

    def _too_large(self, what: str, limit: int) -> ProviderError:
        return ProviderError(f"{self._origin}: {what} is over {limit} bytes", retryable=False, status=self.status)


def get_json(url: str, *, timeout_s: float, max_bytes: int) -> Any:
    """Ask a peer for a small JSON document, to see whether and what it is; return the document's value.

    Parameters: `timeout_s`, the time the peer has in all, s, however slowly it drips; `max_bytes`, the largest body.
    Raises ProviderError: as `Wire.request`, `timeout` when the time is over, `provider_failed` when it answers another
    status than 200 or no JSON.
    """
    wire = Wire(read_timeout_s=timeout_s, connect_timeout_s=timeout_s, max_bytes=max_bytes)
    watchdog = threading.Timer(timeout_s, wire.cut)
    watchdog.daemon = True
    watchdog.start()
    try:
        with wire.request("GET", url) as answer:
            if answer.status != 200:
                raise ProviderError(f"answered {answer.status}", retryable=answer.status >= 500, status=answer.status)
            return orjson.loads(answer.read())
    except Cut:
        raise ProviderError(f"no whole answer within {timeout_s:g} s", retryable=True, code="timeout") from None
    except orjson.JSONDecodeError:
        raise ProviderError("answered no JSON", retryable=False) from None
    finally:
        watchdog.cancel()
        wire.close()


def _shut(open_socket: socket.socket) -> None:
    """Wake whoever waits on the socket: reads end, writes fail. Never closes it: that is its owner's to do."""
    with contextlib.suppress(OSError):
        # Not the method of an SSLSocket: it would drop the encryption first, and a write that runs at that very
        # moment would go out in plain text.
        socket.socket.shutdown(open_socket, socket.SHUT_RDWR)


def _basic(url: httpx2.URL) -> dict[str, str]:
    """Return the header for credentials an address carries; in the address itself they would reach logs."""
    if not url.userinfo:
        return {}
    pair = f"{url.username}:{url.password}".encode()
    return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _in_our_words(error: Exception, origin: str) -> ProviderError:
    """Return our error for one of the HTTP library's, whose own text may hold a header or a whole address."""
    match error:
        case httpx2.ConnectTimeout():
            return ProviderError(f"{origin}: no connection in time", retryable=True, code="unreachable")
        case httpx2.ConnectError():
            return ProviderError(f"{origin}: cannot connect: {_os_words(error)}", retryable=True, code="unreachable")
        case httpx2.TimeoutException():
            return ProviderError(f"{origin}: silent for too long", retryable=True, code="timeout")
        case httpx2.LocalProtocolError():
            return ProviderError(_NOT_VALID, retryable=False, code="bad_request")
        case UnicodeError():
            return ProviderError(f"{origin}: not a host name", retryable=False, code="bad_request")
    return ProviderError(f"{origin}: the connection broke", retryable=True, code="broken_stream")


def _os_words(error: BaseException) -> str:
    """Return the operating system's words for a failed connection, such as "Connection refused"."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return (cause.strerror if isinstance(cause, OSError) else None) or "no answer"
