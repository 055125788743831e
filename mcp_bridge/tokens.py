"""The bridge's tokens: a file of their hashes, each with the name it stands for and what that one may do.

    # sha256 of the token, name, scopes
    3f0a…64 digits…c7 laptop llm:read,llm:submit

The tokens themselves are nowhere: who makes one shows it once.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

import anyio

from llm_mcp.errors import InvalidInput, SetupError

from .principal import LOCAL, SCOPES, Principal

log = logging.getLogger(__name__)

_NAME = re.compile(r"[\x21-\x7e]{1,128}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_BYTES = 2**20
_LOOK_S = 2.0


class Tokens:
    """What a file of tokens says, followed when the file changes.

    Parameters: `path`, the file. Raises SetupError naming the line that is wrong.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp, self._known = _read(path)

    def find(self, token: str) -> Principal | None:
        """Return whom a token stands for. Takes as long whether, and wherever, it is known."""
        digest, found = digest_of(token), None
        for known, principal in self._known:
            if hmac.compare_digest(known, digest):
                found = principal
        return found

    async def follow(self) -> None:
        """Read the file again whenever it changes, until cancelled; one that is wrong changes nothing."""
        while True:
            await anyio.sleep(_LOOK_S)
            try:
                if await anyio.to_thread.run_sync(_stamp, self._path) != self._stamp:
                    self._stamp, self._known = await anyio.to_thread.run_sync(_read, self._path)
                    log.info("the tokens were read again", extra={"action": "tokens_read", "count": len(self._known)})
            except SetupError as error:
                self._stamp = await anyio.to_thread.run_sync(_stamp, self._path)
                log.error("the tokens stay as they were", extra={"action": "tokens_wrong", "error": str(error)})


def digest_of(token: str) -> str:
    """Return what stands in the file for a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def new(name: str, scopes: Iterable[str]) -> tuple[str, str]:
    """Return a new token and its line for the file. Raises InvalidInput naming `name` or `scope`."""
    token = f"llm-{secrets.token_urlsafe(32)}"
    principal = _principal(name, sorted(set(scopes)))
    return token, f"{digest_of(token)} {principal.name} {','.join(sorted(principal.scopes))}"


def _principal(name: str, scopes: list[str]) -> Principal:
    if not _NAME.fullmatch(name) or name.startswith("#"):
        raise InvalidInput("must be 1 to 128 printable ASCII characters without spaces", field="name")
    if name == LOCAL.name:
        raise InvalidInput("is the name of this machine's own user", field="name")
    if not scopes or not SCOPES.issuperset(scopes):
        raise InvalidInput(f"must be some of {', '.join(sorted(SCOPES))}", field="scope")
    return Principal(name, frozenset(scopes))


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        there = path.stat()
    except OSError:
        return (0, 0, 0)
    return there.st_ino, there.st_size, there.st_mtime_ns


def _read(path: Path) -> tuple[tuple[int, int, int], list[tuple[str, Principal]]]:
    stamp = _stamp(path)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_BYTES + 1)
        mode = path.stat().st_mode
    except OSError as error:
        raise SetupError(f"LLM_MCP_TOKENS: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SetupError(f"LLM_MCP_TOKENS: {path} is not UTF-8") from None
    if len(text) > _MAX_BYTES:
        raise SetupError(f"LLM_MCP_TOKENS: {path} is over {_MAX_BYTES} bytes")
    if mode & 0o077:
        log.warning(
            "the file of tokens can be read or changed by others: chmod 600", extra={"action": "tokens_open_to_others"}
        )
    known: dict[str, Principal] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        digest, principal = _entry(line, f"LLM_MCP_TOKENS: {path} line {number}")
        if digest in known:
            raise SetupError(f"LLM_MCP_TOKENS: {path} line {number}: the token stands there twice")
        known[digest] = principal
    return stamp, list(known.items())


def _entry(line: str, where: str) -> tuple[str, Principal]:
    words = line.split()
    if len(words) != 3:
        raise SetupError(f"{where}: must be `sha256 name scope,scope`")
    if not _DIGEST.fullmatch(words[0]):
        raise SetupError(f"{where}: the first word must be a SHA-256 in lower-case hexadecimal")
    try:
        return words[0], _principal(words[1], words[2].split(","))
    except InvalidInput as error:
        raise SetupError(f"{where}: {error.field} {error}") from None
