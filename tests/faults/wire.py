"""HTTP/1.1 as far as a proxy has to know it: where a head ends, where a body ends, what is asked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

PIECE = 64 * 1024
_API = re.compile(r"^/(?:api/[^/]+|apis/[^/]+/[^/]+)/(?P<rest>.+)$")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class NotHttp(Exception):
    """What came is no HTTP, or the connection ended in the middle of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, whole."""

    number: int
    """Of the proxy, from 1."""
    at: float
    """Monotonic seconds at which it had arrived."""
    method: str
    target: str
    """Path and query as they came."""
    headers: Mapping[str, str]
    """Names in lower case."""
    raw: bytes
    """Head and body."""
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    @property
    def agent(self) -> str:
        return self.headers.get("user-agent", "")

    @property
    def verb(self) -> str:
        """As RBAC calls it; of a Git server `discovery`, `ls-refs` or `fetch`; empty where neither fits."""
        if self.path.endswith("/info/refs"):
            return "discovery"
        if self.path.endswith("/git-upload-pack"):
            return "ls-refs" if b"command=ls-refs" in self.body else "fetch"
        if not self.resource:
            return ""
        if self.method != "GET":
            return _VERBS.get(self.method, "")
        if "watch" in self.query:
            return "watch"
        return "get" if self.name else "list"

    @property
    def _parts(self) -> list[str]:
        match = _API.match(self.path)
        parts = match["rest"].split("/") if match else []
        return parts[2:] if parts[:1] == ["namespaces"] and len(parts) > 2 else parts

    @property
    def resource(self) -> str:
        """The plural; empty for what is no resource of Kubernetes."""
        return self._parts[0] if self._parts else ""

    @property
    def name(self) -> str:
        return self._parts[1] if len(self._parts) > 1 else ""


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an answer."""

    raw: bytes
    status: int
    headers: Mapping[str, str]

    def has_body(self, method: str) -> bool:
        return method != "HEAD" and self.status >= 200 and self.status not in {204, 304}


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Up to and with the empty line; nothing when the other side ended before one began."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise NotHttp("it ended within a head") from error
        return b""
    except asyncio.LimitOverrunError as error:
        raise NotHttp("a head above its limit") from error


async def read_request(reader: asyncio.StreamReader, number: int, now: float) -> Request | None:
    """The next one; None when there is none any more. `now` becomes its time."""
    head = await read_head(reader)
    if not head:
        return None
    first, headers = _parsed(head)
    try:
        method, target, _ = first.split(" ", 2)
    except ValueError as error:
        raise NotHttp(first[:80]) from error
    parts = [piece async for piece in read_body(reader, headers)]
    return Request(
        number=number,
        at=now,
        method=method,
        target=target,
        headers=headers,
        raw=head + b"".join(parts),
        body=_decoded(parts, headers),
    )


async def read_answer_head(reader: asyncio.StreamReader) -> Head:
    """Raises `NotHttp` where none comes."""
    raw = await read_head(reader)
    first, headers = _parsed(raw)
    try:
        return Head(raw, int(first.split(" ", 2)[1]), headers)
    except (IndexError, ValueError) as error:
        raise NotHttp(first[:80]) from error


async def read_body(
    reader: asyncio.StreamReader, headers: Mapping[str, str], *, until_end: bool = False
) -> AsyncIterator[bytes]:
    """Pieces as they stand on the wire, the frames of chunks included."""
    if "chunked" in headers.get("transfer-encoding", ""):
        while True:
            line = await reader.readline()
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError as error:
                raise NotHttp("a chunk without its size") from error
            yield line + await _exactly(reader, size + 2)
            if size == 0:
                return
    elif "content-length" in headers:
        left = int(headers["content-length"])
        while left:
            piece = await reader.read(min(left, PIECE))
            if not piece:
                raise NotHttp("it ended within a body")
            left -= len(piece)
            yield piece
    elif until_end:
        while piece := await reader.read(PIECE):
            yield piece


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise NotHttp("it ended within a chunk") from error


def answer(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """The bytes of an answer. Without a `Content-Length` among the headers the right one is added."""
    own = {name.lower() for name in headers}
    lines = [f"HTTP/1.1 {status} Fault", *(f"{name}: {value}" for name, value in headers.items())]
    if not own & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _parsed(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return first, {name.strip().lower(): value.strip() for name, value in pairs}


def _decoded(parts: list[bytes], headers: Mapping[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", ""):
        return b"".join(parts)
    return b"".join(part.partition(b"\r\n")[2][:-2] for part in parts)
