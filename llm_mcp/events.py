"""Events: the numbered items of a job's stream.

| type | data |
|---|---|
| `delta` | `{"text": …}` or `{"thinking": …}`: a piece of the answer; all texts of an attempt joined are its answer |
| | `{"text": …, "logprobs": […]}`: the same with its tokens, where they were asked for |
| | `{"tool_calls": […]}`: pieces of calls of tools in OpenAI's form, each with its `index` |
| | `{"text": "", "truncated": true}`: the stream is over its bounds and ends here; the result is whole |
| `progress` | `{"fraction": 0..1, "note": …}` |
| `usage` | `{"tokens_in": …, "tokens_out": …, …}` |
| `queue` | `{"position": n, "at_least": true, "eta_s": …}`: its place in the line (made by the reader, not stored) |
| `reset` | `{"attempt": n}`: a new attempt began, forget the text so far (made by the reader, not stored) |

The status of the job is not an event row: it is read from the job itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .errors import InvalidInput

DELTA, PROGRESS, USAGE, QUEUE, RESET = "delta", "progress", "usage", "queue", "reset"

_INT4_MAX = 2**31 - 1
_ID = re.compile(r"([0-9]{1,10}):([0-9]{1,10})")


class Cursor(NamedTuple):
    """A place in a stream: everything up to this event was seen. Compares in stream order."""

    attempt: int = 0
    seq: int = 0

    def __str__(self) -> str:
        return f"{self.attempt}:{self.seq}"

    @classmethod
    def parse(cls, text: str, *, field: str = "Last-Event-ID") -> Cursor:
        """Read `<attempt>:<seq>`.

        Raises InvalidInput naming `field` when it is anything else.
        """
        match = _ID.fullmatch(text.strip())
        if match is None or max(int(match[1]), int(match[2])) > _INT4_MAX:
            raise InvalidInput("must look like 1:42 (<attempt>:<seq>)", field=field, code="invalid_event_id")
        return cls(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class Event:
    """One item of a stream. `data` is its JSON value."""

    attempt: int
    seq: int
    type: str
    data: dict[str, Any] = field(repr=False)

    @property
    def cursor(self) -> Cursor:
        """The place just after this event."""
        return Cursor(self.attempt, self.seq)
