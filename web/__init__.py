"""The HTTP door: parse, call a service, map the answer. Nothing is decided here."""

from __future__ import annotations

from .app import create_app

__all__ = ["create_app"]
