"""Whether the event loop turns: a timer every few seconds, and how late it was."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE_EVERY_S = 5.0
"""An idle daemon wakes up for nothing else: a rarer timer would hide short stalls no better and long ones worse."""
_REMEMBERED = 12
STALLED_S = 10.0
"""A loop that was as late as this with its last timer is as good as stopped for whoever waits for a revert."""


class LoopLag:
    """Measures the loop that it is started in."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=_REMEMBERED)
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Samples for as long as the context lasts. No task: a timer costs nothing between two samples."""
        self._set()
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _set(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + SAMPLE_EVERY_S
        self._timer = loop.call_at(self._due, self._sample)

    def _sample(self) -> None:
        self._lags.append(self._late())
        self._set()

    def _late(self) -> float:
        """Seconds by which the timer is late now."""
        return max(0.0, asyncio.get_running_loop().time() - self._due)

    @property
    def worst_s(self) -> float:
        """Within the last minute, and the lag at this moment."""
        return max([*self._lags, self._late()])

    @property
    def turns(self) -> bool:
        """Whether the loop was on time when it was last looked at, and is now."""
        return max([*list(self._lags)[-1:], self._late()]) < STALLED_S
