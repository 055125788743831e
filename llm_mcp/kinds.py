"""Kinds: the sorts of jobs we know, each with the model its payload must fit.

A kind nobody registered is still a kind: workers in other languages may serve it, so any JSON payload is
accepted for it and it waits until one comes.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from .errors import InvalidInput, SetupError
from .job import DEFAULT_MAX_ATTEMPTS

_QUEUE = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,99}")
MAX_KIND_CHARS = 200


@dataclass(frozen=True, slots=True)
class Kind:
    """A registered kind: its name, the model of its payload (None: any JSON) and its defaults."""

    name: str
    payload: type[BaseModel] | None = None
    queue: str = "default"
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    max_running: int | None = None
    """Jobs at once, everywhere together, where no operator said otherwise; None: any number."""
    rate: str | None = None
    """How many may begin in which time, such as `10/m`; the same."""

    def validate(self, payload: Any) -> Any:
        """Return the payload as its model sees it (the value itself without a model).

        Raises InvalidInput, code `invalid_payload`, naming the first bad field as `payload.…`.
        """
        if self.payload is None:
            return payload
        try:
            return self.payload.model_validate(payload)
        except ValidationError as error:
            path, fault = _fault(error, payload)
            raise InvalidInput(f"{self.name}: {fault}", field=path, code="invalid_payload") from None


def _fault(error: ValidationError, payload: Any) -> tuple[str, str]:
    """Return the path and the words of what is wrong with a payload: of the errors there are, the deepest in it.

    pydantic names the members of a union in its places; what is not the payload's own is left out.
    """
    found = []
    for one in error.errors(include_input=False, include_url=False):
        value, path = payload, ["payload"]
        for part in one["loc"]:
            inside = part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
            if inside:
                value = value[part]
            if inside or (one["type"] == "missing" and part == one["loc"][-1]):
                path.append(str(part))
        found.append((".".join(path), one["msg"].removeprefix("Value error, "), len(path)))
    path_text, fault, _ = max(found, key=lambda each: each[2])
    return path_text, fault


class Kinds:
    """The registry. One per process, filled at import, only read afterwards."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}

    def add(self, kind: Kind) -> Kind:
        """Register a kind; the very same again changes nothing.

        Raises SetupError for a blank name, a bad queue name, or a name another definition has taken.
        """
        check_name(kind.name, error=SetupError)
        if not _QUEUE.fullmatch(kind.queue):
            raise SetupError(f"kind {kind.name!r}: bad queue name {kind.queue!r}")
        if self._kinds.setdefault(kind.name, kind) != kind:
            raise SetupError(f"kind {kind.name!r} is registered twice")
        return kind

    def get(self, name: str) -> Kind | None:
        """Return the kind of that name, None when nobody registered it."""
        return self._kinds.get(name)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())


def check_name(name: str, *, error: type[SetupError] | None = None) -> None:
    """Refuse a kind name that is blank, too long or holds control characters.

    Raises InvalidInput with code `kind_required` or `invalid_kind` and field `kind` (or `error` when given).
    """
    if not name.strip():
        fault, code = "kind must not be blank", "kind_required"
    elif len(name) > MAX_KIND_CHARS:
        fault, code = f"kind is longer than {MAX_KIND_CHARS} characters", "invalid_kind"
    elif not name.isprintable():
        fault, code = "kind holds a control character", "invalid_kind"
    else:
        return
    raise error(fault) if error else InvalidInput(fault, field="kind", code=code)


KINDS = Kinds()
"""Every kind of this process."""


def load_modules(modules: Iterable[str]) -> None:
    """Import modules that define kinds.

    Raises SetupError naming the module that cannot be imported, for whatever reason.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except SetupError:
            raise
        except Exception as error:
            raise SetupError(f"cannot import {name}: {type(error).__name__}: {error}") from error
