"""OpenAI's dialect: every call is a job, and its answer a view of it."""

from __future__ import annotations

from .door import blueprint

__all__ = ["blueprint"]
