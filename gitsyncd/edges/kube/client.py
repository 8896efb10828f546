"""HTTP to one API server: two connection pools, a limiter, credentials that renew themselves, deadlines, one retry.

What is asked and what answers mean is said elsewhere (`objects`, `watch`, `discover`, `inventory`; `errors`). Redirects
are not followed and no environment variable is read: credentials go to the configured address and nowhere else.
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import io
import ipaddress
import socket
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from gitsyncd import __version__
from gitsyncd.edges.kube.connect import Access, AccessSource
from gitsyncd.edges.kube.errors import Answer, refusal, retry_after
from gitsyncd.edges.kube.fence import Fence
from gitsyncd.edges.kube.network import breakdown
from gitsyncd.edges.retry import Transient, for_moments
from gitsyncd.model.errors import ClusterDenied, ClusterError, ClusterUnreachable, ConfigError, Throttled

T = TypeVar("T")

CONNECT_S = 5.0
"""For TCP and TLS together."""

REQUEST = aiohttp.ClientTimeout(total=30.0, sock_connect=CONNECT_S)
LIST = aiohttp.ClientTimeout(total=60.0, sock_connect=CONNECT_S)
"""One page of a list. The servers' own limit for a request is 60 s too."""

WATCH = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
"""The stream has deadlines of its own (`watch`)."""

WATCH_HEADERS_S = 30.0
"""Until a watch is accepted."""

MAX_ANSWER_BYTES = 256 * 2**20
"""Of one answer. A page of 500 objects of the largest size that etcd takes does not come near in practice."""

_FRESHNESS_S = 1.0
"""How old the last look at the files of the credentials may be."""

_TLS_BUFFER_BYTES = 16 * 1024
"""One TLS record. asyncio gives every connection 256 KiB to read into, which made a watch cost 299 kB instead of 60."""

_NETWORK_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)
_JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request."""

    method: str
    verb: str
    """As RBAC and metrics call it: get, list, watch, create, update, patch, delete."""
    path: str
    """From the root of the server, query included, percent-encoded."""
    subject: str = ""
    """The object it is about, for messages."""
    secret: bool = False
    """Whether answers may quote values of a Secret."""
    body: bytes | None = field(default=None, repr=False)
    content_type: str = _JSON
    accept: str = _JSON
    timeout: aiohttp.ClientTimeout = REQUEST
    idempotent: bool = True
    """Whether it may be sent again when it is not known if it arrived."""
    urgent: bool = False
    """Whether it goes past the limiter: the lease must not wait behind what it covers."""


class Limiter:
    """Requests in flight to one API server; one that was told to slow down lets nothing new go for that long."""

    def __init__(self, parallel: int) -> None:
        self._slots = asyncio.Semaphore(parallel)
        self._open_at = 0.0

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        if self._open_at:
            try:
                await self._wait_for_opening()
            except BaseException:
                self._slots.release()
                raise

    async def __aexit__(self, *_: object) -> None:
        self._slots.release()

    def hold(self, seconds: float) -> None:
        """Let nothing new go for this long."""
        self._open_at = max(self._open_at, asyncio.get_running_loop().time() + seconds)

    async def _wait_for_opening(self) -> None:
        rest = self._open_at - asyncio.get_running_loop().time()
        if rest <= 0:
            self._open_at = 0.0
        else:
            await asyncio.sleep(rest)


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
        self.requests = self._session(headers)
        self.watches = self._session(headers)
        self.server_name = access.server_name or None
        self.proxy = access.proxy or None

    def _session(self, headers: dict[str, str]) -> aiohttp.ClientSession:
        # No limit of connections here: requests are limited before, and a limit would let watches starve writes.
        connector = aiohttp.TCPConnector(limit=0, ssl=self.tls, keepalive_timeout=60.0, socket_factory=_socket)
        return aiohttp.ClientSession(
            connector=connector,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            request_class=self._fence.requests() if self._fence else aiohttp.ClientRequest,
        )

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


class Client:
    """Sends calls to one API server. Everything that goes wrong leaves as a `ClusterError` or `ConfigError`."""

    def __init__(
        self, source: AccessSource, *, cluster: str, agent: str, parallel: int, fence: Fence | None = None
    ) -> None:
        """Without a `fence` everything may be written."""
        trim_tls_buffers()
        self.cluster = cluster
        self._fence = fence
        self.sent: Counter[tuple[str, str]] = Counter()
        """Requests by verb and code; the code is `error` where no answer came."""
        self._source = source
        self._agent = agent
        self._limiter = Limiter(parallel)
        self._wire: Wire | None = None
        self._looked_at = 0.0
        self._read_at = float("-inf")
        self._unusable: ConfigError | None = None
        self._renewing = asyncio.Lock()

    @property
    def watching(self) -> int:
        """Streams that are open."""
        return len(self._wire.streams) if self._wire is not None else 0

    async def send(self, call: Call) -> bytes:
        """The body of a 2xx answer."""
        begin = asyncio.get_running_loop().time()
        try:
            return await self._once(call)
        except Transient as first:
            return await self._again(call, first)
        except ClusterDenied as denied:
            # Read the credentials once more, whatever the clock says: they may just have been replaced.
            if not denied.expired or not await self._renew(begin):
                raise
            return await self._once_more(call)

    async def _again(self, call: Call, first: Transient) -> bytes:
        # The first try is part of the patience; it is outside so that the usual case pays nothing for it.
        pending: list[Transient] = [first]

        async def attempt() -> bytes:
            if pending:
                raise pending.pop()
            return await self._once(call)

        return await for_moments(attempt)

    async def _once_more(self, call: Call) -> bytes:
        try:
            return await self._once(call)
        except Transient as transient:
            raise transient.error from transient

    async def _once(self, call: Call) -> bytes:
        async with contextlib.nullcontext() if call.urgent else self._limiter:
            wire = await self.wire()
            wire.in_flight += 1
            try:
                async with wire.requests.request(
                    call.method,
                    URL(wire.access.server + call.path, encoded=True),
                    data=_data(call.body),
                    headers=_headers(call),
                    timeout=call.timeout,
                    allow_redirects=False,
                    server_hostname=wire.server_name,
                    proxy=wire.proxy,
                ) as response:
                    body = await _body(response)
            except _NETWORK_ERRORS as error:
                self.sent[call.verb, "error"] += 1
                raise self._broken(error, wire, call) from error
            finally:
                wire.in_flight -= 1
                if wire.retired:
                    await wire.close_if_done()
        self.sent[call.verb, str(response.status)] += 1
        if 200 <= response.status < 300:
            return body
        raise self._refused(response, body, call)

    @contextlib.asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[tuple[Wire, aiohttp.ClientResponse]]:
        """A watch that the server has accepted, on a connection of its own."""
        wire = await self.wire()
        try:
            async with asyncio.timeout(WATCH_HEADERS_S):
                response = await self._open(wire, call)
        except _NETWORK_ERRORS as error:
            self.sent[call.verb, "error"] += 1
            raise breakdown(error, cluster=self.cluster, server=wire.access.shown) from error
        wire.streams.add(response)
        try:
            yield wire, response
        finally:
            wire.streams.discard(response)
            # Not `release`: what is left of a stream is endless. And not `close` alone: it waits up to 30 s for the
            # farewell of a server that may be the very reason for this end.
            if response.connection is not None and response.connection.transport is not None:
                response.connection.transport.abort()
            response.close()

    async def _open(self, wire: Wire, call: Call) -> aiohttp.ClientResponse:
        response = await wire.watches.request(
            call.method,
            URL(wire.access.server + call.path, encoded=True),
            headers=_headers(call),
            timeout=WATCH,
            allow_redirects=False,
            server_hostname=wire.server_name,
            proxy=wire.proxy,
        )
        self.sent[call.verb, str(response.status)] += 1
        if response.status == 200:
            return response
        async with response:
            refused = self._refused(response, await _body(response), call)
        raise refused.error if isinstance(refused, Transient) else refused

    async def probe(self) -> None:
        """Whether the server's process still answers: a TLS handshake, no request. Raises `ClusterError`.

        A frozen process, or a path that swallows packets, still acknowledges on TCP level, but cannot do this.
        """
        wire = await self.wire()
        parts = urlsplit(wire.access.server)
        if wire.access.proxy:
            await self.send(Call(method="GET", verb="get", path="/version"))
            return
        try:
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_connection(
                    parts.hostname,
                    parts.port or 443,
                    ssl=wire.tls,
                    server_hostname=wire.access.server_name or parts.hostname,
                )
        except _NETWORK_ERRORS as error:
            raise breakdown(error, cluster=self.cluster, server=wire.access.shown) from error
        writer.transport.abort()

    async def wire(self) -> Wire:
        """The connections to use now. Looks at the files of the credentials when the last look is too long ago."""
        now = asyncio.get_running_loop().time()
        if self._wire is not None and now - self._looked_at < _FRESHNESS_S:
            return self._wire
        self._looked_at = now
        if self._wire is None or self._source.changed():
            await self._renew(now)
        assert self._wire is not None
        return self._wire

    async def _renew(self, since: float) -> bool:
        """Read the credentials; whether they are others than before. A half-written file is not adopted.

        Whoever waited while they were read for somebody else takes that reading: it must have ended after `since`.
        """
        before = self._wire
        async with self._renewing:
            if self._wire is not before:
                return True
            if self._read_at < since:
                self._unusable = await self._read(before)
                self._read_at = asyncio.get_running_loop().time()
            if self._wire is None and self._unusable is not None:
                raise self._unusable
            renewed = self._wire is not before
        if renewed and before is not None:
            await before.retire()
        return renewed

    async def _read(self, before: Wire | None) -> ConfigError | None:
        try:
            access = await self._source.load()
            if before is None or access != before.access:
                self._wire = Wire(access, agent=self._agent, fence=self._fence)
        except ConfigError as error:
            return error
        return None

    async def close(self) -> None:
        """End all connections, watches included."""
        if self._wire is not None:
            wire, self._wire = self._wire, None
            await wire.watches.close()
            await wire.requests.close()

    def _refused(self, response: aiohttp.ClientResponse, body: bytes, call: Call) -> ClusterError | Transient:
        asked = response.headers.get("Retry-After", "")
        error = refusal(
            Answer(
                code=response.status,
                body=body,
                subject=call.subject,
                cluster=self.cluster,
                secret=call.secret,
                retry_after=asked,
            )
        )
        if isinstance(error, Throttled):
            self._limiter.hold(min(error.retry_after_s, CONNECT_S))
            return Transient(error, after_s=error.retry_after_s)
        # A 504 may also say that the server has not reached a version yet, which is another error.
        if isinstance(error, ClusterUnreachable) and response.status in {502, 503, 504} and call.idempotent:
            return Transient(error, after_s=retry_after(asked))
        return error

    def _broken(self, error: Exception, wire: Wire, call: Call) -> ClusterError | Transient:
        meant = breakdown(error, cluster=self.cluster, server=wire.access.shown)
        # Nobody listening, or an unknown name, does not pass in a moment; a kept connection that was closed does.
        lost = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | ConnectionResetError)
        dropped = isinstance(error, aiohttp.ClientOSError) and not isinstance(error, aiohttp.ClientConnectorError)
        return Transient(meant) if (lost or dropped) and call.idempotent else meant


async def all_of(steps: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All answers in order, asked for at once. The first error ends the others and is raised alone."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors.exceptions[0].__cause__
    return [task.result() for task in tasks]


def trim_tls_buffers() -> None:
    """Let asyncio read TLS into 16 KiB per connection. A class attribute of the library: a test watches over it."""
    asyncio.sslproto.SSLProtocol.max_size = _TLS_BUFFER_BYTES


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """The whole of an answer, within its cap."""
    known = response.content_length if "Content-Encoding" not in response.headers else None
    if known is not None and known <= MAX_ANSWER_BYTES:
        return await response.read()
    parts, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError("answer above its cap")
        parts.append(chunk)
    return b"".join(parts)


def _data(body: bytes | None) -> bytes | io.BytesIO | None:
    """Bodies above 1 MiB in pieces, as aiohttp asks for."""
    return body if body is None or len(body) <= 2**20 else io.BytesIO(body)


def _headers(call: Call) -> dict[str, str]:
    headers = {"Accept": call.accept}
    if call.body is not None:
        headers["Content-Type"] = call.content_type
    return headers


def _encodings(server: str) -> str:
    """API servers compress answers above 128 KiB: worth its CPU on a network, not on the same machine."""
    host = urlsplit(server).hostname or ""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return "identity"
    return "gzip"


def _socket(address: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
    """With keep-alive: the kernel notices a peer or a path that is gone within 30 s, also on an idle connection."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
    return made
