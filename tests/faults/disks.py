"""Disks of their own for a server: small ones that can be filled, and one that can stand still. Root on Linux only."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.stage import Stage
from tests.faults.ground import Ground
from tests.waiting import until

_IMAGE_MIB = 700


@contextmanager
def mounted(folder: Path, *words: str) -> Iterator[Path]:
    """Have this folder be a disk for the time of the block; `words` say which. Skips the test where that cannot be."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a disk")
    folder.mkdir(exist_ok=True)
    try:
        subprocess.run(["mount", *words, folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here; it takes root of a machine, not of a container alone")
    try:
        folder.chmod(0o711)
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def memory_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A disk of this size, MiB."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={mib}m,mode=711", "none") as disk:
        yield disk


@contextmanager
def image_disk(folder: Path) -> Iterator[Path]:
    """A disk that can be frozen: a file system in a file."""
    image = folder.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(_IMAGE_MIB * 2**20)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs mkfs.ext4 (apt install e2fsprogs)")
    with mounted(folder, "-o", "loop,noatime", str(image)) as disk:
        yield disk


@contextmanager
def frozen(disk: Path) -> Iterator[None]:
    """Have nothing be written to this disk for the time of the block: who tries waits, and cannot even be killed."""
    subprocess.run(["fsfreeze", "--freeze", disk], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", disk], check=True, capture_output=True)


def fill(disk: Path) -> Path:
    """Use up all the room there is, and return the file that does."""
    filler = disk / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), 4096)
    return filler


def move_log(ground: Ground, stage: Stage, to: Path) -> None:
    """Have the server's write-ahead log lie in this folder, which is not there yet."""
    cluster = Path(ground.rows("SHOW data_directory")[0]["data_directory"])
    ground.stop_postgres()
    until(lambda: not (cluster / "postmaster.pid").exists())
    owner = cluster.stat()
    shutil.move(cluster / "pg_wal", to)
    for path in (to, *to.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    (cluster / "pg_wal").symlink_to(to)
    stage.restart()
