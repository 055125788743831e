"""In whose name a call is made: callers that serve several people say it in the call's metadata."""

from __future__ import annotations

import grpc

from llm_mcp.checks import check_principal
from llm_mcp.client_words import PRINCIPAL
from llm_mcp.errors import InvalidInput


def principal(context: grpc.ServicerContext) -> str | None:
    """Return the name a call is made in; None: nobody said, and all jobs are seen.

    Raises InvalidInput naming the metadata: one that is there and no name must never mean everybody.
    """
    told = [value for name, value in context.invocation_metadata() if name == PRINCIPAL]
    if not told:
        return None
    if len(told) > 1:
        raise InvalidInput("is given twice", field=PRINCIPAL)
    name = told[0] if isinstance(told[0], str) else told[0].decode("latin-1")
    check_principal(name, field=PRINCIPAL)
    return name
