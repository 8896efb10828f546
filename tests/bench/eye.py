"""A witness: watches beside the daemon's own that note when an object was first seen as it should be."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp

_WATCHED = {"configmaps": "/api/v1/configmaps", "deployments": "/apis/apps/v1/deployments"}
_NAME = b'"name":"'


@dataclass(slots=True)
class _Wish:
    """What an event has to hold, and whether one that lacks it was seen before."""

    whole: bytes
    damaged: bool
    seen: asyncio.Future[float]


class Eye:
    """Searches bytes and decodes nothing: what the witness costs is charged to the figures."""

    def __init__(self) -> None:
        self._wishes: dict[tuple[str, bytes], _Wish] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def watching(cls, session: aiohttp.ClientSession, server: str, agent: str) -> AsyncIterator[Eye]:
        """Sees every object of that agent of the kinds that are watched."""
        eye = cls()
        ready = [asyncio.Event() for _ in _WATCHED]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(eye._watch(session, plural, f"{server}{path}", agent, event))
                for (plural, path), event in zip(_WATCHED.items(), ready, strict=True)
            ]
            for event in ready:
                await event.wait()
            try:
                yield eye
            finally:
                for task in tasks:
                    task.cancel()

    def expect(self, plural: str, name: str, whole: bytes, *, wait_for_damage: bool = False) -> asyncio.Future[float]:
        """When the next event of the object that holds `whole` is seen, by `time.perf_counter`.

        With `wait_for_damage`, one that lacks it has to be seen before.
        """
        wish = _Wish(whole, not wait_for_damage, asyncio.get_running_loop().create_future())
        self._wishes[plural, name.encode()] = wish
        return wish.seen

    async def _watch(
        self, session: aiohttp.ClientSession, plural: str, url: str, agent: str, ready: asyncio.Event
    ) -> None:
        selector = {"labelSelector": f"gitsyncd.dev/agent={agent}"}
        async with session.get(url, params={**selector, "limit": "1"}) as response:
            version = (await response.json())["metadata"]["resourceVersion"]
        forever = aiohttp.ClientTimeout(total=None)
        query = {**selector, "watch": "1", "resourceVersion": version}
        async with session.get(url, params=query, timeout=forever) as response:
            response.raise_for_status()
            ready.set()
            rest = b""
            async for chunk in response.content.iter_any():
                now = time.perf_counter()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._look(plural, line, now)

    def _look(self, plural: str, line: bytes, now: float) -> None:
        begin = line.find(_NAME) + len(_NAME)
        key = (plural, line[begin : line.find(b'"', begin)])
        wish = self._wishes.get(key)
        if wish is None:
            return
        if wish.whole not in line:
            wish.damaged = True
        elif wish.damaged:
            del self._wishes[key]
            wish.seen.set_result(now)
