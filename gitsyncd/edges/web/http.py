"""HTTP for programs that look and change nothing: GET and HEAD on a few fixed paths.

One connection carries one request and lives for a few seconds, so that nobody holds on to the daemon. Does not belong
here: what is answered. aiohttp reads the requests: docs/decisions/0021-metrics-and-health-over-aiohttps-server.md.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from errno import errorcode
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gitsyncd.model.errors import LocalError
from gitsyncd.model.target import Listen

if TYPE_CHECKING:
    from aiohttp.web_request import BaseRequest
    from aiohttp.web_response import Response

MAX_CONNECTIONS = 32
LIFETIME_S = 10.0
"""Of a connection: for the head of the request, what somebody sends after it, and the reading of the answer."""
MAX_HEAD_BYTES = 8190
"""Of the request line, and of each header; with at most `MAX_HEADERS` of them."""
MAX_HEADERS = 64
_FAREWELL_S = 1.0
"""For a request in progress when the daemon ends, and for what is sent after a request that is refused."""

TEXT = "text/plain; charset=utf-8"
_METHODS = ("GET", "HEAD")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "gitsyncd",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request is told."""

    status: int
    body: bytes
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


Route = Callable[[str], Awaitable[Answer]]
"""Given the header `Accept`. May raise nothing."""


@asynccontextmanager
async def serve(listen: Listen, routes: Mapping[str, Route]) -> AsyncIterator[str]:
    """Answer for as long as the context lasts; gives the address, with the port that was found for port 0.

    Raises `LocalError` when nothing can listen there.
    """
    # Not `aiohttp.web`, which names the same class: it costs 0.7 MB more. And here: nobody pays who turned it off.
    from aiohttp.web_server import Server

    loop = asyncio.get_running_loop()

    async def handle(request: BaseRequest) -> Response:
        return _response(await _answer(request, routes, guarded=_is_loopback(listen.host)))

    server = Server(
        handle,
        access_log=None,
        keepalive_timeout=LIFETIME_S,
        lingering_time=_FAREWELL_S,
        max_line_size=MAX_HEAD_BYTES,
        max_field_size=MAX_HEAD_BYTES,
        max_headers=MAX_HEADERS,
    )

    def connect() -> asyncio.BaseProtocol:
        if len(server.connections) >= MAX_CONNECTIONS:
            return _TurnedAway()
        protocol = server()
        loop.call_later(LIFETIME_S, _end, protocol)
        return protocol

    try:
        listener = await loop.create_server(connect, listen.host, listen.port)
    except OSError as error:
        raise LocalError(
            f"cannot listen on {listen}: {why(error)}",
            hint="Name an address of this machine and a free port, such as "
            '`agent: {http: {listen: "127.0.0.1:9490"}}`, or turn it off with `listen: null`.',
        ) from error
    try:
        yield str(Listen(host=listen.host, port=listener.sockets[0].getsockname()[1]))
    finally:
        listener.close()
        await server.shutdown(_FAREWELL_S)


def why(error: OSError) -> str:
    """In the system's words: asyncio puts its own, with the address once more, in their place."""
    return os.strerror(error.errno) if error.errno is not None and error.errno in errorcode else str(error)


class _TurnedAway(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _end(protocol: asyncio.BaseProtocol) -> None:
    transport = getattr(protocol, "transport", None)  # None once it has ended
    if transport is not None:
        transport.abort()


async def _answer(request: BaseRequest, routes: Mapping[str, Route], *, guarded: bool) -> Answer:
    if guarded and not _asks_for_this_machine(request):
        # A page in a browser on this machine may have its own name resolve to this address (DNS rebinding).
        return Answer(421, b"this listens on the loopback address only: ask for localhost\n")
    if request.method not in _METHODS:
        return Answer(405, b"only GET and HEAD\n", headers={"Allow": ", ".join(_METHODS)})
    route = routes.get(request.rel_url.raw_path)
    if route is None:
        return Answer(404, f"not found; there is {', '.join(routes)}\n".encode())
    return await route(", ".join(request.headers.getall("Accept", ())))


def _response(answer: Answer) -> Response:
    from aiohttp.web_response import Response

    response = Response(
        status=answer.status,
        body=answer.body,
        headers={**_HEADERS, "Content-Type": answer.content_type, **answer.headers},
    )
    response.force_close()
    return response


def _asks_for_this_machine(request: BaseRequest) -> bool:
    """By its header `Host`; only HTTP 1.0, which no browser speaks, may leave it out."""
    hosts = request.headers.getall("Host", ())
    if not hosts:
        return request.version == (1, 0)
    try:
        name = urlsplit(f"//{hosts[0]}").hostname or ""
    except ValueError:
        return False
    return len(hosts) == 1 and (name == "localhost" or _is_loopback(name))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
