"""Machines that only list models: who works on the jobs for them is the test."""

from __future__ import annotations

import json
from typing import Any

from tests.contract.provider_peer import Line, Peer


class Machine:
    """An Ollama with these models, which answers nothing else. `models` may change."""

    def __init__(self, *models: str) -> None:
        self.models = list(models)
        self.peer = Peer(self._answer)

    def _answer(self, line: Line) -> None:
        path = self.peer.requests[-1].head.split()[1]
        told: dict[str, Any] = {"models": []}
        if path == "/api/tags":
            told = {"models": [{"name": name, "model": name, "size": 7, "digest": "d"} for name in self.models]}
        elif path.endswith("/v1/models"):
            told = {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}
        data = json.dumps(told).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        line.send(head.encode() + data)
