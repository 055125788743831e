"""The Flask application, made anew for each process."""

from __future__ import annotations

from flask import Flask

from llm_mcp.jobs import Jobs
from llm_mcp.kinds import load_modules
from llm_mcp.runtime import Runtime

from . import batches, errors, guard, health, jobs, methods, ollama, openai, openapi, responses, socket, stream, workers
from .request_id import Named
from .streams import Streams

# Every door has a `blueprint`; a new one is one more line.
_DOORS = (
    jobs,
    stream,
    socket,
    ollama,
    openai,
    responses,
    batches,
    workers,
    openapi,
)


def create_app(runtime: Runtime) -> Flask:
    """Return the application over `runtime`; nothing connects before the first request.

    Raises SetupError when a module of the user's own kinds cannot be imported.
    """
    load_modules(runtime.settings.user_modules())
    app = Flask("llm_mcp.web", static_folder=None)
    # One more than the limit, for Werkzeug just stops reading at its own: what is over ours has to show.
    app.config["MAX_CONTENT_LENGTH"] = runtime.settings.max_body_bytes + 1
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.extensions["jobs"] = Jobs(runtime)
    app.extensions["streams"] = Streams(runtime.settings.max_streams)
    errors.install(app)
    guard.install(app, runtime.settings)
    methods.install(app)
    health.install(app, runtime)
    for door in _DOORS:
        app.register_blueprint(door.blueprint)
    app.wsgi_app = Named(app.wsgi_app)  # type: ignore[method-assign] # Flask's own way of wrapping it
    return app
