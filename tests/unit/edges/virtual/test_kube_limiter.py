"""Requests in flight, on API servers that are modelled: so many cores, so long for a request, so far away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from gitsyncd.edges.kube.limiter import LISTS, PATIENCE_S, Limiter
from gitsyncd.model.errors import Throttled


@dataclass
class Server:
    """Works on `cores` requests at once, each for `work_s`; all others queue."""

    cores: int = 2
    work_s: float = 0.003
    way_s: float = 0.0
    """There and back."""
    room: int = 10_000
    """Requests that it takes at once; the others are refused."""
    inside: int = 0
    most: int = 0
    refused: int = 0
    sent: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._busy = asyncio.Semaphore(self.cores)

    async def serve(self) -> bool:
        await asyncio.sleep(self.way_s / 2)
        if self.inside >= self.room:
            self.refused += 1
            await asyncio.sleep(self.way_s / 2)
            return False
        self.inside += 1
        self.most = max(self.most, self.inside)
        async with self._busy:
            await asyncio.sleep(self.work_s)
        self.inside -= 1
        await asyncio.sleep(self.way_s / 2)
        return True


def now() -> float:
    return asyncio.get_running_loop().time()


async def send(limiter: Limiter, server: Server, verb: str = "patch") -> None:
    """One request, tried again until it is taken."""
    taken = False
    while not taken:
        sent_at = await limiter.enter(verb)
        server.sent.append(sent_at)
        try:
            taken = await server.serve()
            if taken:
                limiter.answered(verb, sent_at)
            else:
                limiter.too_much(sent_at)
                limiter.hold(Throttled("slower", retry_after_s=1.0))
        finally:
            limiter.leave(verb)


async def sync(limiter: Limiter, server: Server, objects: int, workers: int = 32) -> float:
    """Seconds for that many requests."""
    pending, begun = iter(range(objects)), now()

    async def work() -> None:
        for _ in pending:
            await send(limiter, server)

    await asyncio.gather(*(work() for _ in range(workers)))
    return now() - begun


async def test_a_near_server_is_kept_busy_with_a_short_queue() -> None:
    limiter, server = Limiter(32), Server()

    took = await sync(limiter, server, 2000)

    assert 12 <= limiter.width <= 18
    assert server.most <= 18
    assert 2000 / took > 0.98 * server.cores / server.work_s


@pytest.mark.parametrize(("way_ms", "at_least"), [(20, 22), (50, 31), (200, 32)])
async def test_the_farther_a_server_is_the_more_are_on_their_way(way_ms: int, at_least: int) -> None:
    limiter, server = Limiter(32), Server(way_s=way_ms / 1000)

    await sync(limiter, server, 1000)

    assert limiter.width >= at_least


async def test_a_far_server_gets_nearly_twice_as_much_as_with_sixteen_at_once() -> None:
    fixed = await sync(Limiter(16), Server(way_s=0.05), 1000)
    adaptive = await sync(Limiter(32), Server(way_s=0.05), 1000)

    assert fixed / adaptive > 1.7


async def test_a_server_that_becomes_slow_gets_fewer() -> None:
    limiter, server = Limiter(32), Server(way_s=0.05)
    await sync(limiter, server, 1000)
    before = limiter.width

    server.work_s = 0.03
    await sync(limiter, server, 1000)

    assert before >= 31
    assert limiter.width <= 20


async def test_requests_one_at_a_time_change_nothing() -> None:
    limiter, server = Limiter(32), Server()

    for _ in range(100):
        await send(limiter, server)

    assert limiter.width == 8


@pytest.mark.parametrize("cap", [1, 4, 16])
async def test_there_are_never_more_than_the_cap(cap: int) -> None:
    server = Server(way_s=0.05, cores=100)

    await sync(Limiter(cap), server, 500)

    assert server.most == cap


async def test_a_server_with_little_room_is_refused_by_seldom() -> None:
    limiter, server = Limiter(32), Server(room=6, work_s=0.01)

    await sync(limiter, server, 5000)

    assert server.refused / len(server.sent) < 0.05


async def test_everybody_comes_in_the_order_of_asking() -> None:
    limiter, order = Limiter(1), []

    async def ask(name: int) -> None:
        await limiter.enter("patch")
        order.append(name)
        await asyncio.sleep(0.01)
        limiter.leave("patch")

    await asyncio.gather(*(ask(name) for name in range(20)))

    assert order == list(range(20))


async def test_a_target_with_one_request_does_not_wait_for_all_of_another() -> None:
    limiter, server = Limiter(32), Server()
    sync_of_many = asyncio.create_task(sync(limiter, server, 2000))
    await asyncio.sleep(0.5)

    begun = now()
    await send(limiter, server)
    took = now() - begun
    left = sync_of_many.done()
    await sync_of_many

    assert left is False
    assert took < 0.15


async def test_lists_have_a_lane_of_their_own() -> None:
    limiter, together, most = Limiter(32), 0, 0

    async def ask() -> None:
        nonlocal together, most
        await limiter.enter("list")
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.1)
        together -= 1
        limiter.leave("list")

    lists = asyncio.gather(*(ask() for _ in range(30)))
    await asyncio.sleep(0.01)
    begun = now()
    await limiter.enter("patch")

    assert now() == begun
    limiter.leave("patch")
    await lists
    assert most == LISTS


async def test_nothing_new_goes_while_the_server_asks_for_a_pause() -> None:
    limiter, server = Limiter(32, jitter=lambda: 0.0), Server()
    limiter.hold(Throttled("slower", retry_after_s=2.0))

    await asyncio.gather(*(send(limiter, server) for _ in range(5)))

    assert server.sent == [2.0] * 5


async def test_a_pause_is_longer_than_what_was_asked_and_never_shorter() -> None:
    ends = []
    for jitter in (0.0, 0.5, 0.999):
        limiter = Limiter(32, jitter=lambda jitter=jitter: jitter)  # type: ignore[misc]
        begun = now()
        limiter.hold(Throttled("slower", retry_after_s=2.0))
        ends.append(await limiter.enter("get") - begun)

    assert ends == sorted(ends)
    assert ends[0] >= 2.0
    assert ends[-1] <= 2.5


async def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    limiter = Limiter(32, jitter=lambda: 0.0)
    limiter.hold(Throttled("slower", retry_after_s=4.0))
    limiter.hold(Throttled("slower", retry_after_s=1.0))

    assert await limiter.enter("get") == 4.0


async def test_a_long_pause_is_told_and_not_waited_for() -> None:
    limiter = Limiter(1, jitter=lambda: 0.0)
    await limiter.enter("get")
    waiting = [asyncio.create_task(limiter.enter("get")) for _ in range(3)]
    await asyncio.sleep(0)

    limiter.hold(Throttled("slower", retry_after_s=60.0, subject="eu"))
    told = await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.sleep(20)
    with pytest.raises(Throttled) as caught:
        await limiter.enter("get")

    assert [type(error) for error in told] == [Throttled] * 3
    assert (caught.value.retry_after_s, caught.value.subject) == (40.0, "eu")
    assert now() == 20.0
    limiter.leave("get")
    await asyncio.sleep(60 - PATIENCE_S)
    assert await limiter.enter("get") == 75.0


@pytest.mark.parametrize("verb", ["get", "list"])
async def test_whoever_stops_waiting_takes_no_room(verb: str) -> None:
    limiter = Limiter(1)
    await limiter.enter("get")
    waiting = [asyncio.create_task(limiter.enter(verb)) for _ in range(9)]
    await asyncio.sleep(0)

    for task in waiting[:-1]:
        task.cancel()
    limiter.leave("get")
    await asyncio.gather(*waiting, return_exceptions=True)

    limiter.leave(verb)
    await asyncio.wait_for(limiter.enter(verb), 1)


async def test_whoever_stops_waiting_at_the_moment_of_its_turn_passes_it_on() -> None:
    limiter = Limiter(1)
    await limiter.enter("get")
    first, second = (asyncio.create_task(limiter.enter("get")) for _ in range(2))
    await asyncio.sleep(0)

    limiter.leave("get")
    first.cancel()

    await asyncio.wait_for(second, 1)
