"""OpenRouter: OpenAI's dialect, and a price on every answer."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation

from .base import Usage
from .openai import OpenAI

# How OpenRouter names the application a call comes from, in its own pages and rankings.
_APPLICATION = {"http-referer": "https://github.com/plagness/LLM-MCP", "x-openrouter-title": "LLM-MCP"}


class OpenRouter(OpenAI):
    """The models behind OpenRouter. Parameters as `OpenAI`."""

    name = "openrouter"
    key_name = "OPENROUTER_API_KEY"

    def _headers(self) -> dict[str, str]:
        return {**super()._headers(), **_APPLICATION}

    def _usage(self, counted: bytes) -> Usage:
        usage = super()._usage(counted)
        return Usage(usage.tokens_in, usage.tokens_out, _cost_usd(counted))


def _cost_usd(raw: bytes) -> Decimal | None:
    """Return `usage.cost` of a JSON text, digit by digit as it stands there, USD; None where there is none."""
    if b'"cost"' not in raw:
        return None
    try:
        cost = json.loads(raw, parse_float=Decimal, parse_int=Decimal)["usage"]["cost"]
        amount = Decimal(cost)
    except (ValueError, TypeError, KeyError, InvalidOperation):
        return None
    return amount if amount.is_finite() and amount >= 0 else None
