"""One watch: a stream of hints that objects of a kind have moved, and how its silence is told from its death.

While nothing changes a server sends a bookmark per watch and minute (seen on 1.37: 60 to 62 s apart), but the first one
only when its version has moved past the one that the watch began at, which may take long for a quiet kind where etcd
does not report progress. And nothing shall be requested while nothing changes. So three things are looked at, and none
of them is a request:

* the kernel probes every idle connection (`client`): a peer or a path that is gone shows within 30 s;
* when no watch of the cluster has said anything for 40 s, one TLS handshake asks whether the server's process still
  lives (`Client.probe`). A frozen server or a path that swallows packets still acknowledges in the kernel, but cannot
  answer this: noticed within 50 s. Watches share that `Pulse`, so it is at most one handshake a minute per cluster;
* a watch that has had a bookmark and then says nothing for 75 s has missed the next. Since the server lives, this
  stream alone is stuck (in a proxy that lost it): it ends, and the caller opens it again where it stood. Without a
  bookmark so far that happens after ten minutes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson

from gitsyncd.edges.kube.client import Call, Client
from gitsyncd.edges.kube.depth import shallow
from gitsyncd.edges.kube.errors import Answer, refusal
from gitsyncd.edges.kube.network import breakdown
from gitsyncd.edges.kube.objects import collection_path, is_secret
from gitsyncd.edges.kube.wire import Wire
from gitsyncd.model.answers import WatchEvent
from gitsyncd.model.errors import ClusterError, ClusterUnreachable
from gitsyncd.model.ids import ResourceType

CLUSTER_SILENCE_S = 40.0
"""Of all watches together, before the server's process is asked for a sign of life."""

WATCH_SILENCE_S = 75.0
"""Of one watch that has had a bookmark: they come every minute, and may be late."""

UNPROVEN_SILENCE_S = 600.0
"""Of one watch that has had none."""

LIFETIME_S = (1800.0, 3600.0)
"""What is asked for: the servers' own default, at random in between so that watches opened together end one by one.
Clients that fear for lost events end theirs after minutes; here the full look at each target's interval finds those."""

MAX_EVENT_BYTES = 64 * 2**20

_PREFIXES = {kind: f'{{"type":"{kind}","object":'.encode() for kind in ("ADDED", "MODIFIED", "DELETED")}
"""How API servers write an event, so that the object can be cut out without writing it anew."""


@dataclass(slots=True, kw_only=True)
class Patience:
    """How long one watch may say nothing."""

    limit_s: float = UNPROVEN_SILENCE_S


class Pulse:
    """The last sign of life on any watch of one cluster, and the one probe that all of them wait for."""

    def __init__(
        self, client: Client, *, silence_s: float = CLUSTER_SILENCE_S, watch_silence_s: float = WATCH_SILENCE_S
    ) -> None:
        self._client = client
        self._silence_s = silence_s
        self.watch_silence_s = watch_silence_s
        self._alive_at = 0.0
        self._probing = asyncio.Lock()
        self._failure: tuple[float, ClusterError] | None = None

    def beat(self, now: float) -> None:
        """Something was heard."""
        self._alive_at = now

    def due_in(self, now: float) -> float:
        """Seconds until somebody has to call `check`."""
        return self._alive_at + self._silence_s - now

    async def check(self) -> None:
        """Ask for a sign of life if it is due. Raises `ClusterUnreachable` when there is none, to every watch alike."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._probing:
            if self._failure and self._failure[0] >= asked_at:
                raise self._silent(self._failure[1])
            if self.due_in(loop.time()) > 0:
                return
            try:
                await self._client.probe()
            except ClusterError as error:
                self._failure = (loop.time(), error)
                raise self._silent(error) from error
            self.beat(loop.time())

    def _silent(self, cause: ClusterError) -> ClusterUnreachable:
        return ClusterUnreachable(
            f"nothing was heard for {self._silence_s:.0f} s, and {cause.message}", subject=self._client.cluster
        )


async def watch(
    client: Client,
    pulse: Pulse,
    resource: ResourceType,
    *,
    selector: str,
    resource_version: str,
    namespace: str = "",
    name: str = "",
) -> AsyncGenerator[WatchEvent, None]:
    """Events after `resource_version` until the stream ends, by the server or because the credentials were renewed.

    Then it is to be opened again at the last version seen. Raises `Expired` when the server no longer has that version
    and `ClusterUnreachable` when the connection broke or nothing was heard; refusals as any request.
    """
    query = {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "resourceVersion": resource_version,
        "timeoutSeconds": str(round(random.uniform(*LIFETIME_S))),
    }
    query |= ({"labelSelector": selector} if selector else {}) | (
        {"fieldSelector": f"metadata.name={name}"} if name else {}
    )
    path = collection_path(resource, namespace if resource.namespaced else "")
    call = Call(method="GET", verb="watch", path=f"{path}?{urlencode(query)}", secret=is_secret(resource))
    patience = Patience()
    async with client.stream(call) as (wire, response):
        try:
            async for line in _lines(response, pulse, patience):
                if event := parse_event(line, client.cluster, secret=call.secret):
                    if event.kind == "BOOKMARK":
                        patience.limit_s = pulse.watch_silence_s
                    yield event
        except (aiohttp.ClientError, OSError) as error:
            if not wire.retired:
                raise _lost(error, client, wire) from error


async def _lines(response: aiohttp.ClientResponse, pulse: Pulse, patience: Patience) -> AsyncIterator[bytes]:
    """Whole lines. Ends with the stream, or when this stream alone has been silent for too long."""
    loop = asyncio.get_running_loop()
    content = response.content
    heard_at = loop.time()
    pulse.beat(heard_at)
    rest = bytearray()  # bytes would be copied for every piece of a long line
    while True:
        now = loop.time()
        try:
            async with asyncio.timeout(max(0.0, min(heard_at + patience.limit_s - now, pulse.due_in(now)))):
                chunk = await content.readany()
        except TimeoutError:
            await pulse.check()
            if loop.time() - heard_at >= patience.limit_s:
                return
            continue
        if not chunk:
            return
        heard_at = loop.time()
        pulse.beat(heard_at)
        if b"\n" not in chunk:
            rest += chunk
            if len(rest) > MAX_EVENT_BYTES:
                raise aiohttp.ClientPayloadError("an event above its cap")
            continue
        rest += chunk
        *lines, rest = rest.split(b"\n")
        for line in lines:
            yield bytes(line)


def parse_event(line: bytes, cluster: str, *, secret: bool = False) -> WatchEvent | None:
    """One line of a watch; None for an empty one. Raises what an ERROR event stands for."""
    if not line.strip():
        return None
    try:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            line = shallow(line)
            value = orjson.loads(line)
        kind, body = value["type"], value["object"]
        if kind == "ERROR":
            raise _error_event(body, cluster, secret=secret)
        metadata = body["metadata"]
        bookmark = kind == "BOOKMARK"
        return WatchEvent(
            kind=kind,
            namespace=metadata.get("namespace", ""),
            name="" if bookmark else metadata["name"],
            uid="" if bookmark else metadata["uid"],
            resource_version=metadata["resourceVersion"],
            object=b"" if bookmark else _raw(line, value),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ClusterUnreachable("a watch sent what is no event", subject=cluster) from error


def _raw(line: bytes, event: Mapping[str, Any]) -> bytes:
    prefix = _PREFIXES.get(event["type"])
    if prefix and len(event) == len(("type", "object")) and line.startswith(prefix) and line.endswith(b"}"):
        return line[len(prefix) : -1]
    return orjson.dumps(event["object"])


def _error_event(status: Any, cluster: str, *, secret: bool) -> ClusterError:
    code = status.get("code")
    return refusal(
        Answer(code=code if isinstance(code, int) else 500, body=orjson.dumps(status), cluster=cluster, secret=secret)
    )


def _lost(error: Exception, client: Client, wire: Wire) -> ClusterError:
    return breakdown(error, cluster=client.cluster, server=wire.access.shown)
