"""Requests are on their way and nothing is answered at all: is it they that take long, or is the server gone?

A connection that was good can lead nowhere from one moment to the next, and each request on it would wait out its own
time limit. So after some seconds without any answer the server is asked for a sign of life, on a connection of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

SILENCE_S = 5.25
"""Without any answer. Requests that take longer are seldom, and cost the server one `GET /version`. A moment more than
a connection may take: one that cannot be made says so itself."""


class Silence:
    """Watches over the requests in flight to one API server. It costs a request no timer of its own."""

    def __init__(self, look: Callable[[], Awaitable[None]], busy: Callable[[], bool]) -> None:
        """`look` is called after a silence, and not again before it is over; `busy` is whether anything is awaited."""
        self._look = look
        self._busy = busy
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None

    def sent(self, now: float) -> None:
        """A request was sent."""
        if self._timer is None and self._looking is None:
            self._heard_at = now
            self._wait(SILENCE_S)

    def heard(self, now: float) -> None:
        """Something was answered."""
        self._heard_at = now

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._check)

    def _check(self) -> None:
        self._timer = None
        if not self._busy():
            return
        loop = asyncio.get_running_loop()
        rest = self._heard_at + SILENCE_S - loop.time()
        if rest > 0:
            self._wait(rest)
        else:
            self._looking = loop.create_task(self._ask())

    async def _ask(self) -> None:
        try:
            await self._look()
        finally:
            self._looking = None
            if self._busy():
                self._wait(SILENCE_S)
