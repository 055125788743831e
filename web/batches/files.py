"""`/v1/files`: files that come in and go out in pieces."""

from __future__ import annotations

from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, Any

from flask import Response, request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.formparser import FormDataParser

from llm_mcp.errors import InvalidInput
from llm_mcp.files import File, Files

from ..reply import answer, service
from . import asked

_MOST_PAGE = 10_000
_PAGE = 1000
_LONGEST_S = 30 * 86400
_SHORTEST_S = 3600
# What is no file of a form is a few short words; the parser's own buffer must fit too, bytes.
_FIELDS_BYTES = 2**19
_PARTS = 32


def create() -> Response:
    """Take a file: a form of `file` and `purpose`, and of `expires_after[seconds]` if it is not to stay."""
    with ExitStack() as opened:
        form, files = _form(opened)
        if form.get("purpose") != "batch":
            raise InvalidInput("must be batch", field="purpose", code="invalid_value")
        expires_s = _expires_s(form)
        given = files.get("file")
        if given is None:
            fault = "is required, as a file of a multipart form"
            raise InvalidInput(fault, field="file", code="missing_required_parameter")
        size = given.stream.seek(0, 2)
        given.stream.seek(0)
        name = given.filename or "file.jsonl"
        return answer(shown(_files().add(given.stream, filename=name, size=size, expires_s=expires_s)))


def page() -> Response:
    """List files, newest first unless `order=asc`: `purpose` filters, `after` and `limit` page."""
    order = request.args.get("order") or "desc"
    if order not in ("asc", "desc"):
        raise InvalidInput("must be asc or desc", field="order", code="invalid_value")
    limit = asked.limit(_PAGE, _MOST_PAGE)
    purpose = request.args.get("purpose") or None
    if purpose is not None and not purpose.isprintable():
        raise InvalidInput("holds a control character", field="purpose", code="invalid_value")
    found = _files().page(n=limit + 1, before=asked.after(asked.file_id), purpose=purpose, oldest_first=order == "asc")
    return answer(asked.listed(found, limit, shown))


def get(name: str) -> Response:
    """Return what is known of a file."""
    return answer(shown(_files().get(asked.file_id(name))))


def delete(name: str) -> Response:
    """Delete a file: 409 while an unfinished batch reads it."""
    _files().delete(asked.file_id(name))
    return answer({"id": name, "object": "file", "deleted": True})


def content(name: str) -> Response:
    """Return a file's bytes."""
    files = _files()
    file = files.get(asked.file_id(name))
    response = Response(files.pieces(file.id), mimetype="application/octet-stream")
    response.content_length = file.bytes
    response.headers.set("Content-Disposition", "attachment", filename=file.filename)
    return response


def shown(file: File) -> dict[str, Any]:
    """Return the `file` object."""
    return {
        "id": asked.FILE + file.id.hex,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at.timestamp()),
        "expires_at": None if file.expires_at is None else int(file.expires_at.timestamp()),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def _files() -> Files:
    return Files(service().runtime)


def _form(opened: ExitStack) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
    """Read the request's form. Files lie on disk, from where they go to the database in pieces, until `opened` closes.

    Raises RequestEntityTooLarge, also for a form of very many parts, or of large ones that are no files.
    """

    def on_disk(*_: Any, **__: Any) -> IO[bytes]:
        return opened.enter_context(TemporaryFile("w+b"))

    parser = FormDataParser(stream_factory=on_disk, max_form_memory_size=_FIELDS_BYTES, max_form_parts=_PARTS)
    _, form, files = parser.parse(request.stream, request.mimetype, request.content_length, request.mimetype_params)
    return form, files


def _expires_s(form: MultiDict[str, str]) -> float | None:
    anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
    if anchor not in (None, "created_at"):
        raise InvalidInput("must be created_at", field="expires_after.anchor", code="invalid_value")
    if seconds is None:
        return None
    short = seconds.isascii() and seconds.isdigit() and len(seconds) <= 9
    if not (short and _SHORTEST_S <= int(seconds) <= _LONGEST_S):
        words = f"must be an integer from {_SHORTEST_S} to {_LONGEST_S}"
        raise InvalidInput(words, field="expires_after.seconds", code="invalid_value")
    return float(seconds)
