"""Lists and watches of one cluster: which feeds run, and how each goes on after whatever happens to it.

Only kinds that some target wants or has recorded are watched, selected by our own label. A kind that may not be listed
over the whole cluster is listed in the namespaces that matter. What an event means is not said here: `cluster_view`.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from gitsyncd.core.backoff import next_delay
from gitsyncd.engine.cluster_view import Feed
from gitsyncd.engine.supervise import supervise
from gitsyncd.model.errors import ClusterDenied, ClusterError, ClusterUnreachable, Expired, KindUnknown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gitsyncd.engine.cluster_view import ClusterView
    from gitsyncd.engine.ports import Clock, Log
    from gitsyncd.model.ids import ObjectType

_BASE = timedelta(seconds=1)
_CAP = timedelta(seconds=30)
_SPREAD_S = 1.0
"""Of the lists after a recovery."""
_QUICK_S = 10.0
"""Watches last for minutes: one that ends sooner counts as a failure."""


class Watches:
    """All feeds of one cluster. Without a task group nothing is watched: every call to `see` lists afresh."""

    def __init__(self, view: ClusterView, group: asyncio.TaskGroup | None, *, clock: Clock, log: Log) -> None:
        self._view = view
        self._group = group
        self._clock = clock
        self._log = log
        self._running: dict[Feed, asyncio.Task[None] | None] = {}
        """None while a feed is only listed."""
        self._listed: dict[Feed, str] = {}
        """Feeds to be followed, and the version at which their list ended."""
        self._denied: dict[ObjectType, ClusterDenied] = {}
        self._needs: dict[str, Mapping[ObjectType, Collection[str]]] = {}
        self._lock = asyncio.Lock()
        self._stale: set[Feed] = set()

    @property
    def lasting(self) -> bool:
        """Whether what was seen once stays in view."""
        return self._group is not None

    async def see(self, target: str, needs: Mapping[ObjectType, Collection[str]]) -> dict[ObjectType, ClusterError]:
        """Make sure that these kinds (and the namespaces in which they matter) are in view; the kinds that may not be
        seen.

        Raises `ClusterError` when the cluster does not answer.
        """
        self._needs[target] = needs
        blind: dict[ObjectType, ClusterError] = {}
        async with self._lock:
            self._drop_unneeded()
            for found in await asyncio.gather(*(self._see_kind(kind, places) for kind, places in needs.items())):
                blind.update(found)
        return blind

    def _drop_unneeded(self) -> None:
        wanted = {kind for needs in self._needs.values() for kind in needs}
        for feed in [feed for feed in self._running if feed.type not in wanted]:
            task = self._running.pop(feed)
            if task is not None:
                task.cancel()

    def drop(self, target: str) -> None:
        """A target that is gone needs nothing any more."""
        self._needs.pop(target, None)
        self._drop_unneeded()

    def stop(self) -> None:
        """End all feeds: what is seen next is listed afresh."""
        for task in self._running.values():
            if task is not None:
                task.cancel()
        self._running, self._listed, self._denied = {}, {}, {}
        self._stale = set()

    async def _see_kind(self, kind: ObjectType, places: Collection[str]) -> dict[ObjectType, ClusterError]:
        if kind not in self._view.resources:
            return {}
        everywhere = Feed(kind)
        if self._settled(everywhere):
            return {}
        if kind not in self._denied:
            try:
                await self._start(everywhere)
            except ClusterDenied as error:
                if error.expired:
                    raise
                self._denied[kind] = error
            else:
                return {}
        if not places or not self._view.resources[kind].namespaced:
            return {kind: self._denied.pop(kind)}
        for namespace in places:
            feed = Feed(kind, namespace)
            if not self._settled(feed):
                try:
                    await self._start(feed)
                except ClusterDenied as error:
                    del self._denied[kind]
                    return {kind: error}  # the lesser right is the one to ask for
        return {}

    def _settled(self, feed: Feed) -> bool:
        return self.lasting and feed in self._running and feed not in self._stale

    async def _start(self, feed: Feed) -> None:
        version = await self._list(feed)
        if self._group is not None and feed not in self._running:
            self._listed[feed] = version
        self._running.setdefault(feed, None)

    def follow(self) -> None:
        """Watch, from where their lists ended, the feeds that `see` has listed since the last call.

        A step of its own: the echo of a first sync of thousands of objects is not worth hearing while it is written.
        """
        for feed, version in self._listed.items():
            if self._group is not None and feed in self._running and self._running[feed] is None:
                name = f"watch {self._view.cluster.name} {feed.type} {feed.namespace}"
                work = supervise(name, partial(self._follow, feed, version), clock=self._clock, log=self._log)
                self._running[feed] = self._group.create_task(work, name=name)
        self._listed.clear()

    async def _list(self, feed: Feed) -> str:
        resource = self._view.resources[feed.type]
        listing = await self._view.api.list(
            resource,
            selector=self._view.selector,
            namespace=feed.namespace,
            each=lambda item: self._view.met(feed, item),
        )
        if feed.type.api_version == "v1":
            self._view.has_come_to(listing.resource_version)
        self._view.listed(feed, listing.items)
        self._stale.discard(feed)
        return listing.resource_version

    async def _follow(self, feed: Feed, version: str) -> None:
        """Watch for ever. Whatever ends a watch, the next one begins where it ended, or after a fresh list."""
        failures = 0
        while True:
            begun = self._clock.monotonic()
            try:
                version = version or await self._list(feed)
                async for event in self._view.api.watch(
                    self._view.resources[feed.type],
                    selector=self._view.selector,
                    resource_version=version,
                    namespace=feed.namespace,
                ):
                    version = event.resource_version
                    if event.kind != "BOOKMARK":
                        self._view.heard(feed, event)
            except Expired:
                version = ""
            except KindUnknown:
                if await self._gone(feed):
                    return
                version = ""
            except ClusterError as error:
                failures += 1
                self._stale.add(feed)
                self._view.doubtful |= isinstance(error, ClusterUnreachable)
                if isinstance(error, ClusterDenied) and not error.expired:
                    self._view.ring(feed.type)  # their turns say which objects can no longer be looked at
                else:
                    self._view.down(error, asked_at=begun)
                await self._pause(failures)
                # Not by way of the next watch: one that is accepted says nothing of who answers, and nobody would say
                # that the cluster is back.
                while not await self._recovered():
                    failures += 1
                    await self._pause(failures)
                version = ""
                continue
            # A watch that ends as soon as it began, whoever ends it, must not be begun again and again without a pause.
            failures = failures + 1 if self._clock.monotonic() - begun < _QUICK_S else 0
            if failures > 1:
                await self._pause(failures - 1)

    async def _recovered(self) -> bool:
        """After a failure: who answers now? When it is the same cluster, all is listed afresh."""
        asked_at = self._clock.monotonic()
        try:
            await self._view.identify()
        except ClusterError as error:
            self._view.down(error, asked_at=asked_at)
            return False
        self._view.up()
        return True

    async def _gone(self, feed: Feed) -> bool:
        """A kind that is no longer served: its feed ends, and its objects are asked for by name before they are
        believed gone.
        """
        await self._pause(1)
        await self._view.rediscover()
        if feed.type in self._view.resources:
            return False
        self._running.pop(feed, None)
        self._view.listed(feed, ())
        return True

    async def _pause(self, failures: int) -> None:
        delay = next_delay(failures, base=_BASE, cap=_CAP, jitter=self._clock.jitter())
        if await self._view.api.pause(delay):
            # All feeds hear of it at the same moment, and a server that has just come up has enough to do.
            await asyncio.sleep(_SPREAD_S * self._clock.jitter())
