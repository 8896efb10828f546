"""A server in place of an API server, for what a real one cannot be made to do."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Scripted:
    """An HTTPS server on loopback that gives the next answer of its script, the last one for ever."""

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        self.script: list[Answer] = []
        self.seen: list[web.Request] = []
        self.connections: set[object] = set()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(*certificate)
        self._runner: web.ServerRunner | None = None
        self.port = 0

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(request)  # type: ignore[arg-type]
        self.connections.add(request.transport)
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await answer(request)  # type: ignore[arg-type]
