"""The connections to one API server: two pools, how their sockets are set, and when they are retired."""

from __future__ import annotations

import asyncio.sslproto
import contextlib
import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from gitsyncd import __version__
from gitsyncd.edges.kube.connect import Access
from gitsyncd.edges.kube.fence import Fence

_TLS_BUFFER_BYTES = 16 * 1024
"""One TLS record. asyncio gives every connection 256 KiB to read into, which made a watch cost 299 kB instead of 60."""


class Wire:
    """The connections made with one set of credentials. Retired as a whole when the credentials change."""

    def __init__(self, access: Access, *, agent: str, fence: Fence | None) -> None:
        self.access = access
        self._fence = fence
        self.tls = access.tls()
        self.retired = False
        self.in_flight = 0
        self.streams: set[aiohttp.ClientResponse] = set()
        headers = {"User-Agent": f"gitsyncd/{__version__} ({agent})", "Accept-Encoding": _encodings(access.server)}
        if access.authorization:
            headers["Authorization"] = access.authorization
        self._headers = headers
        self.requests = self.session()
        self.watches = self.session()
        self.server_name = access.server_name or None
        self.proxy = access.proxy or None

    def session(self) -> aiohttp.ClientSession:
        """A pool of its own, to be closed by whoever asked."""
        # No limit of connections here: requests are limited before, and a limit would let watches starve writes.
        connector = aiohttp.TCPConnector(limit=0, ssl=self.tls, keepalive_timeout=60.0, socket_factory=self._socket)
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            request_class=self._fence.requests() if self._fence else aiohttp.ClientRequest,
        )

    def _socket(self, address: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
        make = self._fence.new_socket if self._fence else socket.socket
        return _kept_alive(make(*address[:3]))

    async def cut(self) -> None:
        """End the requests in flight: their connections lead nowhere. Later ones get new connections."""
        connector, self.requests = self.requests.connector, self.session()
        assert connector is not None
        await connector.close(abort_ssl=True)

    async def retire(self) -> None:
        """End the watches now, the requests when the last one is answered."""
        self.retired = True
        for stream in self.streams:
            # Closing the connection alone would leave the reader waiting for the other side's farewell.
            stream.content.set_exception(aiohttp.ClientConnectionError("the credentials were renewed"))
        await self.watches.close()
        await self.close_if_done()

    async def close_if_done(self) -> None:
        if self.retired and not self.in_flight:
            await self.requests.close()


def trim_tls_buffers() -> None:
    """Let asyncio read TLS into 16 KiB per connection. A class attribute of the library: a test watches over it."""
    asyncio.sslproto.SSLProtocol.max_size = _TLS_BUFFER_BYTES


def _encodings(server: str) -> str:
    """API servers compress answers above 128 KiB: worth its CPU on a network, not on the same machine."""
    host = urlsplit(server).hostname or ""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return "identity"
    return "gzip"


def _kept_alive(made: socket.socket) -> socket.socket:
    """The kernel notices a peer or a path that is gone within 30 s, also on an idle connection."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
    return made
