"""Keeping loops alive, each on its own: a plain task group would cancel every sibling on the first failure."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from gitsyncd.core.backoff import next_delay
from gitsyncd.model.errors import GitsyncdError

if TYPE_CHECKING:
    from gitsyncd.engine.ports import Clock, Log

_BASE = timedelta(seconds=1)
_CAP = timedelta(minutes=5)
_CALM_S = 600.0
_SWALLOWED_S = 5.0
"""A task that goes on for so long after it was cancelled has met a place that lost it, and is told again."""


async def supervise(name: str, work: Callable[[], Awaitable[None]], *, clock: Clock, log: Log) -> None:
    """Run `work` until it returns.

    What it foresees it handles itself; anything that escapes is a bug: said, and begun again after a wait.
    """
    failures = 0
    while True:
        begun = clock.monotonic()
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - the last line of defence: one loop's bug must not stop the others
            failures = 1 if clock.monotonic() - begun > _CALM_S else failures + 1
            delay = next_delay(failures, base=_BASE, cap=_CAP, jitter=clock.jitter())
            log.error(  # noqa: TRY400 - a traceback may quote values; the place is named
                "internal error", loop=name, error=describe_bug(error), retry_s=round(delay.total_seconds(), 1)
            )
            await asyncio.sleep(delay.total_seconds())
        else:
            return


class Tasks:
    """Supervised loops by name, each of which can be ended alone. All of them end with their task group."""

    def __init__(self, group: asyncio.TaskGroup, *, clock: Clock, log: Log) -> None:
        self.group = group
        self._clock = clock
        self._log = log
        self._running: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Nothing where one of this name runs already."""
        if name not in self._running:
            task = supervise(name, work, clock=self._clock, log=self._log)
            self._running[name] = self.group.create_task(task, name=name)

    @property
    def all_run(self) -> bool:
        """Whether none of them is over that nobody ended."""
        return not any(task.done() for task in self._running.values())

    async def end(self, name: str) -> None:
        """Cancel it where it stands, and wait until it is over."""
        task = self._running.pop(name, None)
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_SWALLOWED_S)


def bug(error: BaseException) -> GitsyncdError:
    """What there is to say of an unforeseen exception where a foreseen one would be told."""
    return GitsyncdError(describe_bug(error), hint="This is a defect of gitsyncd: please report it with this line.")


def describe_bug(error: BaseException) -> str:
    """The class of an unforeseen exception and where it arose; never its text, which may quote an object's values."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "gitsyncd" in frame.filename] or frames
    where = (
        f" at {ours[-1].name}, line {ours[-1].lineno} of {ours[-1].filename.rpartition('gitsyncd/')[2]}" if ours else ""
    )
    return f"internal error: {type(error).__name__}{where}"
