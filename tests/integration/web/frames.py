"""Server-sent events as a strict reader takes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Frame:
    """One event: its name, its id ("" without one), its JSON data and the `retry:` it carried, ms."""

    event: str
    id: str
    data: Any
    retry: int | None = None


def split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the blocks between blank lines as they come; comments are blocks too."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        *whole, rest = rest.split(b"\n\n")
        yield from whole
    assert rest == b"", f"the stream ended within an event: {rest!r}"


def parse(chunks: Iterable[bytes]) -> Iterator[Frame]:
    """Yield the events, leaving comments out. Fails on anything that is not exactly one event and one data line."""
    for block in split(chunks):
        if block.startswith(b":"):
            continue
        fields: dict[str, str] = {}
        for line in block.decode().split("\n"):
            name, colon, value = line.partition(": ")
            assert colon, line
            assert name in {"id", "event", "data", "retry"}, line
            assert name not in fields, f"{name} twice in one event"
            fields[name] = value
        retry = int(fields["retry"]) if "retry" in fields else None
        yield Frame(fields["event"], fields.get("id", ""), json.loads(fields["data"]), retry)


def numbered(frames: Iterable[Frame]) -> list[tuple[str, str, Any]]:
    """Return (id, event, data) of the events that have an id."""
    return [(frame.id, frame.event, frame.data) for frame in frames if frame.id]


def text(frames: Iterable[Frame]) -> str:
    """Return the answer a reader has in the end: the deltas' texts, forgotten at each reset."""
    said = ""
    for frame in frames:
        if frame.event == "reset":
            said = ""
        elif frame.event == "delta":
            said += frame.data.get("text", "")
    return said
