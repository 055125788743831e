"""Who may be calling: a web page must not reach a door that has no keys through its reader's browser.

On loopback the Host must be one of loopback's own names (a page whose name was pointed at 127.0.0.1 sends its own),
and a request that a browser made for a page must come from a page of ours. `allowed_hosts` names further hosts.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, request

from llm_mcp.config import Settings

from .reply import answer

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:@/?#\[\]]+)(:[0-9]+)?")
_OWN = frozenset({"localhost", "127.0.0.1", "::1"})


def install(app: Flask, settings: Settings) -> None:
    """Have every request looked at before anything else is done with it."""
    host = settings.http_host_port[0]
    app.extensions["guard"] = Guard(settings.host_names, loopback=_is_loopback(host), bound=host.lower())
    app.before_request(_look)


class Guard:
    """What Host and Origin may say.

    Parameters: `allowed`, further host names in lower case; `loopback`, whether we listen on loopback only; `bound`,
    the host we listen on.
    """

    def __init__(self, allowed: frozenset[str], *, loopback: bool, bound: str) -> None:
        self._known = _OWN | allowed | {bound}
        self._allowed = allowed
        self._loopback = loopback

    def refusal(self, host: str, origin: str | None) -> tuple[int, dict[str, str]] | None:
        """Return status and body of the refusal of a request with these headers, None when it may pass.

        Beyond loopback any Host passes: what machines there are called is not for us to know.
        """
        name = _HOST.fullmatch(host.lower())
        if self._loopback and (name is None or name[1].strip("[]") not in self._known):
            said = "not a name of this server; LLM_MCP_ALLOWED_HOSTS adds names"
            return 421, {"error": "misdirected_request", "message": said, "field": "Host"}
        if origin is not None and not self._is_ours(origin, host):
            said = "pages of other sites may not call this server; LLM_MCP_ALLOWED_HOSTS adds names"
            return 403, {"error": "origin_not_allowed", "message": said, "field": "Origin"}
        return None

    def _is_ours(self, origin: str, host: str) -> bool:
        try:
            place = urlsplit(origin).netloc.lower()
        except ValueError:
            return False
        name = _HOST.fullmatch(place)
        return name is not None and (place == host.lower() or name[1] in self._allowed)


def _look() -> Response | None:
    guard: Guard = current_app.extensions["guard"]
    refused = guard.refusal(request.headers.get("Host", "localhost"), request.headers.get("Origin"))
    return None if refused is None else answer(refused[1], refused[0])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
