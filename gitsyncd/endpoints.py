"""What the daemon shows over HTTP, and from where it takes it: health, readiness, metrics, status.

Nothing is kept between two requests, and everything is asked for anew: the parts may be replaced while this listens.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import orjson

from gitsyncd import __version__
from gitsyncd.edges.web import http
from gitsyncd.edges.web.openmetrics import CLASSIC, END, OPENMETRICS, render, wants_classic
from gitsyncd.engine.loop_lag import LoopLag
from gitsyncd.engine.measure import Scene, measure
from gitsyncd.engine.supervise import describe_bug
from gitsyncd.model.errors import LocalError, StandingBy
from gitsyncd.model.immutable import immutable
from gitsyncd.model.printable import safe_json

if TYPE_CHECKING:
    from gitsyncd.edges.web.http import Answer, Route
    from gitsyncd.engine.ports import Log
    from gitsyncd.wiring import Fleet

_ADDRESS = re.compile(r"""\b([a-z+]{2,10}://)(?:[^\s"'`@/\\]*@)?([^\s"'`/\\,;)]*)(/[^\s"'`\\,;)]*)?""")


@immutable
class Facts:
    """Where what is shown comes from."""

    fleet: Fleet
    status: Callable[[], Any]
    """The document of `gitsyncd status`."""
    ready: Callable[[], bool]


@asynccontextmanager
async def serve(facts: Facts, *, log: Log) -> AsyncIterator[None]:
    """Listen where the agent file says, for as long as the context lasts.

    Raises `LocalError` when that is not possible; not for the default, which nobody has asked for by name: a second
    daemon on a machine runs without.
    """
    listen = facts.fleet.configuration.agent.http
    if listen is None:
        yield
        return
    lag = LoopLag()
    async with AsyncExitStack() as stack:
        stack.enter_context(lag.measured())
        try:
            address = await stack.enter_async_context(http.serve(listen, _routes(facts, lag, log)))
        except LocalError as error:
            if listen.asked:
                raise
            log.warning(
                "http unavailable", address=str(listen), error=error.message, remedy=error.remedy, hint=error.hint
            )
        else:
            log.info("http listening", address=address)
        yield


def _routes(facts: Facts, lag: LoopLag, log: Log) -> dict[str, Route]:
    async def health(_accept: str) -> Answer:
        return http.Answer(200, b"ok\n") if lag.turns else http.Answer(503, b"the event loop stalls\n")

    async def readiness(_accept: str) -> Answer:
        if facts.ready():
            return http.Answer(200, b"ready\n")
        return http.Answer(503, b"not ready: some target has not had its first turn, or the daemon ends\n")

    async def metrics(accept: str) -> Answer:
        classic = wants_classic(accept)
        text = [await _in_between(render(family, classic=classic)) for family in measure(_scene(facts, lag))]
        body = "".join([*text] if classic else [*text, END]).encode()
        return http.Answer(200, body, CLASSIC if classic else OPENMETRICS)

    async def status(_accept: str) -> Answer:
        document = safe_json(orjson.dumps(facts.status(), default=str).decode())
        return http.Answer(200, without_addresses(document, facts.fleet).encode() + b"\n", "application/json")

    routes = {"/healthz": health, "/readyz": readiness, "/metrics": metrics, "/api/v1/status": status}
    return {path: _foreseen(route, log) for path, route in routes.items()}


def _foreseen(route: Route, log: Log) -> Callable[[str], Awaitable[Answer]]:
    """A bug met in an answer is said in the log: whoever scrapes would only see that nothing came."""

    async def answer(accept: str) -> Answer:
        try:
            return await route(accept)
        except Exception as error:  # noqa: BLE001 - the last line of defence, as in `supervise`
            log.error("internal error", loop="http", error=describe_bug(error), retry_s=0.0)  # noqa: TRY400 - as there
            return http.Answer(500, b"internal error: see the log of the daemon\n")

    return answer


async def _in_between(text: str) -> str:
    """Let others run: a thousand targets are many lines."""
    await asyncio.sleep(0)
    return text


def _scene(facts: Facts, lag: LoopLag) -> Scene:
    fleet = facts.fleet
    return Scene(
        agent=fleet.configuration.agent.name,
        version=__version__,
        ready=facts.ready(),
        lag_s=lag.worst_s,
        # What another daemon of this name writes to is for that one to tell.
        targets=[loop for loop in fleet.targets if not isinstance(loop.view.error, StandingBy)],
        sources=fleet.sources,
        views=fleet.views,
        policies=fleet.automation.policies if fleet.automation is not None else (),
        updates=fleet.automation.updates if fleet.automation is not None else (),
        meter=fleet.meter,
        clock=fleet.clock,
    )


def without_addresses(document: str, fleet: Fleet) -> str:
    """Errors quote addresses of repositories. People with the local socket may read them, the network need not."""
    for source in sorted(fleet.configuration.sources, key=lambda source: len(source.repository.url), reverse=True):
        url = source.repository.url
        document = document.replace(url, f"(url of {source.name})")
        path = unquote(urlsplit(url).path) if url.startswith("file:") else ""
        if len(path) > 1:
            document = document.replace(path, f"(path of {source.name})")
    return _ADDRESS.sub(lambda found: found[1] + found[2] + ("/…" if found[3] else ""), document)
