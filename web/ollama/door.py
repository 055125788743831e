"""The dialect's routes, the shape of their errors, and what is refused here for it belongs on a device."""

from __future__ import annotations

from flask import Blueprint, Response

from . import errors, models, text, vectors
from .errors import say

_MANAGED = (
    "models are managed on the devices, not here: pull, create, copy, push or delete this one with the Ollama of the"
    " machine that is to have it"
)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

blueprint = Blueprint("ollama", __name__)
errors.install(blueprint)


def managed(digest: str = "") -> Response:  # noqa: ARG001 - part of the path, and not looked at
    """Refuse to change what a device has."""
    return say({"error": _MANAGED}, 501)


def unknown(path: str) -> Response:
    """Refuse another path, or another method of one we have, in Ollama's plain words."""
    known = "blobs/<digest>" if path.startswith("blobs/") and path.count("/") == 1 else path
    allowed = sorted(_ALLOWED.get(f"/api/{known}", ()))
    if allowed:
        return Response("405 method not allowed", 405, {"Allow": ", ".join(allowed)}, content_type="text/plain")
    return Response("404 page not found", 404, content_type="text/plain")


_ROUTES = (
    ("/", "GET", models.root),
    ("/api/version", "GET", models.version),
    ("/api/tags", "GET", models.tags),
    ("/api/ps", "GET", models.running),
    ("/api/show", "POST", models.show),
    ("/api/generate", "POST", text.generate),
    ("/api/chat", "POST", text.chat),
    ("/api/embed", "POST", vectors.embed),
    ("/api/embeddings", "POST", vectors.embeddings),
    ("/api/pull", "POST", managed),
    ("/api/push", "POST", managed),
    ("/api/create", "POST", managed),
    ("/api/copy", "POST", managed),
    ("/api/delete", "DELETE", managed),
    ("/api/blobs/<digest>", "POST", managed),
    ("/api/blobs/<digest>", "GET", managed),
)
_ALLOWED: dict[str, set[str]] = {}
for _rule, _method, _view in _ROUTES:
    _ALLOWED.setdefault(_rule, set()).update({_method} | ({"HEAD"} if _method == "GET" else set()))
    blueprint.add_url_rule(_rule, endpoint=f"{_method} {_rule}".replace(".", ""), view_func=_view, methods=[_method])
blueprint.add_url_rule("/api/<path:path>", endpoint="unknown", view_func=unknown, methods=_METHODS)
