"""Putting a streamed answer together: its text and its thinking, handed on piece by piece.

Models whose server does not separate their thinking write it in front of the answer, in `<think>…</think>`. Such a
block is moved to where thinking belongs, also when its marks come cut in two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .base import Delta, OnDelta

_OPEN = "<think>"
_CLOSE = "</think>"


class Pieces:
    """The pieces of one answer. Hands each to `on_delta` as it is understood and keeps them all."""

    def __init__(self, on_delta: OnDelta) -> None:
        self._on_delta = on_delta
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._held = ""
        """What may still turn out to be a mark, or space around one."""
        self._logprobs: list[Mapping[str, Any]] = []
        """Those of what is held."""
        self._take = self._before

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._text)

    @property
    def thinking(self) -> str:
        """The thinking so far."""
        return "".join(self._thinking)

    def add_text(self, piece: object, logprobs: Sequence[Mapping[str, Any]] = ()) -> None:
        """Take a piece of what the model wrote, and its tokens if they are known; anything but text adds nothing."""
        self._logprobs.extend(logprobs)
        if isinstance(piece, str) and piece:
            self._take(piece)

    def add_thinking(self, piece: object) -> None:
        """Take a piece of thinking that the server itself told apart; anything but text adds nothing."""
        if isinstance(piece, str) and piece:
            self._thinking.append(piece)
            self._on_delta(Delta(thinking=piece))

    def add_tool_calls(self, calls: Sequence[Mapping[str, Any]]) -> None:
        """Take pieces of calls of tools, in the form deltas have them."""
        if calls:
            self._on_delta(Delta(tool_calls=tuple(calls)))

    def end(self) -> None:
        """The answer is over: what was held back is what it looks like."""
        held, self._held = self._held, ""
        if self._take == self._inside:
            self.add_thinking(held)
        elif self._take == self._before:
            self._answer(held)

    def _before(self, piece: str) -> None:
        """Nothing but space, or the beginning of the first mark, has come."""
        self._held += piece
        start = self._held.lstrip()
        if start.startswith(_OPEN):
            self._held, self._take = "", self._inside_first
            self._take(start.removeprefix(_OPEN))
        elif not _OPEN.startswith(start):
            held, self._held, self._take = self._held, "", self._answer
            self._answer(held)

    def _inside_first(self, piece: str) -> None:
        """The first mark has come, and nothing but space after it."""
        if piece := piece.lstrip():
            self._logprobs.clear()
            self._take = self._inside
            self._inside(piece)

    def _inside(self, piece: str) -> None:
        """Within the block."""
        thought, mark, after = (self._held + piece).partition(_CLOSE)
        if mark:
            self._held, self._take = "", self._after
            self._logprobs.clear()
            self.add_thinking(thought)
            self._take(after)
            return
        keep = _overlap(thought)
        self._held = thought[len(thought) - keep :]
        self.add_thinking(thought[: len(thought) - keep])

    def _after(self, piece: str) -> None:
        """The block is over, and nothing but space has come after it."""
        if piece := piece.lstrip():
            self._take = self._answer
            self._answer(piece)

    def _answer(self, piece: str) -> None:
        if piece:
            self._text.append(piece)
            logprobs, self._logprobs = tuple(self._logprobs), []
            self._on_delta(Delta(text=piece, logprobs=logprobs))


def _overlap(text: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of the closing mark."""
    return next((size for size in range(len(_CLOSE) - 1, 0, -1) if text.endswith(_CLOSE[:size])), 0)
