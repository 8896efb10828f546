"""Webhooks: somebody who knows a secret says that there is something new, and a bell is rung.

On a listener of its own, since others may reach it than those who read metrics. All that an answer tells is its status:
202 for what is taken up, else 401, 404, 413, 429 or 503; 400 for what is no HTTP. Does not belong here: who is believed
(`core.hook_proof`), what a delivery speaks of (`core.hooks`), and what ringing does.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import orjson

from gitsyncd.core.allowance import Allowance, Rate, peer, spend
from gitsyncd.core.hook_proof import PROOFS, needs_body, proves, shown
from gitsyncd.core.hooks import DELIVERY_HEADERS, EVENT_HEADERS
from gitsyncd.edges.named_file import read_named
from gitsyncd.edges.web.gate import FAREWELL_S, Limits, listening
from gitsyncd.model.hook import Hook
from gitsyncd.model.immutable import immutable
from gitsyncd.model.target import Listen

if TYPE_CHECKING:
    from aiohttp.web_request import BaseRequest
    from aiohttp.web_response import Response

MAX_BODY: Final = 1 << 20
MAX_HEAD_BYTES: Final = 8190
"""Of the request line, and of each header; with at most `MAX_HEADERS` of them."""
MAX_HEADERS: Final = 64
MAX_QUEUED: Final = 1000
"""Deliveries that are taken up and not yet looked into."""
MAX_QUEUED_BYTES: Final = 8 * MAX_BODY
REPEATED_WITHIN_S: Final = 600.0
"""The same delivery rings once in so long. It only saves looks: a ring too many does no harm."""
MAX_REMEMBERED: Final = 4096
"""Deliveries, and peers."""
RATE: Final = Rate(at_once=60, per_second=2.0)
"""Of one peer. A reverse proxy is one peer for all who come through it, so it is far above what people push."""
LIMITS: Final = Limits(connections=32, lifetime_s=10.0, per_peer=16)
MAX_SECRET: Final = 64 << 10


class SecretUnreadableError(Exception):
    """Why, in the system's words. Stays in this folder and with whoever is told of refusals."""


@immutable
class Door:
    """Somebody who may ring at one path."""

    name: str
    """What it is for, in words: `source fleet`. Its own among all doors."""
    hook: Hook
    ring: Callable[[str, Any], None]
    """Given what the event header says, and what the body means; None for a body that means nothing. Takes no time."""
    refused: Callable[[str], None]
    """Told why a delivery is not believed, or could not be checked. Never quotes what was sent."""


Find = Callable[[str], Sequence[Door]]
"""By the path of the request, as it came: nobody where nothing is. Asked anew each time: doors may come and go."""


@asynccontextmanager
async def serve(
    listen: Listen, certificate: tuple[Path, Path] | None, find: Find, *, broken: Callable[[Exception], None]
) -> AsyncIterator[str]:
    """Take deliveries for as long as the context lasts; gives the address, with the port that was found for port 0.

    `broken` is told of defects of our own: whoever sent the delivery only reads 503.
    Raises `LocalError` when nothing can listen there, or when the certificate cannot be used.
    """
    from aiohttp.web_server import Server  # here, as in `http`: nobody pays who has no webhook

    desk = _Desk(find, broken)
    server = Server(
        desk.answer,
        access_log=None,
        keepalive_timeout=LIMITS.lifetime_s,
        lingering_time=FAREWELL_S,
        max_line_size=MAX_HEAD_BYTES,
        max_field_size=MAX_HEAD_BYTES,
        max_headers=MAX_HEADERS,
        auto_decompress=False,  # signatures are over the bytes as they came, and a cap of what is inflated is no cap
    )
    hint = 'Name an address of this machine and a free port, such as `agent: {webhook: {listen: "0.0.0.0:9481"}}`.'
    reading = asyncio.create_task(desk.read())
    try:
        async with listening(listen, server, LIMITS, hint=hint, certificate=certificate) as address:
            yield address
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading


@immutable(kw_only=False)
class _Delivery:
    door: Door
    event: str
    content_type: str
    body: bytes


@immutable(kw_only=False)
class _Claim:
    """What a sender shows to be somebody who may ring, with what it takes to see whether it is."""

    door: Door
    proof: str
    secret: bytes

    def holds(self, body: bytes = b"") -> bool:
        return proves(self.door.hook.kind, self.proof, self.secret, body)


class _Desk:
    """Where deliveries are checked, put on a pile, and looked into one after the other."""

    def __init__(self, find: Find, broken: Callable[[Exception], None]) -> None:
        self._find = find
        self._broken = broken
        self._pile: asyncio.Queue[_Delivery] = asyncio.Queue(MAX_QUEUED)
        self._bytes = 0
        self._peers: OrderedDict[str, Allowance] = OrderedDict()
        self._taken: OrderedDict[bytes, float] = OrderedDict()
        """Deliveries, and until when a repetition of each says nothing new."""

    async def answer(self, request: BaseRequest) -> Response:
        from aiohttp.web_protocol import RequestPayloadError
        from aiohttp.web_response import Response

        try:
            status = await self._status(request)
        except (ConnectionError, RequestPayloadError):
            status = 400  # whoever sent it has gone, or sends chunks that are none
        except Exception as error:  # noqa: BLE001 - the last line of defence, as in `supervise`
            self._broken(error)
            status = 503
        response = Response(status=status, headers={"Server": "gitsyncd"})
        response.force_close()
        return response

    async def _status(self, request: BaseRequest) -> int:
        if not self._may_ask(peer(request.remote or "")):
            return 429
        doors = self._find(request.rel_url.raw_path) if request.method == "POST" else ()
        if not doors:
            return 404
        if (request.content_length or 0) > MAX_BODY:
            return 413
        shown_at = [(door, proof) for door in doors if (proof := _proof(request, door.hook)) is not None]
        if not shown_at:
            return _refuse(doors, "it shows no proof of this kind, or more than one")
        claims = await asyncio.to_thread(_claims, shown_at)
        if not claims:
            return 503
        signed = [claim for claim in claims if needs_body(claim.door.hook.kind)]
        found = next((claim for claim in claims if claim not in signed and claim.holds()), None)
        if found is None and not signed:
            return _refuse([claim.door for claim in claims], _WRONG)
        body = await _body(request)
        if body is None:
            return 413
        found = found or next((claim for claim in signed if claim.holds(body)), None)
        if found is None:
            return _refuse([claim.door for claim in claims], _WRONG)
        return self._take_up(request, found.door, body)

    def _may_ask(self, who: str) -> bool:
        now = asyncio.get_running_loop().time()
        self._peers[who], within = spend(self._peers.pop(who, None), now, RATE)
        if len(self._peers) > MAX_REMEMBERED:
            self._peers.popitem(last=False)  # whoever asked longest ago
        return within

    def _take_up(self, request: BaseRequest, door: Door, body: bytes) -> int:
        if self._bytes + len(body) > MAX_QUEUED_BYTES or self._pile.full():
            return 503
        kind = door.hook.kind
        if self._is_repeated(door, request.headers.get(DELIVERY_HEADERS.get(kind, ""), ""), body):
            return 202
        event = request.headers.get(EVENT_HEADERS.get(kind, ""), "")
        self._pile.put_nowait(_Delivery(door, event, request.content_type, body))
        self._bytes += len(body)
        return 202

    def _is_repeated(self, door: Door, delivery: str, body: bytes) -> bool:
        """Whether the sender says that it is the same one, and it is. Where it says nothing, none is."""
        if not delivery:
            return False
        now = asyncio.get_running_loop().time()
        digest = sha256(f"{door.name}\0{delivery}\0".encode("utf-8", "surrogateescape") + body).digest()
        while self._taken and (now >= next(iter(self._taken.values())) or len(self._taken) >= MAX_REMEMBERED):
            self._taken.popitem(last=False)
        known = digest in self._taken
        self._taken.setdefault(digest, now + REPEATED_WITHIN_S)
        return known

    async def read(self) -> None:
        """For ever: what each delivery means, and the bell for it."""
        while True:
            delivery = await self._pile.get()
            self._bytes -= len(delivery.body)
            try:
                delivery.door.ring(delivery.event, _meaning(delivery))
            except Exception as error:  # noqa: BLE001 - as above
                self._broken(error)
            del delivery  # not to be kept until the next one
            await asyncio.sleep(0)


_WRONG: Final = "whoever sent it does not know the secret"


def _refuse(doors: Sequence[Door], why: str) -> int:
    for door in doors:
        door.refused(why)
    return 401


def _proof(request: BaseRequest, hook: Hook) -> str | None:
    place = PROOFS[hook.kind].place
    return shown(hook.kind, request.headers.getall(place, ()), request.rel_url.query.getall(place, ()))


def _claims(shown_at: Sequence[tuple[Door, str]]) -> list[_Claim]:
    """Without those whose secret cannot be read, who are told so."""
    found = []
    for door, proof in shown_at:
        try:
            found.append(_Claim(door, proof, _secret(door.hook.secret_file)))
        except SecretUnreadableError as error:
            door.refused(str(error))
    return found


async def _body(request: BaseRequest) -> bytes | None:
    """As it came; None when it is larger than it may be. How long it may take, the connection's lifetime says."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


def _meaning(delivery: _Delivery) -> Any:
    """The JSON of the body, or in a form's field `payload`, which GitHub sends unless told otherwise."""
    text: bytes | str = delivery.body
    try:
        if delivery.content_type == "application/x-www-form-urlencoded":
            text = parse_qs(delivery.body.decode(), strict_parsing=True, max_num_fields=16)["payload"][0]
        return orjson.loads(text)
    except (ValueError, KeyError):
        return None


def _secret(file: Path) -> bytes:
    """Without line ends after it, and never empty. Raises `SecretUnreadableError`."""
    try:
        secret = read_named(file, MAX_SECRET).rstrip(b"\r\n")
    except OSError as error:
        raise SecretUnreadableError(f"{file} cannot be read: {error.strerror}") from error
    if not secret.strip():
        raise SecretUnreadableError(f"{file} is empty")
    return secret
