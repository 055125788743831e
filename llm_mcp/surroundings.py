"""What users put around every actor's call: to time it, to log it, to change its result, to keep it from happening.

from llm_mcp import around

@around
def timing(run, call):
    began = time.monotonic()
    try:
        return call()
    finally:
        run.metrics["took_s"] = time.monotonic() - began
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeVar, overload

from .errors import SetupError
from .run import Run

Call = Callable[[], Any]
Around = Callable[[Run, Call], Any]
A = TypeVar("A", bound=Around)


@dataclass(frozen=True, slots=True)
class _Surrounding:
    work: Around
    kinds: tuple[str, ...]

    def takes(self, kind: str) -> bool:
        return not self.kinds or any(fnmatchcase(kind, pattern) for pattern in self.kinds)


_surroundings: list[_Surrounding] = []


@overload
def around(work: A, *, kinds: Iterable[str] = ()) -> A: ...


@overload
def around(*, kinds: Iterable[str] = ()) -> Callable[[A], A]: ...


def around(work: A | None = None, *, kinds: Iterable[str] = ()) -> A | Callable[[A], A]:
    """Have a function called around the call of every actor, in this process and from now on.

    It is given the Run and `call`, which calls the next one in, at last the actor, and returns its result; what it
    returns is the result instead. Those registered first are outermost. `kinds`: names or patterns such as `ollama.*`
    of those it is for; none: all. For each attempt it is called once, in the attempt's thread, when the payload was
    found to fit: `run.payload` is the value the actor gets, `run.lease` says kind, job and attempt, and `run.metrics`
    takes figures for the attempt's row.

    It may change the result, call `call` not at all (what it returns is the result) or again (the stream then has
    both), or raise: that fails the attempt as if the actor had. What the actor raises comes through `call`, Cut
    included; who catches that one and returns cannot save an attempt that must stop. Registered twice, a function is
    called once. Returns the function. Raises SetupError for what is no plain function of the two.
    """
    if work is None:
        return partial(around, kinds=kinds)
    surrounding = _Surrounding(work, (kinds,) if isinstance(kinds, str) else tuple(kinds))
    _check(work)
    if surrounding not in _surroundings:
        _surroundings.append(surrounding)
    return work


def surrounded(run: Run, call: Call) -> Any:
    """Make an actor's call inside of all that is to be around it, and return the result."""
    for one in reversed(_surroundings):
        if one.takes(run.lease.kind):
            call = partial(one.work, run, call)
    return call()


def _check(work: Around) -> None:
    name = getattr(work, "__qualname__", repr(work))
    fault = None
    if not callable(work):
        fault = "is not callable"
    elif inspect.iscoroutinefunction(work) or inspect.isgeneratorfunction(work) or inspect.isasyncgenfunction(work):
        fault = "must return a result: no coroutine, no generator"
    else:
        try:
            inspect.signature(work).bind(None, None)
        except (TypeError, ValueError):
            fault = "must take two arguments, the run and the call"
    if fault is not None:
        raise SetupError(f"around: {name} {fault}")
