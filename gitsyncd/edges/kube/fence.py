"""The last check before a request leaves: whoever does not hold the cluster's lease writes nothing.

A process may be stopped between any two steps and go on minutes later, when another daemon writes. So what is asked
here, with the connection at hand and nothing left to wait for, is the clock. What writes is told by the request itself
and not by whoever sends it, so that none can be forgotten.
"""

from __future__ import annotations

import time
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from yarl import URL

from gitsyncd.model.errors import LeaseLost

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_HARMLESS = ("/apis/authorization.k8s.io/", "/apis/authentication.k8s.io/")
"""Reviews: they are asked by POST and change nothing."""


def seconds() -> float:
    """A clock that also counts while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fence:
    """Until when one client may write to its cluster. Closed until somebody opens it."""

    def __init__(self, *, cluster: str, agent: str, namespace: str) -> None:
        leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._cluster = cluster
        self._exempt = frozenset(
            {
                ("POST", leases),
                ("PATCH", f"{leases}/gitsyncd.{agent}"),
                ("POST", "/api/v1/namespaces"),  # the agent's own: without it there is no place for the lease
            }
        )
        self.until = float("-inf")
        """On the clock `seconds`."""

    def check(self, method: str, url: URL) -> None:
        """Raises `LeaseLost` for a request that writes, when the lease does not cover it."""
        if method in _READING or seconds() < self.until or self._harmless(method, url):
            return
        raise LeaseLost(
            "nothing is written, since this daemon does not hold the cluster's lease now",
            subject=f"cluster {self._cluster}",
        )

    def _harmless(self, method: str, url: URL) -> bool:
        path = url.raw_path
        return (method, path) in self._exempt or path.startswith(_HARMLESS) or url.query.get("dryRun") == "All"

    def requests(self) -> type[aiohttp.ClientRequest]:
        """The class of requests that pass this fence just before they are written to their connection."""
        check = self.check

        class Fenced(aiohttp.ClientRequest):
            async def send(self, conn: Connection) -> aiohttp.ClientResponse:
                check(self.method, self.url)
                return await super().send(conn)

            # Nothing has left yet: head and body are written together, by a task that may begin much later.
            async def write_bytes(self, writer: AbstractStreamWriter, conn: Connection, *more: Any) -> None:
                try:
                    check(self.method, self.url)
                except LeaseLost as error:
                    assert conn.protocol is not None
                    conn.protocol.set_exception(error)  # for whoever waits for the answer
                    conn.close()
                    return
                await super().write_bytes(writer, conn, *more)

        return Fenced
