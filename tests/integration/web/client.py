"""A client of the application itself, without a server between."""

from __future__ import annotations

from typing import Any

from flask import Flask


class Client:
    """Calls the application; answers are Werkzeug's test responses, given as Any because their JSON may be anything."""

    def __init__(self, application: Flask) -> None:
        self.application = application
        self._client = application.test_client()

    def another(self) -> Client:
        """Return a second client, for another thread or a second stream."""
        return Client(self.application)

    def open(self, path: str, *, method: str = "GET", **options: Any) -> Any:
        """Return the answer to one request."""
        return self._client.open(path, method=method, **options)

    def get(self, path: str, **options: Any) -> Any:
        """GET."""
        return self.open(path, **options)

    def head(self, path: str, **options: Any) -> Any:
        """HEAD."""
        return self.open(path, method="HEAD", **options)

    def post(self, path: str, **options: Any) -> Any:
        """POST."""
        return self.open(path, method="POST", **options)
