"""An event loop in which waiting costs nothing: when nobody has anything to do, the clock jumps to the next timer.

Sockets still work, since they are asked before each jump; child processes and threads do not belong in such a test.
"""

import asyncio
import selectors
from datetime import UTC, datetime, timedelta
from typing import Any

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Deadlock(RuntimeError):
    """Everybody waits and no timer is set: in real time this would hang for ever."""


class _Jump(selectors.DefaultSelector):
    """Asks for what is ready now, and lets the time pass that the loop would have slept."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready: list[Any] = super().select(0)
        if not ready and timeout is None:
            raise Deadlock("nothing is ready and nothing is scheduled")
        if not ready and timeout:
            self.passed += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.passed


def stall(seconds: float) -> None:
    """As a computation would: nothing else runs, and the time passes."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop._jump.passed += seconds


class VirtualClock:
    """Satisfies the engine's `Clock`, without chance."""

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def jitter(self) -> float:
        return 0.0
