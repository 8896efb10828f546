"""Cron expressions as crontab(5) has them, whatever the library below calls a weekday."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.edges.schedule import cron_moment, zone

FRIDAY = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "time_zone", "expected"),
    [
        ("*/10 8-18 * * 1-5", "Europe/Berlin", "2026-11-27T09:10"),
        ("0 8 * * 1-5", "Europe/Berlin", "2026-11-30T07:00"),
        ("0 8 * * mon-fri", "UTC", "2026-11-30T08:00"),
        ("0 0 * * 0", "UTC", "2026-11-29T00:00"),
        ("0 0 * * 7", "UTC", "2026-11-29T00:00"),
        ("0 0 * * SUN", "UTC", "2026-11-29T00:00"),
        ("0 0 * * 5-7", "UTC", "2026-11-28T00:00"),
        ("0 0 * * fri-mon", "UTC", "2026-11-28T00:00"),
        ("0 0 * * 1/2", "UTC", "2026-11-30T00:00"),
        ("5 4 * * */2", "UTC", "2026-11-28T04:05"),
        ("0 0 1 * 6", "UTC", "2026-11-28T00:00"),
        ("0 0 1 * *", "UTC", "2026-12-01T00:00"),
        ("30 2 29 2 *", "UTC", "2028-02-29T02:30"),
        ("@daily", "America/New_York", "2026-11-28T05:00"),
        ("@hourly", "UTC", "2026-11-27T10:00"),
    ],
)
def test_the_next_moment(expression: str, time_zone: str, expected: str) -> None:
    found = cron_moment(expression, time_zone, FRIDAY)

    assert found is not None
    assert found.isoformat(timespec="minutes") == f"{expected}+00:00"


def test_a_moment_that_has_come_is_not_the_next_one() -> None:
    nine = cron_moment("0 9 * * *", "UTC", FRIDAY)

    assert nine == datetime(2026, 11, 28, 9, 0, tzinfo=UTC)


def test_an_hour_that_comes_twice_counts_twice() -> None:
    first = cron_moment("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 24, 12, 0, tzinfo=UTC))
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)

    assert cron_moment("30 2 * * *", "Europe/Berlin", first) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_what_clocks_skip_comes_an_hour_later() -> None:
    found = cron_moment("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 28, 12, 0, tzinfo=UTC))

    assert found == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


@given(
    st.integers(0, 366 * 86_400),
    st.sampled_from(["*/7 * * * *", "30 1,2 * * *", "@hourly"]),
)
def test_time_goes_on(seconds: int, expression: str) -> None:
    after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    found = cron_moment(expression, "Europe/Berlin", after)

    assert found is not None
    assert after < found < after + timedelta(days=2)


def test_a_day_that_never_comes() -> None:
    assert cron_moment("0 0 31 2 *", "UTC", FRIDAY) is None


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * *",
        "61 * * * *",
        "* 24 * * *",
        "x * * * *",
        "* * * * 8",
        "* * * * -1",
        "* * * * */0",
        "@never",
        "* * 0 * *",
    ],
)
def test_what_is_no_schedule(expression: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        cron_moment(expression, "UTC", FRIDAY)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe"])
def test_what_is_no_time_zone(name: str) -> None:
    with pytest.raises(ValueError, match="is no time zone"):
        zone(name)
