"""The gRPC door: parse, call a service, map the answer."""

from __future__ import annotations

from .server import serve

__all__ = ["serve"]
