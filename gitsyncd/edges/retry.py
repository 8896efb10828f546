"""The patience of an edge: one request tried again for some seconds. Patience between turns is the engine's.

The only importer of tenacity. What may be tried again is the caller's knowledge: it raises `Transient` around the error
that would otherwise leave the edge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from gitsyncd.model.errors import GitsyncdError

T = TypeVar("T")

ATTEMPTS = 4
"""Tries in all. With the waits below they take some two seconds, enough for a proxy or an API server to fail over."""

BUDGET_S = 5.0
"""Seconds from the first try. A server that asks for a longer pause gets it from the engine's back-off instead."""

_WAIT = wait_random_exponential(multiplier=0.1, max=1.0)


class Transient(Exception):
    """An error that may be gone in a moment. Never leaves an edge: `for_moments` unwraps it."""

    def __init__(self, error: GitsyncdError, *, after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = after_s
        """The pause that the server asked for; None when it asked for none."""


async def for_moments(
    attempt: Callable[[], Awaitable[T]], *, attempts: int = ATTEMPTS, budget_s: float = BUDGET_S
) -> T:
    """The first answer of `attempt` that is no `Transient`. Raises the error inside the last one when it gives up."""

    def wait(state: RetryCallState) -> float:
        asked = _transient(state).after_s
        return _WAIT(state) if asked is None else asked

    def stop(state: RetryCallState) -> bool:
        elapsed = state.seconds_since_start or 0.0
        return state.attempt_number >= attempts or elapsed + (_transient(state).after_s or 0.0) > budget_s

    retrying = AsyncRetrying(retry=retry_if_exception_type(Transient), wait=wait, stop=stop, reraise=True)
    try:
        return await retrying(attempt)
    except Transient as last:
        raise last.error from last.error.__cause__


def _transient(state: RetryCallState) -> Transient:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, Transient)
    return error
