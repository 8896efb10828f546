"""The webhook listener: POST on a few paths, from anybody who can reach it.

Its own port, so that what may be open to the Internet has nothing to do with what must not. A body is capped before it
is read, a connection lives for seconds, a peer gets so many requests a minute, and nobody is told more than a status.
What a request means is the caller's; aiohttp reads it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gitsyncd.edges.web.http import MAX_HEAD_BYTES, MAX_HEADERS, why
from gitsyncd.model.errors import LocalError
from gitsyncd.model.target import Listen

if TYPE_CHECKING:
    from aiohttp.web_request import BaseRequest
    from aiohttp.web_response import Response

MAX_BODY_BYTES: Final = 1 << 20
MAX_CONNECTIONS: Final = 64
LIFETIME_S: Final = 10.0
A_MINUTE: Final = 60
"""Requests of one peer within a minute."""
_MOST_PEERS: Final = 10_000
_MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One request, whole. Names of headers are in small letters."""

    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


Receive = Callable[[Delivery], Awaitable[int]]
"""Answers with a status."""


class _Peers:
    """How many requests each peer had in this minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._minute = 0.0
        self._count: dict[str, int] = {}

    def let(self, peer: str) -> bool:
        now = self._clock()
        if now - self._minute >= _MINUTE_S or len(self._count) > _MOST_PEERS:
            self._minute, self._count = now, {}
        self._count[peer] = self._count.get(peer, 0) + 1
        return self._count[peer] <= A_MINUTE


@asynccontextmanager
async def serve(
    listen: Listen, certificate: tuple[Path, Path] | None, knows: Callable[[str], bool], receive: Receive
) -> AsyncIterator[str]:
    """Listen for as long as the context lasts; gives the address. `certificate` is a chain and its key, PEM.

    Raises `LocalError` when that is not possible.
    """
    from aiohttp.web_server import Server  # as in `http`

    loop = asyncio.get_running_loop()
    peers = _Peers(loop.time)
    tls = _Certificate(*certificate) if certificate is not None else None

    async def handle(request: BaseRequest) -> Response:
        return _response(await _status(request, peers, knows, receive))

    server = Server(
        handle,
        access_log=None,
        keepalive_timeout=LIFETIME_S,
        lingering_time=1.0,
        max_line_size=MAX_HEAD_BYTES,
        max_field_size=MAX_HEAD_BYTES,
        max_headers=MAX_HEADERS,
    )

    def connect() -> asyncio.BaseProtocol:
        if tls is not None:
            tls.renew()
        protocol = server()
        if len(server.connections) >= MAX_CONNECTIONS:
            loop.call_soon(_end, protocol)
        loop.call_later(LIFETIME_S, _end, protocol)
        return protocol

    try:
        listener = await loop.create_server(
            connect, listen.host, listen.port, ssl=tls.context if tls is not None else None
        )
    except OSError as error:
        raise LocalError(
            f"cannot listen on {listen} for webhooks: {why(error)}",
            hint='Name a free port of this machine: `agent: {webhook: {listen: "0.0.0.0:9481"}}`.',
        ) from error
    try:
        yield str(Listen(host=listen.host, port=listener.sockets[0].getsockname()[1]))
    finally:
        listener.close()
        await server.shutdown(1.0)


class _Certificate:
    """A chain and its key, taken anew when the files are others."""

    def __init__(self, chain: Path, key: Path) -> None:
        """Raises `LocalError`."""
        self._files = (chain, key)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.keylog_filename = None  # type: ignore[assignment] # whatever $SSLKEYLOGFILE says
        try:
            self._load()
        except (OSError, ssl.SSLError, ValueError) as error:
            raise LocalError(
                f"the certificate {chain} with the key {key} cannot be used for webhooks",
                hint="Check `agent.webhook.tls`: a chain and its own key, PEM, without passphrase.",
            ) from error

    def renew(self) -> None:
        """A pair that does not fit, as while it is being replaced, leaves the old one in use."""
        if self._state != self._now():
            with suppress(OSError, ssl.SSLError, ValueError):
                self._load()

    def _load(self) -> None:
        def passphrase() -> bytes:
            raise ValueError  # or OpenSSL asks for it on the terminal

        state = self._now()
        self.context.load_cert_chain(*self._files, password=passphrase)
        self._state = state

    def _now(self) -> tuple[tuple[int, int], ...]:
        states = []
        for path in self._files:
            with suppress(OSError):
                status = path.stat()
                states.append((status.st_mtime_ns, status.st_ino))
        return tuple(states)


def _end(protocol: asyncio.BaseProtocol) -> None:
    transport = getattr(protocol, "transport", None)  # None once it has ended
    if transport is not None:
        transport.abort()


async def _status(request: BaseRequest, peers: _Peers, knows: Callable[[str], bool], receive: Receive) -> int:
    if not peers.let(request.remote or ""):
        return 429
    path = request.rel_url.raw_path
    if not knows(path):
        return 404
    if request.method != "POST":
        return 405
    if (request.content_length or 0) > MAX_BODY_BYTES:
        return 413
    pieces, size = [], 0
    async for piece in request.content.iter_any():
        size += len(piece)
        if size > MAX_BODY_BYTES:
            return 413
        pieces.append(piece)
    return await receive(
        Delivery(
            path=path,
            headers={name.lower(): value for name, value in request.headers.items()},
            query=dict(request.query),
            body=b"".join(pieces),
        )
    )


def _response(status: int) -> Response:
    from aiohttp.web_response import Response

    response = Response(status=status, headers={"Cache-Control": "no-store", "Server": "gitsyncd"})
    response.force_close()
    return response
