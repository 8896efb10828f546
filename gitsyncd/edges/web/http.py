"""HTTP for programs that look and change nothing: GET and HEAD on a few fixed paths.

One connection carries one request and lives for a few seconds, so that nobody holds on to the daemon. Does not belong
here: what is answered. aiohttp reads the requests: docs/decisions/0021-metrics-and-health-over-aiohttps-server.md.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gitsyncd.edges.web.gate import FAREWELL_S, Limits, listening
from gitsyncd.model.immutable import immutable
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


@immutable(kw_only=False)
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

    async def handle(request: BaseRequest) -> Response:
        return _response(await _answer(request, routes, guarded=_is_loopback(listen.host)))

    server = Server(
        handle,
        access_log=None,
        keepalive_timeout=LIFETIME_S,
        lingering_time=FAREWELL_S,
        max_line_size=MAX_HEAD_BYTES,
        max_field_size=MAX_HEAD_BYTES,
        max_headers=MAX_HEADERS,
    )

    hint = (
        "Name an address of this machine and a free port, such as "
        '`agent: {http: {listen: "127.0.0.1:9490"}}`, or turn it off with `listen: null`.'
    )
    limits = Limits(connections=MAX_CONNECTIONS, lifetime_s=LIFETIME_S)
    async with listening(listen, server, limits, hint=hint) as address:
        yield address


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
