"""The clock of these tests."""

import asyncio
import time

import pytest

from tests.engine.virtualtime import Deadlock, VirtualTimeLoop


async def test_an_hour_of_waiting_takes_no_time() -> None:
    begun = time.monotonic()

    await asyncio.sleep(3600)

    assert asyncio.get_running_loop().time() == 3600
    assert time.monotonic() - begun < 1


async def test_timers_fire_in_the_order_of_their_times() -> None:
    order: list[int] = []

    async def after(seconds: int) -> None:
        await asyncio.sleep(seconds)
        order.append(seconds)

    await asyncio.gather(after(30), after(10), after(20))

    assert order == [10, 20, 30]


def test_waiting_for_what_never_comes_is_an_error_and_no_hang() -> None:
    loop = VirtualTimeLoop()
    forever = loop.create_task(asyncio.Event().wait())
    try:
        with pytest.raises(Deadlock):
            loop.run_until_complete(forever)
    finally:
        forever.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(forever)
        loop.close()
