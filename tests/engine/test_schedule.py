"""Every target is always in a turn or has one coming; one that is neither is noticed. systemd's watchdog rests on it."""

import asyncio
from datetime import timedelta

from gitsyncd.model.errors import ClusterDenied, Rejected, Throttled
from tests.engine.mirror import BROKEN
from tests.engine.world import World, config_map, map_id, recolor, target

INTERVAL = timedelta(minutes=10)


async def dropped_within(world: World, seconds: float, *, every: float = 1.0) -> list[str]:
    """Targets that were neither running nor scheduled at some moment."""
    found = set()
    for _ in range(int(seconds / every)):
        found |= {loop.target.id for loop in world.parts.targets if not loop.on_schedule}
        await asyncio.sleep(every)
    return sorted(found)


async def test_whatever_fails_no_target_is_dropped() -> None:
    world = World([target("web"), target("api"), target("broken"), target("paused", suspend=True)])
    world.repo.commit({name: [config_map(name)] for name in ("web", "api", "paused")} | {"broken": BROKEN})
    world.cluster.fail("apply", lambda: Rejected("no"), name="api")
    async with world:
        assert await dropped_within(world, 1800) == []
        down = world.cluster.go_down()
        assert await dropped_within(world, 3600) == []
        down.over()
        world.cluster.fail("apply", lambda: Throttled("later", retry_after_s=120.0), name="web", times=3)
        world.cluster.edit(map_id("web"), recolor("red"))
        assert await dropped_within(world, 1800) == []
        world.cluster.fail("list", lambda: ClusterDenied("no"))
        world.cluster.break_watches()
        assert await dropped_within(world, 3600) == []


async def test_a_turn_that_takes_long_is_no_dropped_target() -> None:
    world = World([target("web", interval=INTERVAL)])
    world.repo.commit({"web": [config_map("a")]})
    gate = world.cluster.hold("apply", name="a")
    async with world:
        await gate.reached.wait()

        assert await dropped_within(world, 3600) == []
        gate.over()


async def test_a_target_whose_loop_is_gone_is_noticed() -> None:
    """Its interval, and a quarter of an hour in which a loop that met a bug is begun again."""
    world = World([target("web", interval=INTERVAL), target("api", interval=INTERVAL)])
    world.repo.commit({"web": [config_map("a")], "api": [config_map("b")]})
    async with world:
        await world.in_sync()
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "target web@c1"]

        task.cancel()

        assert await dropped_within(world, 26 * 60) == ["web@c1"]
