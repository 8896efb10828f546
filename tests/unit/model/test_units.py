"""Durations and moments as people write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.model.units import format_duration, parse_duration, parse_period, rfc3339

DURATIONS = [
    ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("250ms", 0.25), ("1h1m1s1ms", 3661.001), ("0s", 0),
    ("1m30s", 90), ("0.1s", 0.1), ("48h", 172_800),
]  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_a_duration_is_read_in_the_spelling_of_go(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "10", "s", "-5s", "+5s", "5 s", "5d", "5S", "1h 30m", "1..5h", ".5s", "5s ", "1e3s", "5m!", "５s", "5s\n"],
)
def test_any_other_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9" * 30 + "h", "9" * 400 + "s"])
def test_a_duration_that_no_clock_holds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.25, "0.25s"), (1, "1s"), (59.5, "59.5s"), (59.9999, "1m"), (60, "1m"), (90, "1m30s"), (3600, "1h"),
        (5400, "1h30m"), (3661, "1h1m1s"), (90.6, "1m31s"), (100_000, "27h46m40s"),
    ],
)  # fmt: skip
def test_a_duration_is_written_without_empty_parts(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


@given(st.integers(0, 10**7))
def test_whole_seconds_survive_being_written(seconds: int) -> None:
    duration = timedelta(seconds=seconds)

    assert parse_duration(format_duration(duration)) == duration


def test_a_moment_is_written_in_utc_whatever_its_zone() -> None:
    moment = datetime(2026, 1, 31, 13, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=1)))

    assert rfc3339(moment) == "2026-01-31T12:00:00.250000Z"
    assert rfc3339(datetime(2026, 1, 31, tzinfo=UTC)) == "2026-01-31T00:00:00Z"


@pytest.mark.parametrize("text", ["1s", "30m", "8760h"])
def test_a_period_is_a_duration(text: str) -> None:
    assert parse_period(text) == parse_duration(text)


@pytest.mark.parametrize("text", ["0s", "8785h", "80000000h"])
def test_a_period_is_more_than_nothing_and_no_more_than_a_year(text: str) -> None:
    with pytest.raises(ValueError, match="at most"):
        parse_period(text)
