"""The last check before a request leaves: whoever does not hold the cluster's lease writes nothing.

A process may be stopped between any two steps and go on minutes later, when another daemon writes. So what is asked
here, with the connection at hand, is the clock. The socket asks once more, with the system call next: before that a
request is put together and encrypted, which takes 30 to 60 microseconds.
What writes is told by the request itself and not by whoever sends it, so that none can be forgotten.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import aiohttp
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
        self._sockets: WeakValueDictionary[int, FencedSocket] = WeakValueDictionary()
        """The open ones, by their descriptor: the connection that a request gets does not show its socket itself."""

    def check(self) -> None:
        """Raises `LeaseLost` when the lease does not cover a write now."""
        if seconds() >= self.until:
            raise LeaseLost(
                "nothing is written, since this daemon does not hold the cluster's lease now",
                subject=f"cluster {self._cluster}",
            )

    def is_free(self, method: str, url: URL) -> bool:
        """Whether a request needs no lease."""
        path = url.raw_path
        return (
            method in _READING
            or (method, path) in self._exempt
            or path.startswith(_HARMLESS)
            or url.query.get("dryRun") == "All"
        )

    def new_socket(self, family: int, kind: int, protocol: int) -> socket.socket:
        """One for the requests of `requests`."""
        made = FencedSocket(family, kind, protocol)
        self._sockets[made.fileno()] = made
        return made

    def _socket_of(self, conn: Connection) -> FencedSocket:
        shown = None if conn.transport is None else conn.transport.get_extra_info("socket")
        found = None if shown is None else self._sockets.get(shown.fileno())
        if found is None:
            raise aiohttp.ClientConnectionResetError("the connection is gone")
        return found

    def requests(self) -> type[aiohttp.ClientRequest]:
        """The class of requests that pass this fence just before they are written to their connection."""
        fence = self

        class Fenced(aiohttp.ClientRequest):
            async def send(self, conn: Connection) -> aiohttp.ClientResponse:
                free = fence.is_free(self.method, self.url)
                if not free:
                    fence.check()
                wire = fence._socket_of(conn)
                assert conn.protocol is not None
                wire.check, wire.tell = None if free else fence.check, conn.protocol.set_exception
                return await super().send(conn)

        return Fenced


class FencedSocket(socket.socket):
    """Sends nothing of a request that the fence does not let through."""

    __slots__ = ("check", "tell")

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self.check: Callable[[], None] | None = None
        """Of the request that is sent now; raises `LeaseLost`. None when it needs no lease."""
        self.tell: Callable[[LeaseLost], None] | None = None
        """Whoever waits for the answer, and would hear of a broken connection only."""

    def send(self, *data: Any) -> int:
        self._ask()
        return super().send(*data)

    def sendmsg(self, *data: Any) -> int:
        self._ask()
        return super().sendmsg(*data)

    def _ask(self) -> None:
        if self.check is not None:
            try:
                self.check()
            except LeaseLost as error:
                if self.tell is not None:
                    self.tell(error)
                raise ConnectionAbortedError(error.message) from error
