"""Files and batches, `/v1/files` and `/v1/batches`: requests in a file, run when there is time."""

from __future__ import annotations

from flask import Blueprint

from ..openai import errors
from . import batches, files

__all__ = ["blueprint"]

blueprint = Blueprint("batches", __name__, url_prefix="/v1")
errors.install(blueprint)
for rule, method, view in (
    ("/files", "POST", files.create),
    ("/files", "GET", files.page),
    ("/files/<name>", "GET", files.get),
    ("/files/<name>", "DELETE", files.delete),
    ("/files/<name>/content", "GET", files.content),
    ("/batches", "POST", batches.create),
    ("/batches", "GET", batches.page),
    ("/batches/<name>", "GET", batches.get),
    ("/batches/<name>/cancel", "POST", batches.cancel),
):
    blueprint.add_url_rule(rule, endpoint=f"{method}_{rule}".replace("/", "_"), view_func=view, methods=[method])
