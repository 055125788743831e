"""When a cron line ticks, in a time zone. Pure: the moment to count from is given."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from .errors import InvalidInput

MAX_CHARS = 200
# Every line that ever ticks does so within the fifty years that are looked through from here.
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


def next_after(cron: str, timezone: str, after: datetime) -> datetime:
    """Return the first tick of a cron line later than the aware instant `after`, in UTC.

    `cron`: minute, hour, day of month, month, day of week, and before them, if there are six, the second; read as
    Debian's cron reads it, also where clocks change. `timezone`: an IANA name. Raises InvalidInput naming `cron` or
    `timezone`, also for a line that never ticks.
    """
    zone, after = _zone(timezone), after.astimezone(UTC)
    if len(cron) > MAX_CHARS:
        raise InvalidInput(f"is longer than {MAX_CHARS} characters", field="cron", code="invalid_cron")
    try:
        ticks = CronSim(cron, after.astimezone(zone))
    except CronSimError as error:
        raise InvalidInput(f"{cron!r}: {str(error).lower()}", field="cron", code="invalid_cron") from None
    for tick in ticks:
        # In the hour that clocks go through twice, a tick of its first round may be told in its second.
        if (at := tick.astimezone(UTC)) > after:
            return at
    raise InvalidInput(f"{cron!r} never ticks", field="cron", code="invalid_cron")


def check(cron: str, timezone: str) -> None:
    """Raise InvalidInput naming the field for a cron line that cannot be read or never ticks, or an unknown zone."""
    next_after(cron, timezone, _ANY_TIME)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such zone; no name of one; a folder of them
        raise InvalidInput(f"no time zone {name!r}", field="timezone", code="invalid_timezone") from None
