"""One JSON object from the pieces a stream sent of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What models write bit by bit, under the names the dialects have for it. Other texts (ids, roles, types) come whole.
_WRITTEN = frozenset(
    {"arguments", "content", "reasoning", "reasoning_content", "refusal", "response", "summary", "text", "thinking"}
)

_MAX_DEPTH = 16


class Joined:
    """An object whose pieces are added one after another.

    What a model writes is joined, objects are merged, lists strung together, except that list items with an `index`
    are pieces of the item with that index. Of anything else the last value counts, empty ones aside. `depth` is how
    deep in the outermost object this one lies: nothing comes in pieces below a certain one.
    """

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._fields: dict[str, Any] = {}

    def add(self, piece: Mapping[str, Any]) -> None:
        """Take the next piece."""
        for name, value in piece.items():
            held = self._fields.get(name)
            if isinstance(value, str) and name in _WRITTEN:
                if isinstance(held, _Text):
                    held.parts.append(value)
                else:
                    self._fields[name] = _Text(value)
            elif isinstance(value, dict) and self._depth < _MAX_DEPTH:
                if not isinstance(held, Joined):
                    held = self._fields[name] = Joined(self._depth + 1)
                held.add(value)
            elif isinstance(value, list) and self._depth < _MAX_DEPTH:
                if not isinstance(held, _Items):
                    held = self._fields[name] = _Items(self._depth + 1)
                held.add(value)
            elif held is None or value not in (None, ""):
                self._fields[name] = value

    def whole(self) -> dict[str, Any]:
        """Return the object as far as it has come."""
        return {name: _whole(value) for name, value in self._fields.items()}


class _Text:
    """A text in its parts: adding a string to itself a hundred thousand times would take minutes."""

    def __init__(self, first: str) -> None:
        self.parts = [first]


class _Items:
    """A list, some of whose items may come in pieces."""

    def __init__(self, depth: int) -> None:
        self.items: list[Any] = []
        self._depth = depth
        self._by_index: dict[int, Joined] = {}

    def add(self, items: list[Any]) -> None:
        for item in items:
            index = item.get("index") if isinstance(item, dict) else None
            if not isinstance(index, int):
                self.items.append(item)
                continue
            if index not in self._by_index:
                self._by_index[index] = Joined(self._depth)
                self.items.append(self._by_index[index])
            self._by_index[index].add(item)


def _whole(value: Any) -> Any:
    if isinstance(value, _Text):
        return "".join(value.parts)
    if isinstance(value, Joined):
        return value.whole()
    if isinstance(value, _Items):
        return [_whole(item) for item in value.items]
    return value
