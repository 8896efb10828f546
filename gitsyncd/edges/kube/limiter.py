"""How many requests are on their way to one API server at once, and in which order the others wait.

First come, first served, whichever target asks: none can starve another. How many is found out (`core.pace`). Lists
have a lane of their own: they cost a server most, and after its restart all of them come at once.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

from gitsyncd.core import pace
from gitsyncd.core.pace import Least
from gitsyncd.model.errors import Throttled

LISTS = 4
"""In flight at once."""

PATIENCE_S = 5.0
"""A pause that the server asks for is waited out when it is no longer; else whoever asks is told."""

_JITTER = 0.25
"""Of a pause: what was sent away together does not come back together."""


class Limiter:
    """The requests in flight to one API server; watches are not among them."""

    def __init__(self, cap: int, *, jitter: Callable[[], float] = random.random) -> None:
        """`cap` is the most that are ever in flight. `jitter` gives numbers in [0, 1)."""
        self._pace = pace.initial(cap)
        self._jitter = jitter
        self._in_flight = 0
        self._full = 0.0
        """When the limit was used up last."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lists = asyncio.Semaphore(LISTS)
        self._least: dict[str, Least] = {}
        """By verb."""
        self._open_at = 0.0
        """No request before; 0 when none was asked to wait."""
        self._pause: Throttled | None = None

    @property
    def width(self) -> int:
        """Requests that may be in flight now."""
        return self._pace.width

    async def enter(self, verb: str) -> float:
        """Wait for one's turn; the moment of it. Raises `Throttled` when the server asked for a long pause."""
        if verb == "list":
            await self._lists.acquire()
        try:
            now = asyncio.get_running_loop().time()
            if self._open_at and not self._opened(now):
                self._refuse_long_wait(now)
            if self._open_at or self._waiting or self._in_flight >= self._pace.width:
                await self._turn()
                now = asyncio.get_running_loop().time()
            else:
                self._in_flight += 1
        except BaseException:
            self._leave_lane(verb)
            raise
        if self._in_flight >= self._pace.width:
            self._full = now
        return now

    def leave(self, verb: str) -> None:
        """The request is over, whatever came of it: the next one may go."""
        self._in_flight -= 1
        self._leave_lane(verb)
        self._admit()

    def answered(self, verb: str, sent_at: float) -> None:
        """The server answered in the usual way. Before `leave`."""
        now = asyncio.get_running_loop().time()
        took = now - sent_at
        least = self._least[verb] = pace.seen(self._least.get(verb), took, now)
        # How long a list takes depends on how much there is to tell.
        if self._full >= sent_at and verb != "list" and took > 0:
            self._pace = pace.answered(self._pace, share=least.value / took, now=now)

    def too_much(self, sent_at: float) -> None:
        """The server refused for want of room, or did not answer in time."""
        self._pace = pace.refused(self._pace, sent_at=sent_at, now=asyncio.get_running_loop().time())

    def hold(self, error: Throttled) -> None:
        """Let nothing new go for as long as the server asks."""
        loop = asyncio.get_running_loop()
        rest = error.retry_after_s * (1.0 + _JITTER * self._jitter())
        if loop.time() + rest <= self._open_at:
            return
        self._open_at, self._pause = loop.time() + rest, error
        loop.call_at(self._open_at, self._end_pause, self._open_at)
        if rest > PATIENCE_S:
            self._refuse_waiting(loop.time())

    # --- the order -----------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._in_flight -= 1
                self._admit()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def _admit(self) -> None:
        if self._open_at and not self._opened(asyncio.get_running_loop().time()):
            return
        while self._waiting and self._in_flight < self._pace.width:
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)

    def _leave_lane(self, verb: str) -> None:
        if verb == "list":
            self._lists.release()

    # --- pauses --------------------------------------------------------------------------------------------------

    def _opened(self, now: float) -> bool:
        if now < self._open_at:
            return False
        self._open_at, self._pause = 0.0, None
        return True

    def _end_pause(self, end: float) -> None:
        # Not by the clock: a timer may ring a hair early, and rings once.
        if self._open_at == end:
            self._open_at, self._pause = 0.0, None
            self._admit()

    def _refuse_long_wait(self, now: float) -> None:
        if self._open_at - now > PATIENCE_S:
            raise self._told(now)

    def _refuse_waiting(self, now: float) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(self._told(now))

    def _told(self, now: float) -> Throttled:
        assert self._pause is not None
        return Throttled(
            self._pause.message,
            retry_after_s=self._open_at - now,
            subject=self._pause.subject,
            hint=self._pause.hint,
        )
