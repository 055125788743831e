"""Server-sent events: from lines to the data of each event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def events(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the data of each event.

    Comments and fields other than `data` are skipped; the data lines of one event are joined. An event that the
    stream ends in the middle of counts too: servers forget the last blank line.
    """
    data: list[bytes] = []
    for line in lines:
        if not line:
            if data:
                yield b"\n".join(data)
                data = []
            continue
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
    if data:
        yield b"\n".join(data)
