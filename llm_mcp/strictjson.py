"""JSON as we let it in: bounded depth, finite numbers, no NUL, no half characters.

What Postgres or a reader would choke on later is refused here with the field's path: nesting that overflows
every reader's stack, numbers such as 1e131071 that explode when re-written, U+0000 and lone surrogates that
no text column and no UTF-8 encoder takes, NaN and Infinity that are not JSON at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import orjson
from pydantic import BaseModel

from .errors import InvalidInput, TooLarge

MAX_DEPTH = 64
_INT64 = 2**63
_INT64_CHARS = 20
_SPACE = " \t\r\n"
# Depth at which a result is cut off; orjson itself stops at 254.
_LOSSY_DEPTH = 200


def _integer(text: str) -> int:
    """Read an integer; of one that is too long any too large value will do, for `check` refuses it."""
    return int(text) if len(text) <= _INT64_CHARS else _INT64


_DECODER = json.JSONDecoder(parse_int=_integer)
# Python reads no integer of more than some thousand digits; of such a one its digits will do.
_TOLERANT = json.JSONDecoder(parse_int=lambda text: int(text) if len(text) <= 4000 else text, strict=False)


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
        value, end = _DECODER.raw_decode(text, len(text) - len(text.lstrip(_SPACE)))
    except UnicodeDecodeError:
        raise InvalidInput("not UTF-8", field=root, code="invalid_json") from None
    except RecursionError:
        raise InvalidInput(f"nested deeper than {MAX_DEPTH}", field=root, code="invalid_json") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidInput(f"not JSON: {error.msg} at {where}", field=root, code="invalid_json") from None
    if not trailing and text[end:].strip(_SPACE):
        raise InvalidInput("text after the JSON value", field=root, code="invalid_json")
    check(value, root=root)
    return value


def loads_tolerant(body: bytes | str, *, limit_bytes: int, root: str = "") -> Any:
    """Return the value of a JSON text that must not be lost over what no reader takes; for results that are handed in.

    Broken UTF-8 becomes U+FFFD, control characters are let in, as are NaN, half characters and whatever follows the
    first value: `dumps_lossy` makes every reader's JSON of it.
    Raises TooLarge over the limit, InvalidInput with code `invalid_json` for what is no JSON or nested too deep.
    """
    size = len(body) if isinstance(body, bytes) else len(body.encode("utf-8", "surrogatepass"))
    if size > limit_bytes:
        raise TooLarge(f"{size} bytes; the limit is {limit_bytes}", field=root, code="body_too_large")
    text = body.decode("utf-8-sig", "replace") if isinstance(body, bytes) else body
    try:
        return _TOLERANT.raw_decode(text, len(text) - len(text.lstrip(_SPACE)))[0]
    except RecursionError:
        raise InvalidInput("nested too deep to be read", field=root, code="invalid_json") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidInput(f"not JSON: {error.msg} at {where}", field=root, code="invalid_json") from None


def check(value: Any, *, root: str = "") -> None:
    """Refuse a value that JSON text could not carry to every reader.

    Raises InvalidInput, code `invalid_json`, naming the path of the first offender under `root`.
    """
    offence = _offence(value, 1)
    if offence is not None:
        fault, steps = offence
        raise InvalidInput(fault, field=_path(root, steps[::-1]), code="invalid_json")


def dumps(value: Any) -> str:
    """Return the compact JSON text of a checked value.

    Raises InvalidInput, code `invalid_json`, for what only looks like JSON (a number type of some library).
    """
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise InvalidInput(str(error), code="invalid_json") from None


def dumps_lossy(value: Any) -> str:
    """Return JSON text of a value we must not lose, every reader's kind of JSON, whatever the value is.

    For results: a finished answer is never thrown away over one bad character in it. NUL and half characters become
    U+FFFD, NaN and Infinity null, integers beyond 64 bits their digits as text, keys text, models objects, sets
    arrays, anything else its text; a cycle, and what lies deeper than 200, is cut off with "…".
    """
    try:
        encoded = orjson.dumps(value, default=_simpler, option=orjson.OPT_NON_STR_KEYS)
        if rb"\u0000" not in encoded:
            return encoded.decode()
    except orjson.JSONEncodeError:
        pass
    return orjson.dumps(_plain(value, ())).decode()


def _offence(item: Any, depth: int) -> tuple[str, list[Any]] | None:
    """Return what is wrong with the first item that is none of ours, and the steps to it, innermost first."""
    if depth > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH}", []
    if isinstance(item, str):
        fault = _text_fault(item)
    elif item is None or isinstance(item, bool):
        fault = None
    elif isinstance(item, dict):
        for key in item:
            fault = _text_fault(key) if isinstance(key, str) else "object keys must be text"
            if fault is not None:
                return fault, []
        return _within(item.items(), depth)
    elif isinstance(item, list | tuple):
        return _within(enumerate(item), depth)
    elif isinstance(item, int):
        fault = None if -_INT64 <= item < _INT64 else "integer beyond 64 bits"
    elif isinstance(item, float):
        fault = None if math.isfinite(item) else "number out of range (NaN and Infinity are not JSON)"
    else:
        fault = f"{type(item).__name__} is not JSON"
    return None if fault is None else (fault, [])


def _within(items: Iterable[tuple[Any, Any]], depth: int) -> tuple[str, list[Any]] | None:
    for step, item in items:
        offence = _offence(item, depth + 1)
        if offence is not None:
            offence[1].append(step)
            return offence
    return None


def _text_fault(text: str) -> str | None:
    if "\x00" in text:
        return "U+0000 is not allowed in text"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "half a character (lone surrogate)"
    return None


def _path(root: str, steps: list[Any]) -> str:
    """Return the dotted path of an item, cut when it is itself an attack; names may hold what no log should."""
    path = root
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
    clean = path.encode("ascii", "backslashreplace").decode()
    return clean if len(clean) <= 200 else clean[:200] + "…"


def _simpler(value: Any) -> Any:
    """Return something nearer to JSON for a value that is not."""
    try:
        if isinstance(value, BaseModel):
            return value.model_dump()
        return list(value) if isinstance(value, set | frozenset) else str(value)
    except Exception:  # noqa: BLE001 - a stranger's class may raise anything; the rest of the answer stands
        return f"<{type(value).__name__}>"


def _plain(value: Any, inside: tuple[int, ...]) -> Any:
    """Return a value as orjson takes it for certain; `inside`: the ids of the containers around it."""
    if isinstance(value, str):
        # By way of UTF-16 two halves that a stream tore apart become one character again.
        return value.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -_INT64 <= value < _INT64 else _digits(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict | list | tuple | set | frozenset | BaseModel):
        if id(value) in inside or len(inside) == _LOSSY_DEPTH:
            return "…"
        inside = (*inside, id(value))
        if isinstance(value, dict):
            return {_plain(_key(key), ()): _plain(item, inside) for key, item in value.items()}
        if isinstance(value, BaseModel):
            return _plain(_simpler(value), inside)
        return [_plain(item, inside) for item in value]
    try:
        return orjson.loads(orjson.dumps(value, default=_simpler, option=orjson.OPT_NON_STR_KEYS))
    except orjson.JSONEncodeError:
        return _plain(str(_simpler(value)), ())


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool):
        return json.dumps(key)
    return _digits(key) if isinstance(key, int) else str(_simpler(key))


def _digits(number: int) -> str:
    """Return an integer's digits; Python refuses to write more than some thousand of them in tens."""
    return str(number) if number.bit_length() < 10_000 else hex(number)
