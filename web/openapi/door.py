"""`GET /openapi.json` and `GET /docs`."""

from __future__ import annotations

import hashlib
from functools import cache

import orjson
from flask import Blueprint, Response, request

from . import page
from .document import document

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
def describe() -> Response:
    """Return the document."""
    return _kept(_json(), "application/json")


@blueprint.get("/docs")
def docs() -> Response:
    """Return the page."""
    response = _kept(_html(), "text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = page.POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _kept(body: bytes, kind: str) -> Response:
    """Return what may be kept by who asked, but has to be asked for again: another version may run meanwhile."""
    response = Response(body, content_type=kind, headers={"Cache-Control": "no-cache"})
    response.set_etag(hashlib.sha256(body).hexdigest()[:32])
    response.make_conditional(request)
    return response


@cache
def _json() -> bytes:
    return orjson.dumps(document())


@cache
def _html() -> bytes:
    return page.render(document()).encode()
