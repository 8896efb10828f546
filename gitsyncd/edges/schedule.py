"""APScheduler's home: calendar times. A job does no work; it rings, and the loop that owns the work looks.

Intervals, retries and deadlines do not belong here: each loop waits for those by itself, on the monotonic clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler
    from apscheduler.triggers.base import BaseTrigger

_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * sun",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_ITEM: Final = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?", re.ASCII)


def cron_moment(expression: str, time_zone: str, after: datetime) -> datetime | None:
    """The first moment after that one (aware) which a cron expression means; None when there is none.

    Five fields as crontab(5) has them, and `@daily` and its like. Where both the day and the weekday are restricted,
    either is enough. When clocks are set forward, what falls into the gap comes an hour later; when they are set back,
    what comes twice counts twice. Raises `ValueError` with what is wrong.
    """
    trigger = _trigger(expression, zone(time_zone))
    probe = after
    while True:
        moment: datetime | None = trigger.get_next_fire_time(None, probe + timedelta(microseconds=1))
        if moment is None:
            return None
        if moment > after:
            return moment.astimezone(UTC)
        # In the hour that comes twice APScheduler answers with the first of both, which may be over.
        probe += timedelta(minutes=15)


def zone(name: str) -> ZoneInfo:
    """A time zone by its name in the IANA database. Raises `ValueError`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"`{name}` is no time zone that this machine knows") from None


def _trigger(expression: str, time_zone: ZoneInfo) -> BaseTrigger:
    from apscheduler.triggers.combining import OrTrigger  # see Calendar.at
    from apscheduler.triggers.cron import CronTrigger

    text = expression.strip().lower()
    fields = _MACROS.get(text, text).split()
    if len(fields) != 5:
        raise ValueError("a schedule has five fields: minute, hour, day, month, weekday")
    minute, hour, day, month, weekday = fields
    weekday = "*" if weekday == "*" else ",".join(_DAYS[number] for number in sorted(set(_weekdays(weekday))))
    days = [(day, weekday)] if day.startswith("*") or fields[4].startswith("*") else [(day, "*"), ("*", weekday)]
    try:
        found = [
            CronTrigger(minute=minute, hour=hour, day=on, month=month, day_of_week=of_week, timezone=time_zone)
            for on, of_week in days
        ]
    except ValueError as error:
        raise ValueError(f"a field of the schedule cannot be read: {error}") from None
    return found[0] if len(found) == 1 else OrTrigger(found)


def _weekdays(field: str) -> Iterator[int]:
    """Sunday is 0, and 7 too. APScheduler begins its week on Monday, so that numbers must not reach it."""
    for item in field.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(f"`{item}` is no weekday")
        step = int(match[3] or 1)
        if match[1] is None:
            first, last = 0, 6
        else:
            first = _weekday(match[1])
            last = _weekday(match[2]) if match[2] else 6 if match[3] else first
            last += 7 if last < first else 0
        if step < 1:
            raise ValueError(f"`{item}` steps by nothing")
        yield from (number % 7 for number in range(first, last + 1, step))


def _weekday(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if not re.fullmatch("[0-7]", text):
        raise ValueError(f"`{text}` is no weekday: 0 to 7, or sun to sat")
    return int(text)


class Calendar:
    """Rings at wall-clock moments, also when the clock was set meanwhile. Satisfies the engine's `Calendar`."""

    def __init__(self) -> None:
        self._scheduler: AsyncIOScheduler | None = None

    def at(self, name: str, moment: datetime, ring: Callable[[], None]) -> None:
        """Ring once at `moment` (aware), at once when it is past. A later call of the same name replaces this one."""
        # Imported at the first use: 5 MB that an agent without appointments need not carry.
        from apscheduler.triggers.date import DateTrigger

        async def job() -> None:
            # A coroutine function on purpose: a plain one would run in a thread, where ringing is a race.
            ring()

        self._started().add_job(
            job, DateTrigger(moment.astimezone(UTC)), id=name, replace_existing=True, misfire_grace_time=None
        )

    def following(self, expression: str, time_zone: str, after: datetime) -> datetime | None:
        """See `cron_moment`."""
        return cron_moment(expression, time_zone, after)

    def close(self) -> None:
        """Nothing rings any more."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    def _started(self) -> AsyncIOScheduler:
        if self._scheduler is None:
            from apscheduler.schedulers.asyncio import AsyncIOScheduler

            self._scheduler = AsyncIOScheduler(timezone=UTC)
            self._scheduler.start()
        return self._scheduler
