"""Ollama's own dialect: every model of every device behind one address, and every call a job."""

from __future__ import annotations

from .door import blueprint

__all__ = ["blueprint"]
