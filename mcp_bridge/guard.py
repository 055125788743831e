"""What every request to the bridge goes past, MCP or not: who calls, how much, how often, in what form.

It stands outside the SDK, whose own checks are of its own path only. Refusals are JSON: on the plain paths in the form
of all our errors, at /mcp as JSON-RPC errors with that in their `data`.
"""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Mapping
from typing import Any

import anyio
import orjson
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_mcp.callers import Guard as Callers
from llm_mcp.config import Settings

from .pace import Pace
from .principal import LOCAL, Principal, acting
from .tokens import Tokens

log = logging.getLogger(__name__)

MCP_PATH = "/mcp"
HEALTH_PATHS = frozenset({"/health", "/healthz"})
_REALM = 'Bearer realm="llm-mcp"'
_REFUSED, _TOO_OFTEN = -32000, -32005
# Of a body over the limit so much is read, bytes and s, before its sender is told: else many see no answer.
_READ_PAST_BYTES, _READ_PAST_S = 64 * 2**20, 5.0
_WORDS = {404: ("not_found", "no such path"), 405: ("method_not_allowed", "not with this method")}


class _Over(Exception):
    """The body is over the limit. Parameter: `more`, whether more of it may come."""

    def __init__(self, *, more: bool) -> None:
        super().__init__()
        self.more = more


class Refused(Exception):
    """A request that goes no further.

    Parameters: `status`; `body`, our error; further `headers` of the answer.
    """

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(body["error"])
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


class Guard:
    """The application behind its guard. Parameters: `app`; `settings`; `tokens`, None where nobody needs one."""

    def __init__(self, app: ASGIApp, settings: Settings, tokens: Tokens | None) -> None:
        self._app = app
        self._callers = Callers(settings.host_names, bound=settings.mcp_host_port[0])
        self._tokens = tokens
        self._pace = Pace(settings.mcp_calls_per_minute)
        self._limit_bytes = settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            headers = Headers(scope=scope)
            principal = self._look(scope, headers)
            if (told := _length(headers)) > self._limit_bytes:
                # Who waits to be told to go on has sent nothing yet.
                raise _Over(more=told <= _READ_PAST_BYTES and "expect" not in headers)
            with acting(principal):
                await self._app(self._known(scope, principal), self._limited(receive), sending)
        except Refused as refused:
            await _refuse(scope, send, refused)
        except HTTPException as error:
            word, words = _WORDS.get(error.status_code, ("bad_request", error.detail))
            await _refuse(scope, send, Refused(error.status_code, {"error": word, "message": words}, error.headers))
        except _Over as over:
            if started:
                raise
            if over.more:
                await _read_past(receive)
            words = f"the body is over the limit of {self._limit_bytes} bytes"
            body = {"error": "body_too_large", "message": words}
            await _refuse(scope, send, Refused(413, body, {"connection": "close"}))
        except Exception as error:
            if started:
                raise
            where = "".join(traceback.format_tb(error.__traceback__))  # not its words: a client's may be among them
            log.error(
                "request failed", extra={"action": "request_failed", "error": type(error).__name__, "where": where}
            )
            await _refuse(scope, send, Refused(500, {"error": "internal_error", "message": "internal error"}))

    def _look(self, scope: Scope, headers: Headers) -> Principal:
        """Return who makes this request. Raises Refused."""
        refused = self._callers.refusal(headers.get("host", ""), headers.get("origin"))
        if refused is not None:
            raise Refused(*refused)
        if scope["path"] in HEALTH_PATHS:
            return LOCAL
        principal = self._principal(headers.get("authorization", ""))
        if wait_s := self._pace.wait_s(principal.name):
            words = "too many requests; LLM_MCP_CALLS_PER_MINUTE is the limit"
            body = {"error": "rate_limited", "message": words}
            raise Refused(429, body, {"retry-after": str(math.ceil(wait_s))})
        if scope["method"] == "POST" and _has_body(headers) and not _is_json(headers.get("content-type", "")):
            body = {"error": "unsupported_media_type", "message": "must be application/json", "field": "Content-Type"}
            raise Refused(415, body)
        return principal

    def _principal(self, authorization: str) -> Principal:
        if self._tokens is None:
            return LOCAL
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            body = {"error": "unauthorized", "message": "a bearer token is needed", "field": "Authorization"}
            raise Refused(401, body, {"www-authenticate": _REALM})
        found = self._tokens.find(token.strip())
        if found is None:
            body = {"error": "unauthorized", "message": "no such token", "field": "Authorization"}
            raise Refused(401, body, {"www-authenticate": f'{_REALM}, error="invalid_token"'})
        return found

    def _known(self, scope: Scope, principal: Principal) -> Scope:
        """Return the request as the application gets it: by names in lower case, and with its user for the SDK.

        The SDK binds sessions to that user, and lets no other use them. No token goes in.
        """
        named = [
            (name, value.lower() if name in (b"host", b"origin") else value)
            for name, value in scope["headers"]
            if name != b"authorization"
        ]
        # With an `app` what is not found is raised, for us to answer.
        changed = {**scope, "headers": named, "app": self._app}
        if self._tokens is not None:
            held = AccessToken(token="", client_id=principal.name, scopes=sorted(principal.scopes))
            changed["user"] = AuthenticatedUser(held)
        return changed

    def _limited(self, receive: Receive) -> Receive:
        read = 0

        async def receiving() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit_bytes:
                raise _Over(more=bool(message.get("more_body")))
            return message

        return receiving


async def _read_past(receive: Receive) -> None:
    """Read the rest of a body that is refused, within reason: its sender may hear us then."""
    left = _READ_PAST_BYTES
    with anyio.move_on_after(_READ_PAST_S):
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if not message.get("more_body"):
                return


async def _refuse(scope: Scope, send: Send, refused: Refused) -> None:
    body: Mapping[str, Any] = refused.body
    if scope["path"].rstrip("/") == MCP_PATH:
        code = _TOO_OFTEN if refused.status == 429 else _REFUSED
        error = {"code": code, "message": body["message"], "data": body}
        body = {"jsonrpc": "2.0", "id": None, "error": error}
    text = orjson.dumps(body)
    headers = {"content-type": "application/json", "content-length": str(len(text)), **refused.headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else text})


def _length(headers: Headers) -> int:
    told = headers.get("content-length", "0")
    return int(told) if told.isascii() and told.isdigit() and len(told) <= 20 else 0


def _has_body(headers: Headers) -> bool:
    return _length(headers) > 0 or "transfer-encoding" in headers


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"
