"""Who may be calling: a web page must not reach a door that has no keys through its reader's browser.

On loopback the Host must be one of loopback's own names (a page whose name was pointed at 127.0.0.1 sends its own),
and a request that a browser made for a page must come from a page of ours. Pure words; each door asks for itself.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:@/?#\[\]]+)(:[0-9]+)?")
_OWN = frozenset({"localhost", "127.0.0.1", "::1"})


class Guard:
    """What Host and Origin may say.

    Parameters: `allowed`, further host names in lower case; `bound`, the host we listen on.
    """

    def __init__(self, allowed: frozenset[str], *, bound: str) -> None:
        self._known = _OWN | allowed | {bound.lower()}
        self._allowed = allowed
        self._loopback = is_loopback(bound)

    @property
    def hosts(self) -> frozenset[str] | None:
        """The names by which we may be called, None for any: what machines beyond loopback are called, who knows."""
        return self._known if self._loopback else None

    def refusal(self, host: str, origin: str | None) -> tuple[int, dict[str, str]] | None:
        """Return status and body of the refusal of a request with these headers, None when it may pass."""
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


def is_loopback(host: str) -> bool:
    """Return whether who listens on this host is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
