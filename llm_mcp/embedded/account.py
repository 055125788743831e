"""Who a server runs as: ourselves, or as root an unprivileged account, since Postgres refuses to run as root."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_mcp.errors import SetupError

_ACCOUNTS = ("llm-mcp", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """The user a server runs as: its name and ids, and whether it is another one than ours."""

    name: str
    uid: int
    gid: int
    other: bool

    def can_enter(self, folder: Path) -> bool:
        """Return whether this user may reach what lies in `folder`: every folder on the way lets it pass."""
        return all(self._passes(part) for part in (*reversed(folder.resolve().parents), folder.resolve()))

    def own(self, path: Path) -> None:
        """Make a file or folder this user's."""
        if self.other:
            os.chown(path, self.uid, self.gid)

    def popen_options(self) -> dict[str, Any]:
        """Return what makes subprocess start a program as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.other else {}

    def _passes(self, folder: Path) -> bool:
        found = folder.stat()
        if found.st_uid == self.uid:
            return bool(found.st_mode & stat.S_IXUSR)
        if found.st_gid == self.gid:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)


def account_for(cluster: Path) -> Account:
    """Return who the server of this cluster runs as: the owner of the files it has, else us, else an account of ours.

    Raises SetupError as root on a machine without an unprivileged account.
    """
    if os.geteuid() != 0:
        me = os.geteuid()
        return Account(_name(me), me, os.getegid(), other=False)
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return Account(_name(owner.st_uid), owner.st_uid, owner.st_gid, other=True)
    for name in _ACCOUNTS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, found.pw_uid, found.pw_gid, other=True)
    raise SetupError("Postgres does not run as root and there is no account 'llm-mcp' or 'nobody': create one")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
