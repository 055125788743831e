"""The dialect's routes, and the shape of their errors."""

from __future__ import annotations

from flask import Blueprint

from . import chat, completions, embeddings, errors, models

blueprint = Blueprint("openai", __name__, url_prefix="/v1")
errors.install(blueprint)
for rule, method, view in (
    ("/chat/completions", "POST", chat.create),
    ("/completions", "POST", completions.create),
    ("/embeddings", "POST", embeddings.create),
    ("/models", "GET", models.page),
    ("/models/<path:name>", "GET", models.get),
):
    blueprint.add_url_rule(rule, endpoint=rule.strip("/").replace("/", "_"), view_func=view, methods=[method])
