"""One probe for all, and nobody waits for a server that does not answer."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
import pytest

from gitsyncd.core.circuit import Failure
from gitsyncd.edges.kube.breaker import Breaker, ProbeFailed, failure_of
from gitsyncd.model.errors import ClusterDenied, ClusterError, ClusterUnreachable

GONE = ClusterUnreachable("connection refused", subject="eu")


class Server:
    """Answers probes, or not, and takes its time for either."""

    def __init__(self) -> None:
        self.up = False
        self.takes_s = 0.0
        self.probes: list[float] = []
        self.together = 0
        self.most = 0

    async def probe(self) -> None:
        self.probes.append(now())
        self.together += 1
        self.most = max(self.most, self.together)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.together -= 1
        if not self.up:
            raise ProbeFailed(GONE, Failure.UNCONNECTED)


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def breaker(server: Server) -> Breaker:
    return Breaker(server.probe, cluster="eu", jitter=lambda: 0.0)


def trip(breaker: Breaker) -> None:
    for _ in range(3):
        breaker.failed(GONE, Failure.UNCONNECTED)


async def test_while_it_is_open_requests_fail_at_once_with_the_last_error(breaker: Breaker, server: Server) -> None:
    trip(breaker)

    errors = await asyncio.gather(*(breaker.passage() for _ in range(100)), return_exceptions=True)

    assert now() == 0
    assert {str(error) for error in errors} == {"eu: connection refused"}
    assert {type(error) for error in errors} == {ClusterUnreachable}
    assert len({id(error) for error in errors}) == 100
    assert server.probes == []


async def test_when_a_probe_is_due_one_is_sent_and_everybody_takes_its_outcome(
    breaker: Breaker, server: Server
) -> None:
    trip(breaker)
    server.takes_s = 5.0
    await asyncio.sleep(1)

    errors = await asyncio.gather(*(breaker.passage() for _ in range(100)), return_exceptions=True)

    assert (server.probes, server.most) == ([1.0], 1)
    assert now() == 6.0
    assert {type(error) for error in errors} == {ClusterUnreachable}


async def test_a_probe_that_is_answered_lets_everybody_pass(breaker: Breaker, server: Server) -> None:
    trip(breaker)
    server.up = True
    await asyncio.sleep(1)

    await asyncio.gather(*(breaker.passage() for _ in range(10)))

    assert len(server.probes) == 1
    assert breaker.open is False


async def test_any_answer_closes_it(breaker: Breaker, server: Server) -> None:
    trip(breaker)

    breaker.answered()

    assert breaker.open is False
    assert server.probes == []


async def test_answers_in_between_keep_it_closed(breaker: Breaker) -> None:
    for _ in range(100):
        breaker.failed(GONE, Failure.UNCONNECTED)
        breaker.failed(GONE, Failure.UNANSWERED)
        breaker.answered()

    assert breaker.open is False


async def test_slow_requests_do_not_open_it_for_others_when_the_server_answers(
    breaker: Breaker, server: Server
) -> None:
    server.up = True
    for _ in range(3):
        breaker.failed(ClusterUnreachable("no answer within the time limit"), Failure.UNANSWERED)

    await breaker.passage()

    assert server.probes == [0.0]


async def test_those_who_wait_share_the_probes(breaker: Breaker, server: Server) -> None:
    trip(breaker)
    server.takes_s = 0.5

    await asyncio.gather(*(breaker.pause(20.0) for _ in range(9)))

    assert server.most == 1
    assert server.probes == [1.0, 2.5, 5.0, 9.5, 14.0, 18.5]


async def test_recovery_wakes_everybody_who_waits_within_seconds(breaker: Breaker, server: Server) -> None:
    trip(breaker)
    waiting = [asyncio.create_task(breaker.pause(600.0)) for _ in range(9)]
    await asyncio.sleep(300)

    server.up = True
    back = now()
    outcomes = await asyncio.gather(*waiting)

    assert outcomes == [True] * 9
    assert now() - back <= 4.0


async def test_the_answer_to_a_request_wakes_them_too(breaker: Breaker) -> None:
    trip(breaker)
    waiting = asyncio.create_task(breaker.pause(600.0))
    await asyncio.sleep(0.5)

    breaker.answered()

    assert await waiting is True
    assert now() == 0.5


async def test_whoever_waits_for_a_server_that_answers_waits_its_time(breaker: Breaker, server: Server) -> None:
    assert await breaker.pause(7.0) is False
    assert now() == 7.0
    assert server.probes == []


async def test_whoever_stops_waiting_leaves_the_probes_to_the_others(breaker: Breaker, server: Server) -> None:
    trip(breaker)
    server.takes_s = 3.0
    first = asyncio.create_task(breaker.pause(600.0))
    second = asyncio.create_task(breaker.pause(600.0))
    await asyncio.sleep(2)

    first.cancel()
    server.up = True

    assert await second is True
    assert now() == 5.0


@pytest.mark.parametrize(
    ("error", "meant", "expected"),
    [
        (aiohttp.ConnectionTimeoutError(), GONE, Failure.UNCONNECTED),
        (ConnectionRefusedError(), GONE, Failure.HICCUP),
        (TimeoutError(), GONE, Failure.UNANSWERED),
        (aiohttp.ServerDisconnectedError(), GONE, Failure.HICCUP),
        (aiohttp.ClientPayloadError(), GONE, Failure.HICCUP),
        (ssl.SSLError(), ClusterDenied("not trusted"), Failure.UNCONNECTED),
        (ssl.SSLError(), ClusterDenied("client certificate", expired=True), None),
    ],
)
def test_what_a_failure_says_of_the_server(error: Exception, meant: ClusterError, expected: Failure | None) -> None:
    assert failure_of(error, meant) is expected
