"""The events of a response's stream, made of a job's stored events, and numbered.

The numbers are a function of what is stored and of nothing else: whoever makes the script again, anywhere and at any
time, gives every event the number it had. So a client's last number is all that is needed to go on after it.

A try whose words were stored already may be lost, and another one begins its answer anew. What was sent cannot be
taken back, so a number must never mean one event of the first and another of the second: each begins a generation,
whose numbers lie in a range of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from llm_mcp.answers import Finished

from .output import Call, Item, Message, Reasoning
from .request import KEPT
from .response import incomplete_reason, response_object

GENERATION = 10**9
"""How many numbers a generation has; no stream has so many events."""

Told = dict[str, Any]


class Script:
    """The events of one response in order, for the attempt that is newest. Each method returns the next ones.

    Parameters: `payload`, the job's; `generation`, how many earlier attempts had words that may have been sent.
    """

    def __init__(self, job_id: UUID, payload: Mapping[str, Any], generation: int = 0) -> None:
        self._job_id = job_id
        self._payload = payload
        told = payload.get(KEPT) or {}
        self._background = told.get("background") is True
        self._summary = bool((told.get("reasoning") or {}).get("summary"))
        self._next = generation * GENERATION
        self._begun = False
        self._items: list[Item] = []
        self._open: list[Item] = []
        self._calls: dict[int, Call] = {}
        self._texts: dict[type[Item], str] = {Message: "", Reasoning: ""}
        self._truncated = False

    @property
    def preamble(self) -> int:
        """How many events there are before the first of the answer."""
        return 3 if self._background else 2

    @property
    def output(self) -> list[dict[str, Any]]:
        """The items of the answer as far as they are known."""
        return [item.shown() for item in self._items]

    def created(self) -> list[Told]:
        """It was asked for."""
        if self._background:
            return [self._of_response("created", "queued"), self._of_response("queued", "queued")]
        self._begun = True
        return [self._of_response("created", "in_progress"), self._of_response("in_progress", "in_progress")]

    def running(self) -> list[Told]:
        """An attempt has begun."""
        if self._begun:
            return []
        self._begun = True
        return [self._of_response("in_progress", "in_progress")]

    def delta(self, data: Mapping[str, Any]) -> list[Told]:
        """A stored delta."""
        self._truncated = self._truncated or data.get("truncated") is True
        told = self.running()
        if isinstance(thinking := data.get("thinking"), str) and thinking:
            told += self._piece(Reasoning, thinking, [])
        if isinstance(text := data.get("text"), str) and text:
            logprobs = data.get("logprobs")
            told += self._piece(Message, text, logprobs if isinstance(logprobs, list) else [])
        calls = data.get("tool_calls")
        for piece in calls if isinstance(calls, list) else []:
            if isinstance(piece, dict):
                told += self._call_piece(piece)
        return told

    def done(self, said: Finished) -> list[Told]:
        """The job is done: what was not told yet, the ends of all items, and the end."""
        told = self.running()
        for kind, whole in ((Reasoning, said.thinking), (Message, said.text or "")):
            if rest := self._rest(kind, whole):
                told += self._piece(kind, rest, (said.logprobs or []) if kind is Message else [])
        for place, call in enumerate(said.tool_calls):
            if place not in self._calls:
                told += self._call_piece({"index": place, **call})
        if not any(isinstance(item, Message | Call) for item in self._items):
            told += self._close(lambda _: True)
            told += self._added(Message(self._job_id, self._place, self._count(Message)))
        told += self._close(lambda _: True)
        status = "incomplete" if incomplete_reason(said) else "completed"
        return [*told, self._of_response(status, status, said=said)]

    def failed(self, error: Mapping[str, str] | None, *, began: bool, status: str = "failed") -> list[Told]:
        """The job ended in error. `began`: whether any attempt of it had begun."""
        told = self.running() if began else []
        return [*told, self._of_response("failed", status, error=error)]

    # — items —

    @property
    def _place(self) -> int:
        return len(self._items)

    def _count(self, kind: type[Item]) -> int:
        return sum(isinstance(item, kind) for item in self._items)

    def _piece(self, kind: type[Message] | type[Reasoning], text: str, logprobs: list[Any]) -> list[Told]:
        """A piece of text for the open item of its sort; another sort's item ends before it."""
        told: list[Told] = []
        item = next((item for item in self._open if isinstance(item, kind)), None)
        if item is None:
            told += self._close(lambda other: not isinstance(other, Call))
            number = self._count(kind)
            item = (
                Reasoning(self._job_id, self._place, number, summary=self._summary)
                if kind is Reasoning
                else Message(self._job_id, self._place, number)
            )
            told += self._added(item)
        self._texts[kind] += text
        return told + self._numbered(item.piece(text, logprobs))

    def _call_piece(self, piece: Mapping[str, Any]) -> list[Told]:
        """A piece of a call of a tool. Calls stay open to the end, for their pieces may come in turns."""
        index = piece.get("index")
        place = index if isinstance(index, int) else len(self._calls)
        function = piece.get("function")
        said = function if isinstance(function, dict) else {}
        told: list[Told] = []
        call = self._calls.get(place)
        if call is None:
            told += self._close(lambda other: not isinstance(other, Call))
            name = said.get("name")
            call = self._calls[place] = Call(
                self._job_id, self._place, place, str(piece.get("id") or ""), name if isinstance(name, str) else ""
            )
            told += self._added(call)
        arguments = said.get("arguments")
        if isinstance(arguments, str) and arguments:
            told += self._numbered(call.piece(arguments, []))
        return told

    def _added(self, item: Item) -> list[Told]:
        self._items.append(item)
        self._open.append(item)
        return self._numbered(item.begin())

    def _close(self, which: Callable[[Item], bool]) -> list[Told]:
        told: list[Told] = []
        for item in [item for item in self._open if which(item)]:
            self._open.remove(item)
            told += self._numbered(item.end())
        return told

    def _rest(self, kind: type[Item], whole: str) -> str:
        """Return what is still owed: all of what was not streamed, the end of what was cut short."""
        sent = self._texts[kind]
        if not sent:
            return whole
        return whole[len(sent) :] if self._truncated and whole.startswith(sent) else ""

    # — numbers —

    def _of_response(self, name: str, status: str, **more: Any) -> Told:
        shown = response_object(self._job_id, self._payload, status=status, output=self.output, **more)
        return self._numbered([{"type": f"response.{name}", "response": shown}])[0]

    def _numbered(self, events: list[Told]) -> list[Told]:
        for event in events:
            event["sequence_number"] = self._next
            self._next += 1
        return events
