"""Who may connect to a listener, how many at a time and for how long, and the TLS that they speak.

Counted from the first byte to the last, handshakes included: nobody uses up the file descriptors of the daemon. Does
not belong here: what is asked and answered.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from errno import errorcode
from pathlib import Path
from typing import TYPE_CHECKING

from gitsyncd.core.allowance import peer
from gitsyncd.model.errors import LocalError
from gitsyncd.model.immutable import immutable
from gitsyncd.model.target import Listen

if TYPE_CHECKING:
    from aiohttp.web_server import Server

HANDSHAKE_S = 5.0
FAREWELL_S = 1.0
"""For a request in progress when the daemon ends, and for what is sent after a request that is refused."""


@immutable
class Limits:
    """Of the connections of one listener."""

    connections: int
    lifetime_s: float
    """Of a connection: for the head of the request, what somebody sends after it, and the reading of the answer."""
    per_peer: int | None = None


@asynccontextmanager
async def listening(
    listen: Listen,
    server: Server,
    limits: Limits,
    *,
    hint: str,
    certificate: tuple[Path, Path] | None = None,
) -> AsyncIterator[str]:
    """Accept for as long as the context lasts; gives the address, with the port that was found for port 0.

    `certificate` is a chain and its key, PEM.
    Raises `LocalError` when nothing can listen there, with `hint`, or when the certificate cannot be used.
    """
    identity = Identity(*certificate) if certificate is not None else None
    if identity is not None:
        await asyncio.to_thread(identity.load)
    gate = _Gate(server, limits, identity)
    try:
        listener = await asyncio.get_running_loop().create_server(lambda: _Visitor(gate), listen.host, listen.port)
    except OSError as error:
        raise LocalError(f"cannot listen on {listen}: {_why(error)}", hint=hint) from error
    try:
        yield str(Listen(host=listen.host, port=listener.sockets[0].getsockname()[1]))
    finally:
        listener.close()
        await gate.close()
        await server.shutdown(FAREWELL_S)


def _why(error: OSError) -> str:
    """In the system's words: asyncio puts its own, with the address once more, in their place."""
    return os.strerror(error.errno) if error.errno is not None and error.errno in errorcode else str(error)


class Identity:
    """A certificate and its key, read again when one of the files changes."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self._state: tuple[object, ...] = ()
        self._context: ssl.SSLContext | None = None

    def load(self) -> None:
        """Raises `LocalError` when the files cannot be used."""
        try:
            self._state = self._state_now()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.keylog_filename = None  # type: ignore[assignment] # whatever $SSLKEYLOGFILE says
            # Asked for a passphrase nobody would answer.
            context.load_cert_chain(self._chain, self._key, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise LocalError(
                f"the certificate {self._chain} with the key {self._key} cannot be used: "
                f"{getattr(error, 'reason', None) or getattr(error, 'strerror', None) or 'they are no such files'}",
                hint="Write a certificate chain and its key without passphrase, both PEM, that the agent's user may "
                "read.",
            ) from error
        self._context = context

    def context(self) -> ssl.SSLContext:
        """As the files are now; while they are being exchanged, as they were."""
        try:
            if self._context is None or self._state_now() != self._state:
                self.load()
        except (OSError, LocalError):
            if self._context is None:
                raise
        assert self._context is not None
        return self._context

    def _state_now(self) -> tuple[object, ...]:
        found = [file.stat() for file in (self._chain, self._key)]
        return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in found)


class _Gate:
    """The connections that are there."""

    def __init__(self, server: Server, limits: Limits, identity: Identity | None) -> None:
        self.server = server
        self.limits = limits
        self.identity = identity
        self.handshakes: set[asyncio.Task[None]] = set()
        self._closed = False
        self._peers: Counter[str] = Counter()

    def enter(self, who: str) -> bool:
        most = self.limits.per_peer
        # The server's own count has requests that are still worked on, although whoever sent them has gone.
        there = max(self._peers.total(), len(self.server.connections))
        if self._closed or there >= self.limits.connections or (most is not None and self._peers[who] >= most):
            return False
        self._peers[who] += 1
        return True

    def leave(self, who: str) -> None:
        self._peers[who] -= 1
        self._peers += Counter()  # forgets who has none

    async def close(self) -> None:
        self._closed = True
        for task in self.handshakes:
            task.cancel()
        await asyncio.gather(*self.handshakes, return_exceptions=True)


class _Visitor(asyncio.Protocol):
    """One connection: held to the limits, and handed to a protocol of its own once it may speak."""

    def __init__(self, gate: _Gate) -> None:
        self._gate = gate
        self._who: str | None = None
        """None outside of the gate."""
        self._inner: asyncio.Protocol | None = None
        self._early = b""
        """What came with the last bytes of the handshake."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        address = transport.get_extra_info("peername")  # none of somebody who has gone again
        who = peer(str(address[0])) if address else ""
        if not self._gate.enter(who):
            transport.abort()
            return
        self._who = who
        loop = asyncio.get_running_loop()
        self._end = loop.call_later(self._gate.limits.lifetime_s, transport.abort)
        if self._gate.identity is None:
            self._let_in(transport)
            return
        transport.pause_reading()
        task = loop.create_task(self._secure(transport, self._gate.identity))
        self._gate.handshakes.add(task)
        task.add_done_callback(self._gate.handshakes.discard)

    async def _secure(self, transport: asyncio.Transport, identity: Identity) -> None:
        try:
            context = await asyncio.to_thread(identity.context)
            secured = await asyncio.get_running_loop().start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
            if secured is not None and self._who is not None:
                self._let_in(secured)
        except (OSError, LocalError):
            pass  # whoever speaks no TLS is told nothing
        finally:
            if self._inner is None:
                transport.abort()
                self.connection_lost(None)  # asyncio tells nobody of a connection that was lost in its handshake

    def _let_in(self, transport: asyncio.Transport) -> None:
        self._inner = self._gate.server()
        self._inner.connection_made(transport)
        if self._early:
            self._inner.data_received(self._early)
            self._early = b""

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)
        else:
            self._early += data

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        if self._who is None:
            return  # it was not let in, or is already gone
        self._end.cancel()
        self._gate.leave(self._who)
        self._who = None
        if self._inner is not None:
            self._inner.connection_lost(error)
