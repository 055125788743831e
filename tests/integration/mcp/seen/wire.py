"""Calls of tools as bytes over HTTP, in either era: for hanging up, and for what no client of the SDK would send."""

from __future__ import annotations

import http.client
import itertools
import json
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

NEWEST, HANDSHAKE = "2026-07-28", "2025-11-25"
_ids = itertools.count(100)
_META = "io.modelcontextprotocol/"


class Call:
    """A request to `/mcp` that was sent, and is not answered yet."""

    def __init__(self, url: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        self.id = body.get("id")
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        base = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        self._connection.request("POST", "/mcp", body=json.dumps(body).encode(), headers=base | headers)
        self._answer: http.client.HTTPResponse | None = None

    def __enter__(self) -> Call:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Leave without a word."""
        if self._answer is not None:
            self._answer.close()
        self._connection.close()

    @property
    def answer(self) -> http.client.HTTPResponse:
        """The head of the answer, once it is there."""
        if self._answer is None:
            self._answer = self._connection.getresponse()
        return self._answer

    def messages(self) -> list[dict[str, Any]]:
        """Return the JSON-RPC messages of the answer, to its end."""
        lines = self.answer.read().decode().splitlines()
        if self.answer.headers.get_content_type() == "application/json":
            return [json.loads("\n".join(lines))]
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]

    def result(self) -> dict[str, Any]:
        """Return the result in the answer."""
        last = self.messages()[-1]
        assert "result" in last, last
        return dict(last["result"])


class Session:
    """One client's way to a bridge, in an era. In that of handshakes it has a session there."""

    def __init__(self, url: str, era: str, *, capabilities: dict[str, Any] | None = None) -> None:
        self._url = url
        self._modern = era == "auto"
        self._capabilities = capabilities or {}
        self.headers = {"MCP-Protocol-Version": NEWEST if self._modern else HANDSHAKE}
        if not self._modern:
            hello = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
            with self._post("initialize", hello) as call:
                self.headers["Mcp-Session-Id"] = call.answer.headers["mcp-session-id"]
                call.messages()
            with self._post("notifications/initialized", {}, told=True) as call:
                assert call.answer.status == 202

    def call(self, tool: str, arguments: dict[str, Any], **meta: Any) -> Call:
        """Call a tool."""
        return self.ask("tools/call", {"name": tool, "arguments": arguments}, name=tool, **meta)

    def ask(self, method: str, params: dict[str, Any], *, name: str = "", **meta: Any) -> Call:
        """Send a request; `name` is what its `Mcp-Name` header says, in the era that has one."""
        whole = dict(meta)
        headers = {}
        if self._modern:
            whole[f"{_META}protocolVersion"] = NEWEST
            whole[f"{_META}clientCapabilities"] = self._capabilities
            headers = {"Mcp-Method": method} | ({"Mcp-Name": name} if name else {})
        return self._post(method, params | ({"_meta": whole} if whole else {}), headers=headers)

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification."""
        with self._post(method, params, told=True) as call:
            assert call.answer.status == 202

    def end(self) -> None:
        """End the session, where there is one."""
        connection = http.client.HTTPConnection(urlsplit(self._url).netloc, timeout=60)
        connection.request("DELETE", "/mcp", headers=self.headers)
        assert connection.getresponse().status in (200, 204)
        connection.close()

    def _post(
        self, method: str, params: dict[str, Any], *, told: bool = False, headers: dict[str, str] | None = None
    ) -> Call:
        body: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if not told:
            body["id"] = next(_ids)
        return Call(self._url, body, self.headers | (headers or {}))
