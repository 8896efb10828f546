"""The proxy: loopback, a thread of its own, TLS ended on both sides, faults that are switched while it runs.

    with Proxy(upstream("127.0.0.1", cluster.port, ca_file=cluster.ca_file), identity=identity(authority)) as proxy:
        rule = proxy.put(CutAnswer(after=100), when=asking("patch"), times=3)
        ...
        proxy.heal()

Credentials pass through untouched, so a client needs nothing but another address and another CA. Every request is
recorded when it has arrived. Without an identity it is a plain TCP relay that knows of connections only.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.faults.faults import (
    OF_CONNECTIONS,
    Answer,
    Babble,
    BlackHole,
    Certificate,
    Change,
    CutAnswer,
    CutRequest,
    Fault,
    Made,
    Matcher,
    Mute,
    Raw,
    Refuse,
    Slow,
    StallAnswer,
    Strike,
    Swallow,
    Trip,
    everything,
)
from tests.faults.wire import PIECE, Head, NotHttp, Request, answer, read_answer_head, read_body, read_request
from tests.gitserver.certificates import Authority
from tests.sandbox.processes import free_ports

_HEAD_LIMIT = 1 << 20
_ENDS = (OSError, NotHttp, ssl.SSLError, asyncio.IncompleteReadError, EOFError)
"""What the end of a connection looks like."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The real server."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


def upstream(host: str, port: int, *, ca_file: Path | None = None) -> Upstream:
    return Upstream(host, port, ssl.create_default_context(cafile=ca_file) if ca_file else None)


def identity(authority: Authority, *hosts: str, days: tuple[int, int] = (-1, 30)) -> ssl.SSLContext:
    """What a server of that CA shows; `days` is from when to when the certificate is valid, from now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server_certificate(*(hosts or ("127.0.0.1", "localhost")), days=days))
    return context


@dataclass(slots=True, eq=False)
class Rule:
    """A fault that is switched on, and which requests it hits."""

    fault: Fault
    when: Matcher = everything
    times: int | None = None
    """How many requests it hits; None: all."""
    skip: int = 0
    """How many that match pass before the first is hit."""
    chance: float = 1.0
    """Of each request that matches, by the proxy's seed."""
    hits: int = 0

    def takes(self, request: Request, chance: random.Random) -> bool:
        """Whether this request is hit. Counts it."""
        if self.times is not None and self.hits >= self.times:
            return False
        if not self.when(request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.chance < 1 and chance.random() >= self.chance:
            return False
        self.hits += 1
        return True


@dataclass(slots=True, eq=False)
class _Stream:
    """One side of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def end(self, *, reset: bool = False) -> None:
        """By RST, or by what is sent and then FIN."""
        raw = None
        with contextlib.suppress(AttributeError):  # CPython 3.11 raises it once TLS has let go of its connection
            raw = self.writer.get_extra_info("socket")
        if reset and raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()


@dataclass(slots=True, eq=False)
class _Connection:
    """A client, and the server behind it once something was asked."""

    client: _Stream
    lost: bool = False
    """Caught by a black hole, for good."""
    server: _Stream | None = None
    task: asyncio.Task[None] | None = None
    unlost: asyncio.Event = field(default_factory=asyncio.Event)
    """Never set."""

    async def gate(self) -> None:
        """Passes, or never returns."""
        if self.lost:
            await self.unlost.wait()

    def end(self, *, reset: bool = False) -> None:
        self.client.end(reset=reset)
        if self.server is not None:
            self.server.end(reset=reset)


class Proxy:
    """In front of one server. `put` and `heal` may be called by any thread at any time."""

    def __init__(
        self, server: Upstream, *, identity: ssl.SSLContext | None = None, seed: int = 0, port: int = 0
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.requests: list[Request] = []
        self.connections: Counter[str] = Counter()
        """`accepted` and `lost` so far."""
        self._server = server
        self._identity = identity
        self._chance = random.Random(seed)
        self._rules: tuple[Rule, ...] = ()
        self._alive: set[_Connection] = set()
        self._opening: set[socket.socket] = set()
        """Accepted, and nothing said yet."""
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name=f"proxy-{self.port}")

    # --- life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(256)
        listener.setblocking(False)
        self._listener = listener
        self._loop.add_reader(listener, self._accept, listener)

    def _unlisten(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def _close(self) -> None:
        self._unlisten()
        self._reset_all()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await asyncio.sleep(0.05)  # transports close their sockets in a later turn of the loop

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- faults ----------------------------------------------------------------------------------------------------

    def put(
        self,
        fault: Fault,
        *,
        when: Matcher = everything,
        times: int | None = None,
        skip: int = 0,
        chance: float = 1.0,
    ) -> Rule:
        """Switch it on, beside those that are. Of several that fit a request, the one that came first acts."""
        rule = Rule(fault, when=when, times=times, skip=skip, chance=chance)
        self._call(self._add(rule))
        return rule

    def heal(self) -> None:
        """Switch everything off."""
        self._call(self._heal())

    async def _add(self, rule: Rule) -> None:
        self._rules = (*self._rules, rule)
        match rule.fault:
            case Refuse():
                self._unlisten()
                self._reset_all()
            case Babble() | Certificate():
                self._reset_all()
            case BlackHole():
                for connection in self._alive:
                    connection.lost = True
                self.connections["lost"] += len(self._alive)
            case _:
                pass

    def reset(self) -> None:
        """Reset the connections that stand; no fault stays."""
        self._call(self._cut_all())

    async def _cut_all(self) -> None:
        self._reset_all()

    async def _heal(self) -> None:
        self._rules = ()
        for opening in list(self._opening):
            # Mute ones: whoever still waits there is told to come again.
            opening.close()
        self._opening.clear()
        await self._listen()

    def _reset_all(self) -> None:
        for connection in list(self._alive):
            connection.end(reset=True)
            if connection.task is not None and connection.task is not asyncio.current_task():
                connection.task.cancel()
        for opening in list(self._opening):
            opening.close()
        self._opening.clear()

    def _now(self, *kinds: type[Fault]) -> Any:
        return next((rule.fault for rule in self._rules if isinstance(rule.fault, kinds)), None)

    def _hit(self, request: Request) -> Fault | None:
        for rule in self._rules:
            if not isinstance(rule.fault, (*OF_CONNECTIONS, Slow)) and rule.takes(request, self._chance):
                return rule.fault
        return None

    # --- connections -----------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            raw, _ = listener.accept()
            raw.setblocking(False)
            self.connections["accepted"] += 1
            self._opening.add(raw)
            self._spawn(self._welcome(raw))

    async def _welcome(self, raw: socket.socket) -> None:
        if raw not in self._opening:
            return
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fault = self._now(Mute, BlackHole, Babble)
        if isinstance(fault, Mute | BlackHole):
            return  # kept open, never read
        self._opening.discard(raw)
        if isinstance(fault, Babble):
            with raw, contextlib.suppress(OSError):  # closed, too, when the proxy ends meanwhile
                await self._loop.sock_sendall(raw, fault.said)
                async with asyncio.timeout(1):
                    await self._loop.sock_recv(raw, PIECE)
            return
        shown = self._now(Certificate)
        client = await self._secured(raw, shown.shown if shown else self._identity)
        if client is None:
            return
        connection = _Connection(client, task=asyncio.current_task())
        self._alive.add(connection)
        try:
            await (self._http(connection) if self._identity is not None else self._relay(connection))
        except _ENDS:
            pass
        finally:
            self._alive.discard(connection)
            connection.end(reset=connection.lost)

    async def _secured(self, raw: socket.socket, tls: ssl.SSLContext | None) -> _Stream | None:
        reader = asyncio.StreamReader(limit=_HEAD_LIMIT, loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, raw, ssl=tls, ssl_handshake_timeout=10 if tls else None
            )
        except _ENDS:
            raw.close()
            return None
        except asyncio.CancelledError:
            raw.close()
            raise
        return _Stream(reader, asyncio.StreamWriter(transport, protocol, reader, self._loop))

    async def _reach(self, connection: _Connection) -> _Stream:
        """The server, asked for anew when it has hung up."""
        if connection.server is None or connection.server.reader.at_eof() or connection.server.writer.is_closing():
            reader, writer = await asyncio.open_connection(
                self._server.host, self._server.port, ssl=self._server.tls, limit=_HEAD_LIMIT
            )
            connection.server = _Stream(reader, writer)
        return connection.server

    async def _relay(self, connection: _Connection) -> None:
        """Bytes both ways."""
        server = await self._reach(connection)

        async def pump(source: _Stream, sink: _Stream) -> None:
            while piece := await source.reader.read(PIECE):
                await connection.gate()
                await self._at_pace(sink, piece)
            sink.writer.write_eof()

        both = [asyncio.ensure_future(pump(*way)) for way in ((connection.client, server), (server, connection.client))]
        try:
            await asyncio.gather(*both)
        finally:
            for way in both:
                way.cancel()

    async def _http(self, connection: _Connection) -> None:
        while True:
            request = await read_request(connection.client.reader, len(self.requests) + 1, time.monotonic())
            if request is None:
                return
            await connection.gate()
            self.requests.append(request)
            fault = self._hit(request)
            if isinstance(fault, Trip):
                await self._add(Rule(fault.fault, when=fault.when))
                await connection.gate()
                if fault.reset:
                    self._reset_all()
                fault = self._hit(request)
            if not await self._pass(connection, request, fault):
                return

    # --- one request -----------------------------------------------------------------------------------------------

    async def _pass(self, connection: _Connection, request: Request, fault: Fault | None) -> bool:
        """Whether the connection can go on."""
        match fault:
            case Answer() | Made():
                made = fault.make(request) if isinstance(fault, Made) else fault
                await self._wait(connection)
                await self._at_pace(connection.client, answer(made.status, made.headers, made.body))
                return True
            case Raw(said):
                await connection.client.send(said)
                connection.end()
                return False
            case Swallow():
                connection.lost = True
                await connection.gate()
            case CutRequest(after, reset):
                if after:
                    server = await self._reach(connection)
                    await server.send(request.raw[:after])
                connection.end(reset=reset)
                return False
            case Strike(hit, False):
                hit(request)
                connection.end(reset=True)
                return False
            case _:
                pass
        server = await self._reach(connection)
        await server.send(request.raw)
        head = await read_answer_head(server.reader)
        await self._wait(connection)
        return await self._give_back(connection, request, head, fault)

    async def _give_back(self, connection: _Connection, request: Request, head: Head, fault: Fault | None) -> bool:
        assert connection.server is not None
        pieces = read_body(connection.server.reader, head.headers, until_end=True)
        if not head.has_body(request.method):
            pieces = read_body(connection.server.reader, {})
        match fault:
            case Strike(hit, True):
                async for _ in pieces:
                    pass
                hit(request)
                connection.end(reset=True)
                return False
            case Change(change, length_is):
                body = change(b"".join([piece async for piece in _unframed(pieces, head)]))
                headers = {
                    "Content-Type": head.headers.get("content-type", ""),
                    "Content-Length": str(len(body) + length_is),
                }
                await connection.client.send(answer(head.status, headers, body))
                if length_is:
                    connection.end()
                return not length_is
            case CutAnswer(after) | StallAnswer(after):
                left: int | None = after
            case _:
                left = None
        for_good = "content-length" in head.headers or "transfer-encoding" in head.headers
        async for piece in _with_head(head, pieces):
            await connection.gate()
            if left is not None and len(piece) >= left:
                await connection.client.send(piece[:left])
                if isinstance(fault, StallAnswer):
                    connection.lost = True
                    await connection.gate()
                assert isinstance(fault, CutAnswer)
                connection.end(reset=fault.reset)
                return False
            await self._at_pace(connection.client, piece)
            left = left - len(piece) if left is not None else None
        return (for_good or not head.has_body(request.method)) and "close" not in head.headers.get("connection", "")

    async def _wait(self, connection: _Connection) -> None:
        await connection.gate()
        slow = self._now(Slow)
        if slow is not None and slow.latency_s:
            await asyncio.sleep(slow.latency_s)
            await connection.gate()

    async def _at_pace(self, sink: _Stream, data: bytes) -> None:
        slow = self._now(Slow)
        if slow is None or not slow.bytes_per_s:
            await sink.send(data)
            return
        step = max(1, int(slow.bytes_per_s / 20))
        for start in range(0, len(data), step):
            await sink.send(data[start : start + step])
            await asyncio.sleep(0.05)


async def _with_head(head: Head, pieces: Any) -> Any:
    yield head.raw
    async for piece in pieces:
        yield piece


async def _unframed(pieces: Any, head: Head) -> Any:
    chunked = "chunked" in head.headers.get("transfer-encoding", "")
    async for piece in pieces:
        yield piece.partition(b"\r\n")[2][:-2] if chunked else piece
