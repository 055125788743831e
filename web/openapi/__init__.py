"""The API document, made of what checks the requests, and a page of it for people."""

from __future__ import annotations

from .document import document
from .door import blueprint

__all__ = ["blueprint", "document"]
