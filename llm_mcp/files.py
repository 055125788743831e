"""Files that clients hand in and get back. Bounded, and in pieces: nobody ever holds one whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO
from uuid import UUID

import uuid_utils.compat

from .errors import Conflict, InvalidInput, NotFound, TooLarge
from .runtime import Runtime
from .store import files as rows
from .store.files import PIECE_BYTES, File

__all__ = ["File", "Files", "Writer"]

OUTPUT_KEPT_S = 30 * 86400.0
"""How long what a batch has written is kept, s."""
_PIECES_AT_ONCE = 4
_MAX_NAME_CHARS = 255


class Files:
    """The verbs on files. Cheap to make; safe for threads."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._db = runtime.db

    def add(self, source: IO[bytes], *, filename: str, size: int, expires_s: float | None = None) -> File:
        """Take a file of `size` bytes from where `source` stands to its end, and return it.

        `expires_s`: how long to keep it, s (None: until it is deleted). Raises InvalidInput naming the field, TooLarge.
        """
        if not 0 < len(filename) <= _MAX_NAME_CHARS or not filename.isprintable():
            raise InvalidInput(f"must have a name of at most {_MAX_NAME_CHARS} printable characters", field="file")
        if size == 0:
            raise InvalidInput("is empty", field="file")
        rows.sweep(self._db)
        writer = Writer(self._runtime, uuid_utils.compat.uuid7(), purpose="batch", filename=filename)
        writer.begin(size=size, expires_s=expires_s)
        while data := source.read(PIECE_BYTES):
            writer.add(data)
        return writer.close()

    def get(self, file_id: UUID | None) -> File:
        """Return a file. Raises NotFound."""
        found = None if file_id is None else rows.get(self._db, file_id)
        if found is None:
            raise NotFound("no file of that id")
        return found

    def page(self, *, n: int, before: UUID | None, purpose: str | None, oldest_first: bool) -> list[File]:
        """Return up to `n` files beyond the one of the id `before`, newest first unless `oldest_first`."""
        return rows.page(self._db, n=n, before=before, purpose=purpose, oldest_first=oldest_first)

    def pieces(self, file_id: UUID) -> Iterator[bytes]:
        """Yield the pieces of a file, in order. No connection is held between them."""
        place = 0
        while found := rows.pieces(self._db, file_id, place, _PIECES_AT_ONCE):
            yield from found
            place += len(found)

    def lines(self, file_id: UUID, *, most: int) -> Iterator[tuple[int, bytes]]:
        """Yield the lines of a file, each with the place of its first byte. Of one over `most` bytes only so many."""
        rest, at = b"", 0
        for piece in self.pieces(file_id):
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield at, line
                at += len(line) + 1
            if len(rest) > most:
                yield at, rest
                return
        if rest:
            yield at, rest

    def part(self, file_id: UUID, at: int, size: int) -> bytes:
        """Return `size` bytes of a file from a place on."""
        first, last = at // PIECE_BYTES, (at + size - 1) // PIECE_BYTES
        found = b"".join(rows.pieces(self._db, file_id, first, last - first + 1))
        start = at - first * PIECE_BYTES
        return found[start : start + size]

    def delete(self, file_id: UUID | None) -> None:
        """Delete a file. Raises NotFound, and Conflict while an unfinished batch reads it."""
        found = self.get(file_id)
        if not rows.delete(self._db, found.id) and rows.get(self._db, found.id) is not None:
            raise Conflict("a batch that is not finished reads this file", code="file_in_use")


class Writer:
    """Writes one file, piece by piece. Done again with the same bytes, it writes the same file."""

    def __init__(self, runtime: Runtime, file_id: UUID, *, purpose: str, filename: str) -> None:
        self._runtime = runtime
        self._id = file_id
        self._purpose = purpose
        self._filename = filename
        self._rest = bytearray()
        self._place = 0
        self._bytes = 0

    def begin(self, *, size: int = 0, expires_s: float | None) -> None:
        """Make room for `size` bytes. Raises TooLarge when the files there are leave none."""
        most = self._runtime.settings.max_files_bytes
        if not rows.add(
            self._runtime.db,
            self._id,
            purpose=self._purpose,
            filename=self._filename,
            size=size,
            most=most if size else 2**62,
            expires_s=expires_s,
        ):
            raise TooLarge(f"all files together may be {most} bytes: delete some", field="file", code="files_full")

    def add(self, data: bytes) -> None:
        """Write the next bytes."""
        self._rest += data
        while len(self._rest) >= PIECE_BYTES:
            self._put(PIECE_BYTES)

    def close(self) -> File:
        """Write what is left, and let the file be seen.

        Raises NotFound when it was deleted meanwhile, or closed by another who wrote the same.
        """
        if self._rest:
            self._put(len(self._rest))
        closed = rows.close(self._runtime.db, self._id, self._bytes)
        if closed is None:
            raise NotFound("the file is gone, or written already")
        return closed

    def _put(self, size: int) -> None:
        rows.put(self._runtime.db, self._id, self._place, bytes(self._rest[:size]))
        del self._rest[:size]
        self._place += 1
        self._bytes += size
