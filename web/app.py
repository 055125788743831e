"""The Flask application, made anew for each process."""

from __future__ import annotations

from flask import Flask

from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime

from . import errors, health, jobs, stream
from .streams import Streams


def create_app(runtime: Runtime) -> Flask:
    """Return the application over `runtime`; nothing connects before the first request."""
    app = Flask("llm_mcp.web", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = runtime.settings.max_body_bytes
    app.url_map.strict_slashes = True
    app.extensions["jobs"] = Jobs(runtime)
    app.extensions["streams"] = Streams(runtime.settings.max_streams)
    errors.install(app)
    for blueprint in (health.blueprint, jobs.blueprint, stream.blueprint):
        app.register_blueprint(blueprint)
    return app
