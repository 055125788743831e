"""When a cron line ticks: the next instant after another, also on the nights when clocks change."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_mcp import cron
from llm_mcp.errors import InvalidInput

BERLIN = "Europe/Berlin"


def ticks(line: str, zone: str, after: str, n: int) -> list[str]:
    """Return the next n ticks after a UTC instant, as `day hour:minute` in UTC."""
    found, at = [], datetime.fromisoformat(after).replace(tzinfo=UTC)
    for _ in range(n):
        at = cron.next_after(line, zone, at)
        found.append(f"{at:%d %H:%M}")
    return found


def test_a_line_ticks_by_the_clock_of_its_zone() -> None:
    assert ticks("0 7 * * *", "UTC", "2026-07-01 06:59:59", 2) == ["01 07:00", "02 07:00"]
    assert ticks("0 7 * * *", BERLIN, "2026-07-01 06:59:59", 2) == ["02 05:00", "03 05:00"]
    assert ticks("0 7 * * MON-FRI", BERLIN, "2026-07-03 12:00", 2) == ["06 05:00", "07 05:00"]
    assert ticks("30 5 L * *", "Asia/Kolkata", "2026-02-01", 2) == ["28 00:00", "31 00:00"]


def test_a_tick_is_later_than_the_moment_given_and_not_that_moment() -> None:
    at = datetime(2026, 7, 1, 7, tzinfo=UTC)
    assert cron.next_after("0 7 * * *", "UTC", at) == at + timedelta(days=1)
    assert cron.next_after("0 7 * * *", "UTC", at - timedelta(microseconds=1)) == at


def test_six_fields_begin_with_the_second() -> None:
    at = datetime(2026, 7, 1, 7, 0, 20, tzinfo=UTC)
    assert cron.next_after("*/15 * * * * *", BERLIN, at) == at + timedelta(seconds=10)


def test_an_hour_that_clocks_skip_makes_a_daily_tick_late_and_loses_none() -> None:
    """Berlin, 29 March 2026: 02:00 is 03:00, which is 01:00 UTC."""
    assert ticks("30 2 * * *", BERLIN, "2026-03-28 00:00", 3) == ["28 01:30", "29 01:00", "30 00:30"]
    assert ticks("0,30 2 * * *", BERLIN, "2026-03-28 12:00", 2) == ["29 01:00", "30 00:00"]
    assert ticks("*/30 * * * *", BERLIN, "2026-03-29 00:00", 4) == ["29 00:30", "29 01:00", "29 01:30", "29 02:00"]


def test_an_hour_that_clocks_go_through_twice_has_a_daily_tick_once() -> None:
    """Berlin, 25 October 2026: 03:00 is 02:00 again, at 01:00 UTC."""
    assert ticks("30 2 * * *", BERLIN, "2026-10-24 00:00", 3) == ["24 00:30", "25 00:30", "26 01:30"]
    assert ticks("*/30 * * * *", BERLIN, "2026-10-24 23:59", 5) == [
        *("25 00:00", "25 00:30", "25 01:00", "25 01:30", "25 02:00")
    ]


@pytest.mark.parametrize("after", ["2026-10-25 01:10", "2026-10-25 00:45", "2026-10-25 01:29:59.5"])
def test_in_the_second_round_of_an_hour_the_ticks_of_the_first_are_past(after: str) -> None:
    assert ticks("30 2 * * *", BERLIN, after, 1) == ["26 01:30"]
    local = datetime.fromisoformat(after).replace(tzinfo=UTC).astimezone(ZoneInfo(BERLIN))
    assert f"{cron.next_after('30 2 * * *', BERLIN, local):%d %H:%M}" == "26 01:30"


@pytest.mark.parametrize(
    ("line", "zone", "field", "said"),
    [
        ("", "UTC", "cron", "'': wrong number of fields"),
        ("0 7 * *", "UTC", "cron", "wrong number of fields"),
        ("0 25 * * *", "UTC", "cron", "'0 25 * * *': bad hour"),
        ("*/0 * * * *", "UTC", "cron", "bad minute"),
        ("@daily", "UTC", "cron", "wrong number of fields"),
        ("0 7 * * *" + " " * 200, "UTC", "cron", "longer than 200"),
        ("0 0 31 2 *", "UTC", "cron", "bad day-of-month"),
        ("0 0 */25 2 MON#3", "UTC", "cron", "never ticks"),
        ("0 7 * * *", "Europe/Bonn", "timezone", "no time zone 'Europe/Bonn'"),
        ("0 7 * * *", "", "timezone", "no time zone ''"),
        ("0 7 * * *", "Europe", "timezone", "no time zone"),
        ("0 7 * * *", "../UTC", "timezone", "no time zone"),
        ("0 7 * * *", "U\0TC", "timezone", "no time zone"),
        ("0 7 * * *", "x" * 5000, "timezone", "no time zone"),
    ],
)
def test_what_cannot_be_read_or_never_ticks_is_refused_by_its_field(
    line: str, zone: str, field: str, said: str
) -> None:
    with pytest.raises(InvalidInput, match=re.escape(said)) as caught:
        cron.check(line, zone)
    assert caught.value.field == field


def test_a_rare_day_is_a_day() -> None:
    cron.check("0 0 29 2 *", BERLIN)
    cron.check("0 0 * 2 MON#5", BERLIN)


_NUMBER = st.integers(1, 7).map(str)
_ITEM = st.one_of(
    st.just("*"),
    _NUMBER,
    st.builds("*/{}".format, _NUMBER),
    st.builds("{}-7".format, _NUMBER),
)
_ODD = st.sampled_from(["L", "LW", "5L", "MON#5", "SUN", "31"]) | st.text(alphabet="0123456789*/,-#LWMON²", max_size=6)
_LINE = st.builds(
    lambda fields, place, odd: " ".join([*fields[:place], *odd, *fields[place:]]),
    st.lists(st.lists(_ITEM, min_size=1, max_size=3).map(",".join), min_size=4, max_size=6),
    st.integers(0, 6),
    st.lists(_ODD, max_size=1),
)


@settings(max_examples=500, deadline=None)
@given(
    _LINE | st.text(max_size=30),
    st.sampled_from(["UTC", BERLIN, "Pacific/Apia", "Australia/Lord_Howe"]),
    st.integers(0, 2**31).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
def test_any_text_is_refused_or_ticks_later(line: str, zone: str, after: datetime) -> None:
    try:
        tick = cron.next_after(line, zone, after)
    except InvalidInput as error:
        refused = error.field
    else:
        refused = "cron" if tick > after else f"{tick} is not after {after}"
    assert refused == "cron"
