"""The socket of a door of HTTP: opened by whoever shall hold it, handed to whoever serves it."""

from __future__ import annotations

import os
import socket

from .callers import is_loopback
from .config import Settings, split_addr
from .errors import SetupError

BACKLOG = 2048


def opened(settings: Settings) -> socket.socket:
    """Return a socket bound to `settings.http_addr` and listening. Raises as `bound`."""
    return bound(settings.http_addr, "CORE_HTTP_ADDR")


def bound(addr: str, name: str) -> socket.socket:
    """Return a socket bound to `addr`, HOST:PORT, and listening.

    Raises SetupError, one line that begins with `name`, when the address is taken or cannot be had.
    """
    host, port = split_addr(addr, name)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.create_server((str(address[0]), int(address[1])), family=family, backlog=BACKLOG)
        # It must know that it is TCP's, or asyncio lets small answers wait for each other (Nagle), 40 ms each.
        return socket.socket(fileno=made.detach())
    except UnicodeError:
        raise SetupError(f"{name}: {host[:60]!r} is not a host name") from None
    except OSError as error:
        # Python adds words to the system's; a name that cannot be resolved has a number of another sort.
        words = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise SetupError(f"{name}: cannot listen on {addr}: {words}") from None


def bridge(settings: Settings) -> socket.socket:
    """Return a socket bound to `settings.mcp_addr` and listening. Raises as `bound`, and as `require_keys`."""
    require_keys(settings)
    return bound(settings.mcp_addr, "MCP_HTTP_ADDR")


def require_keys(settings: Settings) -> None:
    """Raise SetupError when the bridge is to listen where anybody may call, and asks nobody for a token."""
    if settings.mcp_tokens is None and not is_loopback(settings.mcp_host_port[0]):
        raise SetupError(
            f"MCP_HTTP_ADDR: {settings.mcp_addr} is beyond loopback, where anybody may call: set LLM_MCP_TOKENS"
            " (`llm-mcp mcp token --help`)"
        )


def inherited(fd: int) -> socket.socket:
    """Return the TCP socket with this number, which another process bound.

    Raises SetupError when it is none.
    """
    try:
        door = socket.socket(fileno=fd)
        if door.family in (socket.AF_INET, socket.AF_INET6) and door.type == socket.SOCK_STREAM:
            return door
    except OSError:
        pass
    raise SetupError(f"--fd: {fd} is not a TCP socket")


def address(door: socket.socket) -> str:
    """Return HOST:PORT of a bound socket, with the real port when any free one was asked for."""
    host, port = door.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url(door: socket.socket) -> str:
    """Return the base URL of a bound socket; one bound to every address is shown as loopback."""
    host, _, port = address(door).rpartition(":")
    shown = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - not bound, shown
    return f"http://{shown}:{port}"
