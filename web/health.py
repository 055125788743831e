"""Is anybody there?"""

from __future__ import annotations

from flask import Blueprint, Response

from llm_mcp.config import installed_version

from .reply import answer

blueprint = Blueprint("health", __name__)

_ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


@blueprint.route("/health", methods=_ANY)
@blueprint.route("/version", methods=_ANY)
def health() -> Response:
    """Say that this process answers; touches nothing else."""
    return answer({"status": "ok", "version": installed_version()})
