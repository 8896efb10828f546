"""A circuit breaker: a server that does not answer is not waited for by every request, and one probe serves all.

When it opens and closes is said in `core.circuit`. While it is open a request fails at once with the error of the last
failure; when a probe is due, whoever comes first sends it and the others take its outcome. There is no task of its own:
those who wait for the server to come back (`pause`) keep the probes going, and are woken by the first answer.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp

from gitsyncd.core import circuit
from gitsyncd.core.circuit import CLOSED, Failure
from gitsyncd.model.errors import ClusterDenied, ClusterError, ClusterUnreachable


class ProbeFailed(Exception):
    """The server did not answer, or not in a way that counts. Never leaves this folder."""

    def __init__(self, error: ClusterError, failure: Failure) -> None:
        super().__init__(str(error))
        self.error = error
        self.failure = failure


class Breaker:
    """Whether one API server answers, as far as requests have shown."""

    def __init__(
        self, probe: Callable[[], Awaitable[None]], *, cluster: str, jitter: Callable[[], float] = random.random
    ) -> None:
        """`probe` asks the server for any answer at all, within seconds, and raises `ProbeFailed` when none comes."""
        self._probe = probe
        self._cluster = cluster
        self._jitter = jitter
        self._circuit = CLOSED
        self._error: ClusterError | None = None
        self._probing = asyncio.Lock()
        self._closed = asyncio.Event()

    @property
    def open(self) -> bool:
        return self._circuit.open

    async def passage(self) -> None:
        """For each request while `open`: sends the probe if it is due, and raises the last error unless that helped."""
        await self._probe_if_due()
        if self._circuit.open:
            raise self._last()

    def answered(self) -> None:
        """Something was answered: the circuit is closed, and whoever waits for that goes on."""
        if self._circuit is not CLOSED:
            self._circuit, self._error = CLOSED, None
            self._closed.set()
            self._closed.clear()

    def failed(self, error: ClusterError, failure: Failure) -> None:
        """A request got no answer, or none that counts."""
        if not self._circuit.open:
            self._error = error
        self._circuit = circuit.failed(self._circuit, failure, now=_now(), jitter=self._jitter())

    async def alive(self) -> bool:
        """Ask for a sign of life now, unless it was found a moment ago that there is none; without one it opens."""
        if not self._circuit.open or self._circuit.due(_now()):
            async with self._probing:
                await self._probe_now()
        return not self._circuit.open

    async def pause(self, at_most_s: float) -> bool:
        """That long, or until the server answers where it did not; whether it came to that."""
        away = self._circuit.open
        if not away:
            await asyncio.sleep(at_most_s)
            return False
        end = _now() + at_most_s
        while away and (rest := end - _now()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(rest, max(0.0, self._circuit.probe_at - _now()))):
                    await self._closed.wait()
            await self._probe_if_due()
            away = self._circuit.open
        return not away

    async def _probe_if_due(self) -> None:
        if not self._circuit.due(_now()):
            return
        async with self._probing:
            if not self._circuit.due(_now()):
                return  # somebody else has just found out
            await self._probe_now()

    async def _probe_now(self) -> None:
        try:
            await self._probe()
        except ProbeFailed as failed:
            self._error = failed.error
            self._circuit = circuit.probe_failed(self._circuit, failed.failure, now=_now(), jitter=self._jitter())
        else:
            self.answered()

    def _last(self) -> ClusterError:
        assert self._error is not None
        error = copy.copy(self._error)  # an exception that is raised by many would collect all their tracebacks
        error.subject = self._cluster
        return error


def failure_of(error: Exception, meant: ClusterError) -> Failure | None:
    """What a failure to get an answer says of the server; None where it has in fact answered."""
    if isinstance(meant, ClusterDenied) and meant.expired:
        return None  # it refused our certificate
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Failure.UNCONNECTED
    if isinstance(error, TimeoutError):
        return Failure.UNANSWERED
    return Failure.HICCUP if isinstance(meant, ClusterUnreachable) else Failure.UNCONNECTED


def _now() -> float:
    return asyncio.get_running_loop().time()
