"""The wall clock is set while the daemon runs: nothing is done sooner or later for it, and nothing is done at once."""

from datetime import datetime, timedelta

import pytest

from tests.engine.virtualtime import VirtualClock
from tests.engine.world import World, config_map, map_id, recolor

JUMPS = [
    pytest.param(timedelta(hours=1), id="an hour on"),
    pytest.param(timedelta(hours=-1), id="an hour back"),
    pytest.param(timedelta(days=3652), id="ten years on"),
    pytest.param(timedelta(days=-3652), id="ten years back"),
]


class SetClock(VirtualClock):
    """A wall clock that somebody sets."""

    def __init__(self) -> None:
        self.shift = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.shift


def world_with(clock: SetClock) -> World:
    world = World(["web"], clock=clock)
    world.repo.commit({"web": [config_map("settings", color="blue")]})
    return world


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_jump_causes_neither_a_storm_nor_a_stall(jump: timedelta) -> None:
    clock = SetClock()
    world = world_with(clock)
    async with world:
        await world.in_sync()
        await world.rest(60)
        calls, turns, polls = len(world.cluster.calls), world.loop("web").finished, world.repo.asked["update"]

        clock.shift = jump
        await world.rest(540)

        assert len(world.cluster.calls) == calls, "nothing is asked for the sake of a clock"
        assert world.loop("web").finished - turns <= 1
        assert 17 <= world.repo.asked["update"] - polls <= 19, "one look at the remote every half minute"
        await world.rest(120)
        assert world.loop("web").finished > turns, "the full look at every interval comes in its time"


@pytest.mark.parametrize("jump", JUMPS)
async def test_drift_is_undone_and_the_lease_kept_across_a_jump(jump: timedelta) -> None:
    clock = SetClock()
    world = world_with(clock)
    async with world:
        await world.in_sync()

        clock.shift = jump
        world.cluster.edit(map_id("settings"), recolor("red"))
        await world.until(lambda: world.events("drift reverted"), within=5)
        await world.rest(60)

        assert world.parts.clusters["c1"].tenure.held
        assert world.state("web") == "in-sync"
        assert world.events("cluster unreachable", "target waiting") == []


async def test_a_fight_is_counted_by_the_clock_that_cannot_be_set() -> None:
    clock = SetClock()
    world = world_with(clock)
    async with world:
        await world.in_sync()

        for number in range(6):
            clock.shift += timedelta(hours=1)
            world.cluster.edit(map_id("settings"), recolor(f"red-{number}"), manager="operator")
            await world.rest(1)

        assert len(world.events("fight detected")) == 1
