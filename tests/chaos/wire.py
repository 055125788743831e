"""Ways to Postgres that can be disturbed: held up, broken, or robbed of replies to what the server did.

A wire that is held keeps what was sent and delivers it when it is let go, as a network does that comes back: a write
then arrives long after its sender lost the right to it, or died.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.chaos.network import Severed

_CHUNK = 65536
# First bytes of messages that carry a statement (Query, Parse, Bind): the handshake before them is no request.
_STATEMENTS = b"QPB"


class Wires:
    """A context manager: the thread that all wires run on."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wires", daemon=True)
        self._wires: list[Wire] = []

    def __enter__(self) -> Wires:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def to(self, dsn: str, rng: random.Random, address: str = "") -> Wire:
        """Lay a wire to the server of this DSN, which will see it come from this address of our host."""
        wire = asyncio.run_coroutine_threadsafe(Wire.lay(self._loop, dsn, rng, address), self._loop).result(10)
        self._wires.append(wire)
        return wire

    async def _end(self) -> None:
        for wire in self._wires:
            wire.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)


class Wire:
    """One way to a server; its methods may be called from any thread. `dsn` leads by it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dsn: str, rng: random.Random, address: str) -> None:
        parts = conninfo_to_dict(dsn)
        self._loop = loop
        self._rng = rng
        self._target = (str(parts["host"]), int(str(parts["port"])))
        self._direct = dsn
        self._from = (address, 0) if address else None
        self._severed = Severed(address)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._refuses = False
        self._losing = 0.0
        self._open: set[asyncio.StreamWriter] = set()
        self.lost = 0
        """Replies lost so far."""

    @classmethod
    async def lay(cls, loop: asyncio.AbstractEventLoop, dsn: str, rng: random.Random, address: str) -> Wire:
        """Return a wire that listens."""
        wire = cls(loop, dsn, rng, address)
        wire._server = await asyncio.start_server(wire._connected, "127.0.0.1", 0)
        wire._port = wire._server.sockets[0].getsockname()[1]
        return wire

    @property
    def dsn(self) -> str:
        """DSN of the same database by way of this wire."""
        return make_conninfo(self._direct, host="127.0.0.1", port=self._port)

    def hold(self) -> None:
        """Keep whatever is sent, either way."""
        self._do(self._flows.clear)

    def sever(self) -> None:
        """Keep whatever is sent, and have no packet of the server's arrive: it cannot tell that from a dead peer."""
        self.hold()
        self._severed.begin()

    def cut(self) -> None:
        """Break every connection and let no new one through."""
        self._refuses = True
        self._do(self._break)

    def lose(self, share: float) -> None:
        """Deliver requests, but lose this share of their replies, and the connection with each."""
        self._losing = share

    def restore(self) -> None:
        """Be a good wire again."""
        self._refuses = False
        self._losing = 0.0
        self._severed.end()
        self._do(self._flows.set)

    def close(self) -> None:
        """Be gone; on the loop's own thread."""
        if self._server is not None:
            self._server.close()
        self._refuses = True
        self._flows.set()
        self._break()

    def _do(self, action: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(action)

    def _break(self) -> None:
        for side in self._open:
            side.transport.abort()

    async def _connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            if self._refuses:
                raise ConnectionRefusedError
            server, to_server = await asyncio.open_connection(*self._target, local_addr=self._from)
            _watch(to_server.get_extra_info("socket"))
        except OSError:
            to_client.transport.abort()
            return
        link = _Link(to_client, to_server)
        self._open |= {to_client, to_server}
        try:
            await asyncio.gather(self._requests(client, link), self._replies(server, link))
        except OSError:
            link.abort()
        finally:
            self._open -= {to_client, to_server}
            for side in (to_client, to_server):
                side.close()

    async def _requests(self, client: asyncio.StreamReader, link: _Link) -> None:
        while data := await client.read(_CHUNK):
            await self._flows.wait()
            link.asked = data[0] in _STATEMENTS
            link.to_server.write(data)
            await link.to_server.drain()
        await self._flows.wait()
        with contextlib.suppress(OSError):
            link.to_server.write_eof()

    async def _replies(self, server: asyncio.StreamReader, link: _Link) -> None:
        while data := await server.read(_CHUNK):
            await self._flows.wait()
            if link.asked and self._losing and self._rng.random() < self._losing:
                self.lost += 1
                link.abort()
                return
            link.to_client.write(data)
            await link.to_client.drain()
        await self._flows.wait()
        link.to_client.close()


def _watch(upstream: socket.socket) -> None:
    """Have the kernel tell of a server that is not there any more, as the client's own would without us between."""
    upstream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        for option, value in ((socket.TCP_KEEPIDLE, 3), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3)):
            upstream.setsockopt(socket.IPPROTO_TCP, option, value)


class _Link:
    """One connection through a wire."""

    def __init__(self, to_client: asyncio.StreamWriter, to_server: asyncio.StreamWriter) -> None:
        self.to_client = to_client
        self.to_server = to_server
        self.asked = False

    def abort(self) -> None:
        """Break both halves."""
        self.to_client.transport.abort()
        self.to_server.transport.abort()
