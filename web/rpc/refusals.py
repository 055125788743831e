"""Errors as callers of gRPC see them: a status code, words, and in the trailers the code and field of HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import grpc

from llm_mcp.errors import (
    Conflict,
    InvalidInput,
    LlmMcpError,
    NotFound,
    QueueFull,
    SetupError,
    TooLarge,
    Unavailable,
    WaitTimeout,
)

from ..errors import Full, unforeseen, words

T = TypeVar("T")

# The first class that fits decides.
_CODES: tuple[tuple[type[LlmMcpError], grpc.StatusCode], ...] = (
    (TooLarge, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (QueueFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (WaitTimeout, grpc.StatusCode.DEADLINE_EXCEEDED),
    (Full, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (SetupError, grpc.StatusCode.UNAVAILABLE),
)


def refuse(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End a call with what went wrong. Trailers: `error`, our word for it; `field`; `retry-after-s`."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    if code is grpc.StatusCode.INTERNAL or not isinstance(error, LlmMcpError):
        unforeseen(error)
        context.set_trailing_metadata((("error", "internal_error"),))
        context.abort(grpc.StatusCode.INTERNAL, "internal error")
    trailers = [("error", error.code)]
    if isinstance(error, InvalidInput) and error.field.isascii() and error.field.isprintable() and error.field:
        trailers.append(("field", error.field))
    if (retry_after_s := getattr(error, "retry_after_s", None)) is not None:
        trailers.append(("retry-after-s", f"{retry_after_s:g}"))
    context.set_trailing_metadata(tuple(trailers))
    field = f"{error.field}: " if isinstance(error, InvalidInput) and error.field else ""
    context.abort(code, field + words(error))


def answering(call: Callable[[Any, Any, grpc.ServicerContext], T]) -> Callable[[Any, Any, grpc.ServicerContext], T]:
    """Have what a method raises told to its caller in our way."""

    def answer(servicer: Any, request: Any, context: grpc.ServicerContext) -> T:
        try:
            return call(servicer, request, context)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told to the caller, and logged there
            refuse(context, error)

    return answer


def streaming(
    call: Callable[[Any, Any, grpc.ServicerContext], Iterator[T]],
) -> Callable[[Any, Any, grpc.ServicerContext], Iterator[T]]:
    """The same for a method that streams."""

    def stream(servicer: Any, request: Any, context: grpc.ServicerContext) -> Iterator[T]:
        try:
            yield from call(servicer, request, context)
        except GeneratorExit:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            refuse(context, error)

    return stream
