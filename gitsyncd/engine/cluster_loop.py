"""One cluster from the first request to the last: who answers, and whether it is ours to write.

Belongs here: connecting with patience, taking and leaving the tenure, telling the targets. Does not belong here: how
the lease is held (`tenure`), what is known of the cluster (`cluster_view`), and turns (`target_loop`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from gitsyncd.core.backoff import next_delay
from gitsyncd.model.errors import ClusterError, ClusterRestored, ConfigError, LocalError, StandingBy, StateError

if TYPE_CHECKING:
    from gitsyncd.engine.cluster_view import ClusterView
    from gitsyncd.engine.ports import Clock
    from gitsyncd.engine.target_loop import TargetLoop
    from gitsyncd.engine.tenure import Roster, Tenure
    from gitsyncd.engine.watch_loop import Watches

_BASE = timedelta(seconds=1)
_CAP = timedelta(seconds=30)
QUIET_WITHIN_S = 30.0
"""For turns to come to the end of the object in hand before the cluster is handed on."""


class ClusterLoop:
    """The worker of one cluster."""

    def __init__(self, view: ClusterView, watches: Watches, tenure: Tenure, roster: Roster, *, clock: Clock) -> None:
        self.view = view
        self.watches = watches
        self.tenure = tenure
        self.targets: list[TargetLoop] = []
        self._roster = roster
        self._clock = clock

    async def run(self) -> None:
        """Connect, hold the lease, write; when any of it is lost, begin again. For ever."""
        failures = 0
        while True:
            try:
                await self._open()
                failures = 0
                heir = await self._keep()
            except (ClusterRestored, StandingBy) as error:
                await self._quiet(error)
            except (ClusterError, StateError, ConfigError, LocalError) as error:
                failures += 1
                await self._quiet(error)
                delay = next_delay(failures, base=_BASE, cap=_CAP, jitter=self._clock.jitter())
                await self.view.api.pause(delay)
            else:
                if heir:
                    await self.hand_over(heir)

    async def _open(self) -> None:
        """Until this daemon may write to the cluster and knows what is there.

        Nothing begins before every turn of the time before is over: it would go on under a lease that it does not know,
        with a plan from before others wrote. None waits long where nothing may be written; one that hangs all the same
        is for the watchdog.
        """
        await turns_ended(self.targets, within_s=None)
        self.view.unfit = self.tenure.leave = asyncio.Event()
        await self._identify()
        begun = self._clock.monotonic()
        await self.tenure.acquire(self.view.stand_by)
        if self._clock.monotonic() - begun > 1.0:
            await self._identify()  # it stood by meanwhile
        await self.view.read()
        self.view.writer = self._roster.holder
        self.view.up()
        for loop in self.targets:
            loop.bell.ring()

    async def _identify(self) -> None:
        identity = await self.view.identify()
        self._roster.claim(identity.uid, self.view.cluster.name)

    async def _keep(self) -> str:
        """Until the tenure is over, or what is known of the cluster cannot be gone on with. To whom to hand it."""
        heir = await self.tenure.keep()
        if not heir:
            await self.view.identify()  # says so where another cluster answers
            raise ClusterRestored("everything is read afresh", subject=f"cluster {self.view.cluster.name}")
        return heir

    async def hand_over(self, heir: str = "") -> None:
        """Let turns end at the next object, then give the cluster to another daemon."""
        reason = StandingBy(f"handed to {heir or 'whoever comes first'}", subject=f"cluster {self.view.cluster.name}")
        self.view.error = reason
        await self._turns_ended()
        await self.tenure.pass_on(heir)
        await self._quiet(reason)

    async def _quiet(self, error: ClusterError | StateError | ConfigError | LocalError) -> None:
        """Nothing is written and nothing watched from now on; the targets hear why."""
        self.tenure.close()  # a turn in progress must not take the records, forgotten below, for empty ones
        if not isinstance(error, StandingBy):
            self.view.down(error)
        self.view.leave(error)
        self.watches.stop()
        await self._turns_ended()

    async def _turns_ended(self) -> None:
        await turns_ended(self.targets, within_s=QUIET_WITHIN_S)


async def turns_ended(loops: Sequence[TargetLoop], *, within_s: float | None) -> None:
    """Until no turn of these is in progress; no longer than that, where there is a limit."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            for loop in loops:
                async with loop.turning:
                    pass
