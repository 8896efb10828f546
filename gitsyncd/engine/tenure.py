"""Holding a cluster's lease: standing by, taking it, renewing it, handing it on. One `Tenure` per cluster.

While a tenure lasts, writes to the cluster pass; `ClusterApi.allow_writes` is told until when, at each renewal, and the
edge looks at the clock before each write. So a daemon that was paused, or that cannot reach the cluster, is shut out by
time alone, before anybody else may come in. When the lease may be taken is decided in `core.tenure`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gitsyncd.core import tenure as rules
from gitsyncd.core.tenure import DEFER_S, DURATION_S, RENEW_S, Standing
from gitsyncd.model.errors import Changed, ClusterDenied, ClusterError, ConfigError, NotFound, StandingBy
from gitsyncd.model.lease import Candidate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from gitsyncd.engine.ports import Clock, ClusterApi
    from gitsyncd.model.lease import Lease

_RETRY_S = 1.0
"""Between tries to renew a lease that still holds."""
_NEVER = float("-inf")


def _nobody_has_ended(_holder: str) -> bool:
    return False


@dataclass(slots=True, kw_only=True)
class Roster:
    """The tenures of this daemon together, and what is known of the daemons that would share its clusters."""

    holder: str
    """What this daemon calls itself in leases; no other ever does."""
    shares: bool = False
    has_ended: Callable[[str], bool] = _nobody_has_ended
    """Whether the process behind a holder's name is certainly over."""
    held: set[str] = field(default_factory=set)
    """Names of clusters."""
    standings: dict[str, Standing] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    """UID of each cluster that has answered, and the name by which it is written to."""
    beat: int = 0

    def claim(self, uid: str, cluster: str) -> None:
        """One cluster under two names would have two records of what it owns there, each undoing the other.

        Raises `ConfigError` for the second name.
        """
        first = self.known.setdefault(uid, cluster)
        if first != cluster:
            raise ConfigError(
                f"it is the same cluster as {first}: kube-system has the same UID",
                subject=f"cluster {cluster}",
                hint="List each cluster once. If this one was meant to be another, correct how it is reached.",
            )

    def forget(self, cluster: str) -> None:
        """It is no longer in the agent file, or reached in another way from now on."""
        self.known = {uid: name for uid, name in self.known.items() if name != cluster}

    def candidate(self) -> Candidate:
        """What to say of ourselves where we stand by."""
        self.beat += 1
        return Candidate(holds=len(self.held), beat=self.beat)

    def heir(self, lease: Lease, now: float) -> str:
        """To whom to hand this cluster; empty for nobody. Whoever is named is counted as having it from then on."""
        if not self.shares:
            return ""
        self.standings = rules.hear(self.standings, lease.candidates, now)
        chosen = rules.heir(len(self.held), self.standings, lease.candidates, now)
        if chosen:
            known = self.standings[chosen]
            self.standings[chosen] = replace(known, given=known.given + 1)
        return chosen

    def gone(self, lease: Lease, now: float) -> list[str]:
        """Candidates at this cluster that will never come."""
        return rules.gone(self.standings, lease.candidates, now) if self.shares else []


class Tenure:
    """This daemon's hold on one cluster."""

    def __init__(self, cluster: str, api: ClusterApi, roster: Roster, *, clock: Clock) -> None:
        self._cluster = cluster
        self._api = api
        self._roster = roster
        self._clock = clock
        self._until = _NEVER
        self.leave = asyncio.Event()
        """Set to have `keep` end early."""

    @property
    def held(self) -> bool:
        return self._clock.monotonic() < self._until

    async def acquire(self, told: Callable[[str], None]) -> None:
        """Until the lease is ours. `told` hears of another holder once that one is known to be alive.

        Raises `ClusterError`.
        """
        lease = await self._api.read_lease()
        seen_at = self._clock.monotonic()
        announced = False
        stream = _Stream(self._api)
        try:
            while True:
                wait = self._free_in(lease, seen_at)
                if wait <= 0:
                    if await self._try(lease):
                        return
                    fresh = await self._api.read_lease()
                else:
                    assert lease is not None
                    if self._roster.shares:
                        await self._announce()
                        announced, wait = True, min(wait, RENEW_S)
                    fresh = await stream.next(lease, wait)
                if _moved(lease, fresh):
                    seen_at = self._clock.monotonic()
                    if fresh is not None and fresh.holder not in {"", self._roster.holder}:
                        told(fresh.holder)
                lease = fresh
        finally:
            await stream.close()
            if announced:
                with suppress(ClusterError):
                    await self._api.stand_by(self._roster.holder, None)

    def _free_in(self, lease: Lease | None, seen_at: float) -> float:
        gone = lease is not None and bool(lease.holder) and self._roster.has_ended(lease.holder)
        unchanged = self._clock.monotonic() - seen_at
        return rules.free_in(lease, me=self._roster.holder, unchanged_s=unchanged, holder_is_gone=gone)

    async def _try(self, lease: Lease | None) -> bool:
        """Take what is free. False when somebody else was faster."""
        handed = lease is not None and lease.holder == self._roster.holder
        if self._roster.shares and self._roster.held and lease is not None and not handed:
            await asyncio.sleep(DEFER_S * len(self._roster.held))
        asked_at = self._clock.monotonic()
        try:
            if handed:
                await self._api.renew_lease(holder=self._roster.holder)
            else:
                await self._api.take_lease(lease, holder=self._roster.holder, duration_s=DURATION_S)
        except Changed:
            return False
        self._granted(asked_at)
        return True

    async def _announce(self) -> None:
        with suppress(NotFound):  # the lease was deleted: whoever comes first has it
            await self._api.stand_by(self._roster.holder, self._roster.candidate())

    async def keep(self) -> str:
        """Renew for as long as it is ours; to whom it should be handed, where daemons share.

        Also ends, with an empty answer, when `leave` is set. Raises `StandingBy` when another daemon has it, and
        `ClusterError` when it could not be renewed in time: then nothing is written any more.
        """
        pause = RENEW_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.leave.wait()
            if self.leave.is_set():
                return ""
            asked_at = self._clock.monotonic()
            try:
                lease = await self._api.renew_lease(holder=self._roster.holder)
            except Changed as error:
                self.close()
                raise StandingBy("another daemon took over", subject=f"cluster {self._cluster}") from error
            except ClusterError:
                if not self.held:
                    self.close()
                    raise
                pause = _RETRY_S
                continue
            self._granted(asked_at)
            pause = RENEW_S
            chosen = self._roster.heir(lease, asked_at)
            if chosen:
                return chosen
            for holder in self._roster.gone(lease, asked_at):
                with suppress(ClusterError):
                    await self._api.stand_by(holder, None)

    def _granted(self, asked_at: float) -> None:
        self._roster.held.add(self._cluster)
        self._until = rules.writes_until(asked_at)
        self._api.allow_writes(self._until)

    def close(self) -> None:
        """Nothing is written from now on."""
        self._until = _NEVER
        self._roster.held.discard(self._cluster)
        self._api.allow_writes(_NEVER)

    async def pass_on(self, heir: str = "") -> None:
        """Close, then give the lease to `heir`, or to whoever comes first. Where nobody answers it expires."""
        held = self.held
        self.close()
        if held:
            with suppress(ClusterError):
                await self._api.pass_lease_on(holder=self._roster.holder, heir=heir)


class _Stream:
    """The news of one lease, with a limit to each wait. Where it may not be watched it is read instead."""

    def __init__(self, api: ClusterApi) -> None:
        self._api = api
        self._events: AsyncGenerator[Lease, None] | None = None
        self._next: asyncio.Task[Lease | None] | None = None

    async def next(self, lease: Lease, seconds: float) -> Lease | None:
        """The next state of it, or after `seconds` the present one. Raises `ClusterError`."""
        if self._events is None:
            self._events = self._api.lease_changes(lease)
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._events, None))
        done, _ = await asyncio.wait({self._next}, timeout=seconds)
        if not done:
            return await self._api.read_lease()
        task, self._next = self._next, None
        try:
            found = task.result()
        except ClusterDenied as error:
            if error.expired:
                raise
            await asyncio.sleep(min(seconds, RENEW_S))
            found = None
        if found is None:
            self._events = None
            return await self._api.read_lease()
        return found

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait({self._next})
        if self._events is not None:
            await self._events.aclose()


def _moved(before: Lease | None, after: Lease | None) -> bool:
    """Whether somebody has done something about it. What candidates say beside it does not count."""
    if before is None or after is None:
        return before is not after
    return (before.holder, before.renewed) != (after.holder, after.renewed)
