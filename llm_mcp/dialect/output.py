"""The items of a response's output, each as it grows: reasoning, a message, a call of a function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any
from uuid import UUID

from .response import call_id

Told = dict[str, Any]


class Item(ABC):
    """One item. `begin`, `piece` and `end` return the events that tell it; `shown` is what it is by now.

    Parameters: `place`, its index in the output; `number`, how many of its sort there are before it.
    """

    prefix = ""

    def __init__(self, job_id: UUID, place: int, number: int) -> None:
        self._place = place
        self._id = f"{self.prefix}_{job_id.hex}" + (f"_{number}" if number else "")
        self._text = ""
        self._ended = False

    @abstractmethod
    def shown(self) -> Told:
        """Return the item."""

    @abstractmethod
    def begin(self) -> list[Told]:
        """Return the events of its beginning."""

    @abstractmethod
    def piece(self, text: str, logprobs: list[Any]) -> list[Told]:
        """Take a piece of it and return the events that tell so."""

    @abstractmethod
    def end(self) -> list[Told]:
        """Return the events of its end."""

    @property
    def _status(self) -> str:
        return "completed" if self._ended else "in_progress"

    def _event(self, name: str, /, **fields: Any) -> Told:
        return {"type": f"response.{name}", "item_id": self._id, "output_index": self._place, **fields}

    def _whole(self, name: str) -> Told:
        return {"type": f"response.output_item.{name}", "output_index": self._place, "item": self.shown()}


class Message(Item):
    """What the model says."""

    prefix = "msg"

    def __init__(self, job_id: UUID, place: int, number: int) -> None:
        super().__init__(job_id, place, number)
        self._logprobs: list[Any] = []
        self._parted = False

    def shown(self) -> Told:
        """Return the item."""
        content = [self._part()] if self._parted else []
        return {"id": self._id, "type": "message", "status": self._status, "role": "assistant", "content": content}

    def begin(self) -> list[Told]:
        """Return the events of its beginning."""
        added = self._whole("added")
        self._parted = True
        return [added, self._event("content_part.added", content_index=0, part=self._part())]

    def piece(self, text: str, logprobs: list[Any]) -> list[Told]:
        """Take a piece of its text."""
        self._text += text
        self._logprobs += logprobs
        return [self._event("output_text.delta", content_index=0, delta=text, logprobs=logprobs)]

    def end(self) -> list[Told]:
        """Return the events of its end."""
        self._ended = True
        return [
            self._event("output_text.done", content_index=0, text=self._text, logprobs=list(self._logprobs)),
            self._event("content_part.done", content_index=0, part=self._part()),
            self._whole("done"),
        ]

    def _part(self) -> Told:
        return {"type": "output_text", "text": self._text, "annotations": [], "logprobs": list(self._logprobs)}


class Reasoning(Item):
    """What the model thinks before it says something.

    `summary`: whether it is told as the summary that was asked for, where many clients look; it is the thinking itself.
    """

    prefix = "rs"

    def __init__(self, job_id: UUID, place: int, number: int, *, summary: bool) -> None:
        super().__init__(job_id, place, number)
        self._summary = summary
        self._parted = False

    def shown(self) -> Told:
        """Return the item."""
        parts = [self._part()] if self._parted else []
        told = {"summary": parts} if self._summary else {"summary": [], "content": parts}
        return {"id": self._id, "type": "reasoning", "status": self._status, **told}

    def begin(self) -> list[Told]:
        """Return the events of its beginning."""
        added = self._whole("added")
        self._parted = True
        return [added, self._of_part("part.added", part=self._part())]

    def piece(self, text: str, logprobs: list[Any]) -> list[Told]:  # noqa: ARG002 - thinking has none
        """Take a piece of the thinking."""
        self._text += text
        return [self._of_part("text.delta", delta=text)]

    def end(self) -> list[Told]:
        """Return the events of its end."""
        self._ended = True
        return [
            self._of_part("text.done", text=self._text),
            self._of_part("part.done", part=self._part()),
            self._whole("done"),
        ]

    def _part(self) -> Told:
        return {"type": "summary_text" if self._summary else "reasoning_text", "text": self._text}

    def _of_part(self, name: str, **fields: Any) -> Told:
        if self._summary:
            return self._event(f"reasoning_summary_{name}", summary_index=0, **fields)
        name = f"content_{name}" if name.startswith("part") else f"reasoning_{name}"
        return self._event(name, content_index=0, **fields)


class Call(Item):
    """A call of a function."""

    prefix = "fc"

    def __init__(self, job_id: UUID, place: int, number: int, called: str, name: str) -> None:
        super().__init__(job_id, place, number)
        self._called = called or call_id(job_id, number)
        self._name = name

    def shown(self) -> Told:
        """Return the item."""
        told = {"call_id": self._called, "name": self._name, "arguments": self._text}
        return {"id": self._id, "type": "function_call", "status": self._status, **told}

    def begin(self) -> list[Told]:
        """Return the event of its beginning."""
        return [self._whole("added")]

    def piece(self, text: str, logprobs: list[Any]) -> list[Told]:  # noqa: ARG002 - calls have none
        """Take a piece of its arguments."""
        self._text += text
        return [self._event("function_call_arguments.delta", delta=text)]

    def end(self) -> list[Told]:
        """Return the events of its end."""
        self._ended = True
        return [
            self._event("function_call_arguments.done", name=self._name, arguments=self._text),
            self._whole("done"),
        ]
