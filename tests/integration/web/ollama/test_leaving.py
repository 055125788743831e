"""A client of a stream that leaves before there was a word: its place is free, its job stays."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

from tests.contract.provider_peer import Line, Peer
from tests.integration.web.door import Door
from tests.waiting import until

TAGS = json.dumps({"models": [{"name": "play:latest", "model": "play:latest"}]}).encode()
BODY = json.dumps({"model": "play", "prompt": "hi"}).encode()
REQUEST = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


def listing(line: Line) -> None:
    line.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(TAGS), TAGS))


def test_a_client_that_leaves_before_the_first_word_gives_its_place_back(open_door: Callable[..., Door]) -> None:
    def queued() -> int:
        status, told = door.call("GET", "/v1/jobs?kind=ollama.generate&status=queued")
        assert status == 200
        return len(told["items"])

    def accepted() -> bool:
        with socket.create_connection((door.host, door.port), timeout=20) as client:
            client.sendall(REQUEST)
            return until(lambda: queued() == 2 or _refused(client)) and queued() == 2

    with Peer(listing) as peer:
        door = open_door(ollama_base_url=peer.url, max_streams=1)
        with socket.create_connection((door.host, door.port), timeout=20) as client:
            client.sendall(REQUEST)
            until(lambda: queued() == 1)
            status, told = door.call("POST", "/api/generate", BODY)
            assert (status, list(told)) == (503, ["error"])
        until(accepted)


def _refused(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(4096).startswith(b"HTTP/1.1 503 ")
    except BlockingIOError:
        return False
