"""APScheduler's home: calendar times. A job does no work; it rings, and the loop that owns the work looks.

Intervals, retries and deadlines do not belong here: each loop waits for those by itself, on the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler


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
