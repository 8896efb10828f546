"""A proxy as they stand between agents and registries: CONNECT, and requests with whole addresses.

async with Proxy() as proxy:
    ... proxy.url, proxy.asked ...
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Lets everything through, or answers with a status."""

    def __init__(self, status: int = 0) -> None:
        self._status = status
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.url = ""
        self.asked: list[str] = []
        """First lines of requests."""
        self.told: list[bytes] = []
        """Heads of requests, as they came."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._talks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        self._writers.append(writer)
        try:
            await self._speak(reader, writer)
        finally:
            await _closed(writer)

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.told.append(head)
        line, _, rest = head.partition(b"\r\n")
        method, address, version = line.decode().split()
        self.asked.append(f"{method} {address}")
        if self._status:
            writer.write(f"HTTP/1.1 {self._status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        elif method == "CONNECT":
            host, _, port = address.rpartition(":")
            await self._join(reader, writer, host, int(port), greeting=b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            parts = urlsplit(address)
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            begun = f"{method} {path} {version}\r\nConnection: close\r\n".encode() + rest
            await self._join(reader, writer, parts.hostname or "", parts.port or 80, begun=begun)

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        host: str,
        port: int,
        *,
        greeting: bytes = b"",
        begun: bytes = b"",
    ) -> None:
        """Both ways, until the server has said everything."""
        from_server, to_server = await asyncio.open_connection(host, port)
        self._writers.append(to_server)
        writer.write(greeting)
        to_server.write(begun)
        forth = asyncio.create_task(_copy(reader, to_server))
        await _copy(from_server, writer)
        await _closed(to_server)
        writer.close()
        await forth


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
