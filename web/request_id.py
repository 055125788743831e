"""What a request is called: `X-Request-ID`, the client's own when it fits, else ours, on every answer and log line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import uuid_utils.compat
from werkzeug.wsgi import ClosingIterator

from llm_mcp import logs

HEADER = "X-Request-ID"
_FITS = re.compile(r"[A-Za-z0-9._-]{1,128}")
_NAME = HEADER.lower().encode()
_IN_HEAD = re.compile(rb"\r\n%s[ \t]*:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)" % _NAME, re.IGNORECASE)


def chosen(said: str | None) -> str:
    """Return what the client said when it fits, else a new UUIDv7."""
    return said if said is not None and _FITS.fullmatch(said) else str(uuid_utils.compat.uuid7())


def of_head(head: bytes) -> str:
    """Return the id of a request whose head is this, as far as it came. Two of them are none."""
    said = _IN_HEAD.findall(head) if _NAME in head.lower() else []  # mostly there is none
    return chosen(said[0].decode("latin-1") if len(said) == 1 else None)


class Named:
    """WSGI middleware that puts the id on every answer of an application.

    Under the server the id is known before there is a WSGI request; without one it is made here.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        known = logs.request_id() if "gunicorn.socket" in environ else None
        name = known or chosen(environ.get("HTTP_X_REQUEST_ID"))

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*headers, (HEADER, name)], *rest)

        if known is not None:
            return self._app(environ, start)
        logs.bind_request(name)
        try:
            return ClosingIterator(self._app(environ, start), lambda: logs.bind_request(None))
        except BaseException:
            logs.bind_request(None)
            raise
