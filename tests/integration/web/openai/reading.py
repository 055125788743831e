"""Streams of the dialect as a client reads them."""

from __future__ import annotations

import json
from typing import Any


def chunks(body: str) -> list[Any]:
    """Return the chunks of a whole stream that ended well, without its mark of the end."""
    blocks = [block for block in body.split("\n\n") if block and not block.startswith(":")]
    assert blocks[-1] == "data: [DONE]", blocks[-1]
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-1]]


def failed(body: str) -> tuple[list[Any], Any]:
    """Return (chunks, error) of a whole stream that ended in an error."""
    blocks = [json.loads(block.removeprefix("data: ")) for block in body.split("\n\n") if block.startswith("data: ")]
    assert "error" in blocks[-1]
    return blocks[:-1], blocks[-1]["error"]


def deltas(found: list[Any]) -> list[Any]:
    """Return the deltas of chunks that have one."""
    return [chunk["choices"][0]["delta"] for chunk in found if chunk["choices"]]
