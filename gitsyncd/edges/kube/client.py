"""HTTP to one API server: calls through a limiter and a breaker, deadlines, one retry, credentials that are renewed.

What is asked and what answers mean is said elsewhere (`objects`, `watch`, `discover`, `inventory`; `errors`). Redirects
are not followed and no environment variable is read: credentials go to the configured address and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from gitsyncd.core.circuit import Failure
from gitsyncd.edges.kube.breaker import Breaker, ProbeFailed, failure_of
from gitsyncd.edges.kube.connect import AccessSource
from gitsyncd.edges.kube.errors import Answer, refusal, retry_after
from gitsyncd.edges.kube.fence import Fence
from gitsyncd.edges.kube.limiter import Limiter
from gitsyncd.edges.kube.network import breakdown
from gitsyncd.edges.kube.silence import Silence
from gitsyncd.edges.kube.wire import Wire, trim_tls_buffers
from gitsyncd.edges.retry import Transient, for_moments
from gitsyncd.model.errors import (
    ClusterDenied,
    ClusterError,
    ClusterUnreachable,
    ConfigError,
    GitsyncdError,
    LocalError,
    Throttled,
)
from gitsyncd.model.immutable import immutable

T = TypeVar("T")

CONNECT_S = 5.0
"""For TCP and TLS together."""

REQUEST = aiohttp.ClientTimeout(total=30.0, sock_connect=CONNECT_S)
LIST = aiohttp.ClientTimeout(total=60.0, sock_connect=CONNECT_S)
"""One page of a list. The servers' own limit for a request is 60 s too."""

WATCH = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
"""The stream has deadlines of its own (`watch`)."""

PROBE = aiohttp.ClientTimeout(total=4.75)
"""Of a server that has not answered. With the silence before it (`edges.kube.silence`): ten seconds in all."""

WATCH_HEADERS_S = 30.0
"""Until a watch is accepted."""

MAX_ANSWER_BYTES = 256 * 2**20
"""Of one answer. A page of 500 objects of the largest size that etcd takes does not come near in practice."""

_FRESHNESS_S = 1.0
"""How old the last look at the files of the credentials may be."""

_NETWORK_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)
_JSON = "application/json"


@immutable
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
    """Whether it goes past limiter and breaker: the lease must not wait behind what it covers."""


class Client:
    """Sends calls to one API server. Everything that goes wrong leaves as a `ClusterError` or `ConfigError`."""

    def __init__(
        self, source: AccessSource, *, cluster: str, agent: str, parallel: int, fence: Fence | None = None
    ) -> None:
        """`parallel` is the most requests that are ever in flight; how many are, is found out.

        Without a `fence` everything may be written.
        """
        trim_tls_buffers()
        self.cluster = cluster
        self._fence = fence
        self.sent: Counter[tuple[str, str]] = Counter()
        """Requests by verb and code; the code is `error` where no answer came."""
        self._source = source
        self._agent = agent
        self._limiter = Limiter(parallel)
        self._breaker = Breaker(self._ask, cluster=cluster)
        self._silence = Silence(self._look, self._is_busy)
        self._wire: Wire | None = None
        self._looked_at = 0.0
        self._read_at = float("-inf")
        self._unusable: ConfigError | LocalError | None = None
        self._renewing = asyncio.Lock()

    @property
    def width(self) -> int:
        """Requests that may be in flight now."""
        return self._limiter.width

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
            if not denied.expired or not await self._renew(begin, rejected=True):
                raise self._explained(denied) from denied.__cause__
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
        if call.urgent:
            # Whoever writes to this cluster next depends on it. And while the circuit is open it is one more probe.
            return await self._exchange(call, asyncio.get_running_loop().time())
        sent_at = await self._limiter.enter(call.verb)
        try:
            if self._breaker.open:
                await self._breaker.passage()
            return await self._exchange(call, sent_at)
        finally:
            self._limiter.leave(call.verb)

    async def _exchange(self, call: Call, sent_at: float) -> bytes:
        wire = await self.wire()
        wire.in_flight += 1
        self._silence.sent(sent_at)
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
            raise self._broken(error, wire, call, sent_at) from error
        finally:
            wire.in_flight -= 1
            if wire.retired:
                await wire.close_if_done()
        self.sent[call.verb, str(response.status)] += 1
        self._silence.heard(asyncio.get_running_loop().time())
        if 200 <= response.status < 300:
            self._breaker.answered()
            self._learn(call, sent_at)
            return body
        raise self._refused(response, body, call, sent_at)

    @contextlib.asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[tuple[Wire, aiohttp.ClientResponse]]:
        """A watch that the server has accepted, on a connection of its own."""
        if self._breaker.open:
            await self._breaker.passage()
        wire = await self.wire()
        sent_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(WATCH_HEADERS_S):
                response = await self._open(wire, call, sent_at)
        except _NETWORK_ERRORS as error:
            self.sent[call.verb, "error"] += 1
            raise _plain(self._broken(error, wire, call, sent_at)) from error
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

    async def _open(self, wire: Wire, call: Call, sent_at: float) -> aiohttp.ClientResponse:
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
            self._breaker.answered()
            return response
        async with response:
            refused = self._refused(response, await _body(response), call, sent_at)
        raise _plain(refused)

    async def pause(self, at_most_s: float) -> bool:
        """That long, or until a server that did not answer does so again; whether it came to that."""
        return await self._breaker.pause(at_most_s)

    def _is_busy(self) -> bool:
        return self._wire is not None and self._wire.in_flight > 0

    async def _look(self) -> None:
        """After a silence: whoever waits for a server that is gone is told now, and not after its own time limit."""
        if not await self._breaker.alive() and self._wire is not None:
            await self._wire.cut()

    async def _ask(self) -> None:
        """Any answer will do; without one, `ProbeFailed`. On a connection of its own: kept ones may be dead."""
        wire = await self.wire()
        try:
            async with (
                wire.session() as session,
                session.get(
                    URL(f"{wire.access.server}/version", encoded=True),
                    timeout=PROBE,
                    allow_redirects=False,
                    server_hostname=wire.server_name,
                    proxy=wire.proxy,
                ) as response,
            ):
                body = await _body(response)
        except _NETWORK_ERRORS as error:
            self.sent["get", "error"] += 1
            meant = breakdown(error, cluster=self.cluster, server=wire.access.shown)
            if failure := failure_of(error, meant):
                raise ProbeFailed(meant, failure) from error
            return
        self.sent["get", str(response.status)] += 1
        if response.status >= 500:
            answer = Answer(code=response.status, body=body, cluster=self.cluster)
            raise ProbeFailed(refusal(answer), Failure.HICCUP)

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

    async def _renew(self, since: float, *, rejected: bool = False) -> bool:
        """Read the credentials; whether they are others than before. A half-written file is not adopted.

        `rejected` says that the server does not accept those that were read: a plugin is asked for others.

        Whoever waited while they were read for somebody else takes that reading: it must have ended after `since`.
        """
        before = self._wire
        async with self._renewing:
            if self._wire is not before:
                return True
            if self._read_at < since:
                if rejected:
                    self._source.rejected()
                self._unusable = await self._read(before)
                self._read_at = asyncio.get_running_loop().time()
            if self._wire is None and self._unusable is not None:
                raise self._unusable
            renewed = self._wire is not before
        if renewed and before is not None:
            await before.retire()
        return renewed

    def _explained(self, denied: ClusterDenied) -> ClusterDenied:
        """With the reason for which there are no better credentials, where one is known."""
        why = self._unusable
        if not denied.expired or why is None:
            return denied
        return ClusterDenied(
            f"{denied.message}, and {why.message}", expired=True, subject=denied.subject, hint=why.hint
        )

    async def _read(self, before: Wire | None) -> ConfigError | LocalError | None:
        try:
            access = await self._source.load()
            if before is None or access != before.access:
                self._wire = Wire(access, agent=self._agent, fence=self._fence)
        except (ConfigError, LocalError) as error:
            return error
        return None

    async def close(self) -> None:
        """End all connections, watches included."""
        await self._silence.close()
        await self._source.settled()
        if self._wire is not None:
            wire, self._wire = self._wire, None
            await wire.watches.close()
            await wire.requests.close()

    def _refused(
        self, response: aiohttp.ClientResponse, body: bytes, call: Call, sent_at: float
    ) -> ClusterError | Transient:
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
        # A 504 may also say that the server has not reached a version yet, which is another error.
        unavailable = isinstance(error, ClusterUnreachable) and response.status in {502, 503, 504}
        if unavailable:
            self._breaker.failed(error, Failure.HICCUP)
            return Transient(error, after_s=retry_after(asked)) if call.idempotent else error
        self._breaker.answered()
        if isinstance(error, Throttled):
            if not error.one_kind:
                self._limiter.too_much(sent_at)
                self._limiter.hold(error)
            return Transient(error, after_s=error.retry_after_s)
        self._learn(call, sent_at)
        return error

    def _learn(self, call: Call, sent_at: float) -> None:
        if not call.urgent:  # a lease is answered sooner than what waits its turn, and would pass for the least time
            self._limiter.answered(call.verb, sent_at)

    def _broken(self, error: Exception, wire: Wire, call: Call, sent_at: float) -> ClusterError | Transient:
        meant = breakdown(error, cluster=self.cluster, server=wire.access.shown)
        failure = failure_of(error, meant)
        if failure is None:
            self._breaker.answered()
        else:
            self._breaker.failed(meant, failure)
        if failure is Failure.UNANSWERED:
            self._limiter.too_much(sent_at)
        # Nobody listening, or an unknown name, does not pass in a moment; a kept connection that was closed does.
        lost = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | ConnectionResetError)
        dropped = isinstance(error, aiohttp.ClientOSError) and not isinstance(error, aiohttp.ClientConnectorError)
        return Transient(meant) if (lost or dropped) and call.idempotent else meant


async def all_of(steps: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All answers in order, asked for at once. The first error ends the others and is raised alone.

    Not by a `TaskGroup`: before 3.13 one that fails while it is cancelled from outside forgets that it was.
    """
    tasks = [asyncio.create_task(step) for step in steps]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        # Each is asked, or asyncio would say that nobody did.
        errors = [task.exception() for task in tasks if task.done() and not task.cancelled()]
    for error in filter(None, errors):
        raise error
    return [task.result() for task in tasks]


def _plain(error: ClusterError | Transient) -> GitsyncdError:
    """For what is not tried again here."""
    return error.error if isinstance(error, Transient) else error


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
