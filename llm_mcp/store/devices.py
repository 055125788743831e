"""The machines that work or serve models, as rows."""

from __future__ import annotations

from dataclasses import dataclass

from .pool import Database, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a machine says of itself. `tags` is the JSON text of an object."""

    id: str
    name: str = ""
    platform: str = ""
    arch: str = ""
    host: str = ""
    tags: str = "{}"


def registered(db: Database, device: Described) -> None:
    """Write that a machine is there, and what it says of itself; tags it does not name stay."""
    db.run(
        "device_registered",
        {
            "id": device.id,
            "name": device.name,
            "platform": device.platform,
            "arch": device.arch,
            "host": device.host,
            "tags": device.tags,
        },
    )


def known(db: Database, *, n: int) -> list[Row]:
    """Return up to `n` machines, the one seen last first: id, name, platform, arch, status, last_seen."""
    return db.run("devices", {"n": n})


def offline(db: Database, device_id: str, *, reason: str) -> None:
    """Write that a machine is away, and why; of one we do not know nothing is written."""
    db.run("device_offline", {"id": device_id, "reason": reason})
