"""Paths that older clients ask the bridge for and the core's HTTP door answers: passed on as they are.

What comes back is status, content type and body of the core. What the client proved itself with stays here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llm_mcp.config import Settings

from .bridge import Handler, answering
from .principal import ADMIN, CLOUD, READ, SUBMIT
from .replies import answer, require

log = logging.getLogger(__name__)

# Path, method, the path there, and the scopes it takes.
_PATHS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("/llm/request", "POST", "/v1/llm/request", (SUBMIT, CLOUD)),  # the core may choose the cloud
    ("/dashboard", "GET", "/v1/dashboard", (READ,)),
    ("/costs/summary", "GET", "/v1/costs/summary", (READ,)),
    ("/costs/balance", "GET", "/v1/costs/balance", (READ,)),
    ("/benchmarks", "GET", "/v1/benchmarks", (READ,)),
    ("/models/stats", "GET", "/v1/models/stats", (READ,)),
    ("/feedback", "POST", "/v1/feedback", (SUBMIT,)),
    ("/knowledge/ingest", "POST", "/v1/knowledge/ingest", (ADMIN,)),
    ("/models/sync", "POST", "/v1/models/sync", (ADMIN,)),
    ("/discovery", "GET", "/v1/discovery", (READ,)),
)
_WITH_QUERY = frozenset({"/costs/summary", "/benchmarks"})
_BACK = ("content-type", "retry-after")
_CONNECT_S = 5.0


class Passing:
    """The core's HTTP door, open while entered. Parameters: `settings`, which say where it is."""

    def __init__(self, settings: Settings) -> None:
        self._base = core_url(settings)
        self._timeout_s = settings.call_timeout_s
        self._http: httpx2.AsyncClient | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Keep connections to the core while entered."""
        timeout = httpx2.Timeout(self._timeout_s, connect=_CONNECT_S)
        # No proxy of the surroundings: the core is ours. And no cookies: what one client is given is not another's.
        none = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        async with httpx2.AsyncClient(base_url=self._base, timeout=timeout, trust_env=False, cookies=none) as http:
            self._http = http
            yield
            self._http = None

    def routes(self) -> list[Route]:
        """Return the paths."""
        return [Route(path, answering(self._passed(to, needs)), methods=[how]) for path, how, to, needs in _PATHS]

    def _passed(self, to: str, needs: tuple[str, ...]) -> Handler:
        async def handler(request: Request) -> Response:
            for scope in needs:
                require(scope)
            if request.url.query and request.url.path not in _WITH_QUERY:
                return answer({"error": "not_found", "message": "this path takes no query"}, 404)
            return await self._ask(request, to)

        return handler

    async def _ask(self, request: Request, to: str) -> Response:
        if self._http is None:
            return _away("not connected")
        said = request.headers.get("content-type")
        try:
            told = await self._http.request(
                request.method,
                f"{to}?{request.url.query}" if request.url.query else to,
                content=await request.body() or None,
                headers={"content-type": said} if said else None,
            )
        except httpx2.TimeoutException:
            return _away("it did not answer in time")
        except httpx2.TransportError as error:
            log.warning("the core's HTTP door is away", extra={"action": "core_away", "error": type(error).__name__})
            return _away("it does not answer")
        back = {name: told.headers[name] for name in _BACK if name in told.headers}
        return Response(told.content, told.status_code, back)


def core_url(settings: Settings) -> str:
    """Return the base URL of the core's HTTP door."""
    if settings.core_http_url:
        return settings.core_http_url.rstrip("/")
    host, port = settings.http_host_port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound, called
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _away(why: str) -> Response:
    """Return the answer where there is no core; its address is nobody's business."""
    return answer({"error": f"core unavailable: {why}"}, 502)
