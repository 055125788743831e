"""OpenAI's newer dialect, `/v1/responses`: every response is a job, and its stream a view of the job's."""

from __future__ import annotations

from .door import blueprint

__all__ = ["blueprint"]
