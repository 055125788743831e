"""The device's state file: how others on this machine find it, and how they know that it lives.

`<data dir>/ollama.json` holds {"url", "pid"}; it appears once the device listens and goes at a clean end. After a
crash it stays behind, so a reader believes it only when the process is there and the port answers in its name.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import ipaddress
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from llm_mcp.errors import SetupError

_FILE = "ollama.json"
_LOCK = "ollama.lock"
_MAX_BYTES = 4096
_ANSWER_S = 0.08


def path(data_dir: Path) -> Path:
    """Return where the state of the device of this data directory is kept."""
    return data_dir / _FILE


def signature(pid: int) -> str:
    """Return the `Server` header by which the device of that process is known."""
    return f"llm-mcp-device/{pid}"


@contextlib.contextmanager
def claimed(data_dir: Path) -> Iterator[None]:
    """Be the one device of this data directory while the block runs; the folder is made when missing.

    Raises SetupError when another one is, or when the folder cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        # The lock ends with the process, however it ends.
        lock = (data_dir / _LOCK).open("w")
    except OSError as error:
        raise SetupError(f"--data-dir: {data_dir}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SetupError(f"--data-dir: a device already runs for {data_dir}") from None
        yield


def write(data_dir: Path, url: str) -> None:
    """Publish this process as the device of `data_dir`, readable by its user only, whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=data_dir, prefix=f".{_FILE}.")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump({"url": url, "pid": os.getpid()}, file)
        Path(temporary).replace(path(data_dir))
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove(data_dir: Path) -> None:
    """Take the state back, unless it is by now another process's."""
    found = _read(data_dir)
    if found is not None and found[1] == os.getpid():
        path(data_dir).unlink(missing_ok=True)


def running_url(data_dir: Path) -> str | None:
    """Return the base URL of the device that runs for this data directory, None when there is none.

    Asks the process table and the port (loopback only, never longer than 100 ms). A device that takes the
    connection but is too busy to answer in that time counts as running.
    """
    found = _read(data_dir)
    if found is None:
        return None
    url, pid = found
    return url if _alive(pid) and _answers(url, pid) else None


def _read(data_dir: Path) -> tuple[str, int] | None:
    try:
        with path(data_dir).open("rb") as file:
            state = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(state, dict):
        return None
    url, pid = state.get("url"), state.get("pid")
    if not isinstance(url, str) or type(pid) is not int or pid <= 0:
        return None
    return url, pid


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _answers(url: str, pid: int) -> bool:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if port is None or not ipaddress.ip_address(host).is_loopback:
            return False
    except ValueError:
        return False
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_S)
    with contextlib.closing(connection):
        try:
            connection.connect()
        except OSError:
            return False
        try:
            connection.request("HEAD", "/")
            return connection.getresponse().headers.get("Server") == signature(pid)
        except TimeoutError:
            return True
        except (OSError, http.client.HTTPException):
            return False
