"""JSON as we let it in: bounded depth, finite numbers, no NUL, no half characters.

What Postgres or a reader would choke on later is refused here with the field's path: nesting that overflows
every reader's stack, numbers such as 1e131071 that explode when re-written, U+0000 and lone surrogates that
no text column and no UTF-8 encoder takes, NaN and Infinity that are not JSON at all.
"""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

from .errors import InvalidInput, TooLarge

MAX_DEPTH = 64
_INT64 = 2**63
_MAX_DIGITS = 400


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise InvalidInput(f"number out of range: {text[:40]}", code="invalid_json")
    return number


def _bounded(text: str) -> int:
    if len(text) > _MAX_DIGITS or not -_INT64 <= (number := int(text)) < _INT64:
        raise InvalidInput(f"integer beyond 64 bits: {text[:40]}", code="invalid_json")
    return number


def _constant(text: str) -> float:
    raise InvalidInput(f"{text} is not JSON", code="invalid_json")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_int=_bounded, parse_constant=_constant)


def loads(body: bytes | str, *, limit_bytes: int, trailing: bool = False, root: str = "") -> Any:
    """Return the value of a JSON text.

    `limit_bytes` is the largest accepted size, bytes; `trailing` ignores whatever follows the first value
    (as the wire contract's decoder does); `root` is the name errors give the outermost value.
    Raises TooLarge over the limit, InvalidInput with code `invalid_json` for everything else refused.
    """
    size = len(body) if isinstance(body, bytes) else len(body.encode("utf-8", "surrogatepass"))
    if size > limit_bytes:
        raise TooLarge(f"{size} bytes; the limit is {limit_bytes}", field=root, code="body_too_large")
    try:
        text = body.decode("utf-8-sig") if isinstance(body, bytes) else body
        stripped = text.lstrip(" \t\r\n")
        value, end = _DECODER.raw_decode(stripped)
        if not trailing and stripped[end:].strip(" \t\r\n"):
            raise InvalidInput("text after the JSON value", field=root, code="invalid_json")
    except UnicodeDecodeError:
        raise InvalidInput("not UTF-8", field=root, code="invalid_json") from None
    except RecursionError:
        raise InvalidInput(f"nested deeper than {MAX_DEPTH}", field=root, code="invalid_json") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidInput(f"not JSON: {error.msg} at {where}", field=root, code="invalid_json") from None
    except InvalidInput as error:
        error.field = error.field or locate(text, root) or root
        raise
    check(value, root=root)
    return value


def check(value: Any, *, root: str = "") -> None:
    """Refuse a value that JSON text could not carry to every reader.

    Raises InvalidInput, code `invalid_json`, naming the path of the first offender under `root`.
    """
    todo: list[tuple[Any, str, int]] = [(value, root, 1)]
    while todo:
        item, path, depth = todo.pop()
        if depth > MAX_DEPTH:
            raise InvalidInput(f"nested deeper than {MAX_DEPTH}", field=_short(path), code="invalid_json")
        if isinstance(item, dict):
            for key, inner in item.items():
                if not isinstance(key, str):
                    raise InvalidInput("object keys must be text", field=_short(path), code="invalid_json")
                _check_text(key, path)
                todo.append((inner, f"{path}.{key}" if path else key, depth + 1))
        elif isinstance(item, list | tuple):
            todo.extend((inner, f"{path}[{index}]", depth + 1) for index, inner in enumerate(item))
        elif isinstance(item, str):
            _check_text(item, path)
        elif isinstance(item, bool) or item is None:
            pass
        elif isinstance(item, int):
            if not -_INT64 <= item < _INT64:
                raise InvalidInput("integer beyond 64 bits", field=_short(path), code="invalid_json")
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise InvalidInput("NaN and Infinity are not JSON", field=_short(path), code="invalid_json")
        else:
            kind = type(item).__name__
            raise InvalidInput(f"{kind} is not JSON", field=_short(path), code="invalid_json")


def dumps(value: Any) -> str:
    """Return the compact JSON text of a checked value."""
    return orjson.dumps(value).decode()


def dumps_lossy(value: Any) -> str:
    """Return JSON text of a value we must not lose: half characters become U+FFFD, NaN becomes null.

    For results: a finished answer is never thrown away over one bad character in it.
    Raises TypeError for what JSON has no form for (objects of other types become their text first).
    """
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:
        text = json.dumps(value, default=str, ensure_ascii=False).encode("utf-8", "replace").decode()
        return orjson.dumps(orjson.loads(_without_constants(text))).decode()


def _without_constants(text: str) -> bytes:
    plain = json.loads(text, parse_constant=lambda _: None)
    return json.dumps(plain, ensure_ascii=False).encode()


def _check_text(text: str, path: str) -> None:
    if "\x00" in text:
        raise InvalidInput("U+0000 is not allowed in text", field=_short(path), code="invalid_json")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidInput("half a character (lone surrogate)", field=_short(path), code="invalid_json") from None


def _short(path: str) -> str:
    """Cut a path that is itself an attack; names may hold what no log should."""
    clean = path.encode("ascii", "backslashreplace").decode()
    return clean if len(clean) <= 200 else clean[:200] + "…"


def locate(text: str, root: str) -> str:
    """Return the path of the first number the decoder refuses, "" when it cannot be told.

    A slow second parse, only ever run on a text that is being refused: numbers are replaced by markers that
    carry their own text, then the first bad one is looked for by its place.
    """

    class Bad:
        pass

    def keep(parse: Any) -> Any:
        def inner(number: str) -> Any:
            try:
                return parse(number)
            except InvalidInput:
                return Bad()

        return inner

    decoder = json.JSONDecoder(parse_float=keep(_finite), parse_int=keep(_bounded), parse_constant=lambda _: Bad())
    try:
        value, _ = decoder.raw_decode(text.lstrip(" \t\r\n"))
    except (ValueError, RecursionError):
        return ""
    todo: list[tuple[Any, str]] = [(value, root)]
    while todo:
        item, path = todo.pop()
        if isinstance(item, Bad):
            return _short(path)
        if isinstance(item, dict):
            todo.extend((inner, f"{path}.{key}" if path else str(key)) for key, inner in reversed(item.items()))
        elif isinstance(item, list):
            todo.extend((inner, f"{path}[{i}]") for i, inner in reversed(list(enumerate(item))))
    return ""
