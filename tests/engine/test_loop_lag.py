"""Whether the event loop turns, told by how late its timers are."""

import asyncio

from gitsyncd.engine.loop_lag import SAMPLE_EVERY_S, STALLED_S, LoopLag
from tests.engine.virtualtime import stall


async def test_a_loop_without_work_is_on_time() -> None:
    lag = LoopLag()
    with lag.measured():
        await asyncio.sleep(60)

        assert lag.turns
        assert lag.worst_s < 0.001


async def test_a_stall_is_seen_at_once_by_whoever_asks_first_and_is_over_with_the_next_sample() -> None:
    lag = LoopLag()
    with lag.measured():
        await asyncio.sleep(1)
        stall(SAMPLE_EVERY_S + STALLED_S)

        assert not lag.turns
        assert lag.worst_s >= STALLED_S

        await asyncio.sleep(0.1)
        assert not lag.turns
        await asyncio.sleep(SAMPLE_EVERY_S)
        assert lag.turns


async def test_a_short_stall_is_remembered_for_a_minute_and_alarms_nobody() -> None:
    lag = LoopLag()
    with lag.measured():
        await asyncio.sleep(1)
        stall(SAMPLE_EVERY_S)
        await asyncio.sleep(30)

        assert lag.turns
        assert 0.9 < lag.worst_s <= SAMPLE_EVERY_S

        await asyncio.sleep(60)
        assert lag.worst_s < 0.001


async def test_nothing_is_left_behind() -> None:
    lag = LoopLag()
    with lag.measured():
        pass

    await asyncio.sleep(2 * SAMPLE_EVERY_S)
    assert not lag._lags
