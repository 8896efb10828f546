"""A bell with one slot: ringing a rung bell changes nothing but what has to be looked at.

A trigger never says what to do, only *look again*, so that a lost, doubled or late one is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import field

from gitsyncd.model.ids import ObjectId
from gitsyncd.model.immutable import immutable


@immutable(kw_only=False)
class Wake:
    """Why a waiter was woken. `everything` outranks `ids`; neither means that the time was up."""

    everything: bool = False
    ids: frozenset[ObjectId] = field(default=frozenset())


class Bell:
    """Rung from anywhere in the loop, waited for by one worker."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._everything = False
        self._ids: set[ObjectId] = set()

    def ring(self, ids: Iterable[ObjectId] | None = None) -> None:
        """Look again: at these objects, or at everything."""
        if ids is None:
            self._everything = True
        else:
            self._ids.update(ids)
        self._rung.set()

    async def wait(self, seconds: float | None = None) -> Wake:
        """The next ring, or an empty `Wake` when `seconds` have passed."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            pass
        return self.take()

    def take(self) -> Wake:
        """What was rung for so far, without waiting."""
        wake = Wake(self._everything, frozenset(self._ids))
        self._rung.clear()
        self._everything = False
        self._ids.clear()
        return wake
