"""Files in pieces: nobody ever holds one whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from .pool import Database

PIECE_BYTES = 2**18
"""Length of a piece; the last one of a file may be shorter."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that is whole: its size in bytes, when it came, and when it goes (None: it stays)."""

    id: UUID
    purpose: str
    filename: str
    bytes: int
    created_at: datetime
    expires_at: datetime | None


def add(
    db: Database, file_id: UUID, *, purpose: str, filename: str, size: int, most: int, expires_s: float | None
) -> bool:
    """Begin a file of some `size` bytes; False when all together would be over `most`. Nobody sees it before `close`.

    `expires_s`: how long it is kept, s (None: until it is deleted).
    """
    params = {
        "id": file_id,
        "purpose": purpose,
        "filename": filename,
        "bytes": size,
        "most": most,
        "expires_s": expires_s,
    }
    return bool(db.run("add_file", params))


def put(db: Database, file_id: UUID, place: int, data: bytes) -> None:
    """Write a piece; doing so again is fine."""
    db.run("put_piece", {"id": file_id, "place": place, "data": data})


def close(db: Database, file_id: UUID, size: int) -> File | None:
    """Say that all pieces of a file are there, `size` bytes; None when it is gone, or was closed before."""
    rows = db.run("close_file", {"id": file_id, "bytes": size})
    return File(**rows[0]) if rows else None


def get(db: Database, file_id: UUID) -> File | None:
    """Return a file, None when there is none of that id."""
    rows = db.run("file", {"id": file_id})
    return File(**rows[0]) if rows else None


def page(db: Database, *, n: int, before: UUID | None, purpose: str | None, oldest_first: bool) -> list[File]:
    """Return up to `n` files beyond the one of the id `before`."""
    params = {"n": n, "before": before, "purpose": purpose}
    found = db.run("files_ahead", params) if oldest_first else db.run("files", params)
    return [File(**row) for row in found]


def pieces(db: Database, file_id: UUID, place: int, n: int) -> list[bytes]:
    """Return up to `n` pieces from a place on."""
    return [bytes(row["data"]) for row in db.run("pieces", {"id": file_id, "place": place, "n": n})]


def delete(db: Database, file_id: UUID) -> bool:
    """Delete a file; False when there is none, or an unfinished batch reads it."""
    return bool(db.run("delete_file", {"id": file_id}))


def sweep(db: Database) -> None:
    """Delete a few files whose time is over."""
    db.run("sweep_files")
