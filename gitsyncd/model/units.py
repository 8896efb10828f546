"""Units as people write them: `5m` is 300 seconds, and a moment is RFC 3339 in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)", re.ASCII)
LONGEST_PERIOD = timedelta(days=366)
"""A year, whichever."""
_LONGEST = Decimal(timedelta.max // timedelta(seconds=1))
_SECONDS = {"h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}


def parse_duration(text: str) -> timedelta:
    """Go's spelling: `90s`, `10m`, `1h30m`, `1.5h`, `250ms`. Raises `ValueError` for anything else, signs included."""
    position, seconds = 0, Decimal(0)
    while match := _DURATION_PART.match(text, position):
        seconds += Decimal(match[1]) * _SECONDS[match[2]]
        position = match.end()
    if not text or position != len(text) or seconds > _LONGEST:
        raise ValueError(f"{text!r} is not a duration such as 90s, 10m or 1h30m")
    return timedelta(seconds=float(seconds))


def parse_period(text: str) -> timedelta:
    """How long something lasts from now on: as `parse_duration`, and also raises `ValueError` for nothing and for more
    than a year.
    """
    period = parse_duration(text)
    if not timedelta(0) < period <= LONGEST_PERIOD:
        raise ValueError(f"{text!r} is out of range: write more than nothing, and a year (8760h) at most")
    return period


def format_duration(duration: timedelta) -> str:
    """`1h30m`, `90s` is written `1m30s`; parts of a second only below one minute."""
    seconds = round(duration.total_seconds(), 3)
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return "".join(f"{value}{unit}" for value, unit in ((hours, "h"), (minutes, "m"), (left, "s")) if value)


def rfc3339(moment: datetime) -> str:
    """`2026-01-31T12:00:00Z`, with microseconds where there are any. `moment` is aware."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
