"""Every target is always in a turn or has one coming; one that is neither is noticed. systemd's watchdog rests on it."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gitsyncd.edges.systemd import Notifier, report
from gitsyncd.model.errors import ClusterDenied, Rejected, Throttled
from tests.engine.cluster import MemoryCluster
from tests.engine.mirror import BROKEN
from tests.engine.world import World, config_map, map_id, recolor, target
from tests.service.manager import Manager

INTERVAL = timedelta(minutes=10)


class Systemd:
    """What systemd would hear from this world's daemon."""

    def __init__(self, manager: Manager) -> None:
        self.notifier = Notifier(manager.address, watchdog_s=60)
        self._manager = manager

    @contextmanager
    def told_by(self, world: World) -> Iterator[None]:
        task = asyncio.ensure_future(report(self.notifier, alive=lambda: world.parts.alive, status=lambda: ""))
        try:
            with self._manager.listening():
                yield
        finally:
            task.cancel()

    def heard(self) -> Counter[str]:
        """Everything since the last time."""
        return Counter(self._manager.heard())

    async def silent_after(self, within_s: float) -> float:
        """Seconds until no sign of life has come for a minute: then systemd acts."""
        loop = asyncio.get_running_loop()
        begun = last = loop.time()
        while loop.time() - last <= 60:
            assert loop.time() - begun < within_s, "it goes on being fed"
            await asyncio.sleep(1)
            if self.heard():
                last = loop.time()
        return last - begun


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    manager = Manager(str(tmp_path / "notify"))
    yield Systemd(manager)
    manager.close()


async def dropped_within(world: World, seconds: float, *, every: float = 1.0) -> list[str]:
    """Targets that were neither running nor scheduled at some moment."""
    found = set()
    for _ in range(int(seconds / every)):
        found |= {loop.target.id for loop in world.parts.targets if not loop.on_schedule}
        await asyncio.sleep(every)
    assert found or world.parts.alive
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


async def test_an_idle_daemon_is_fed_all_day_and_all_night(systemd: Systemd) -> None:
    world = World([target("web", interval=timedelta(hours=10))])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        systemd.notifier.ready("")
        with systemd.told_by(world):
            await world.rest(1)
            systemd.heard()
            for _ in range(48):
                await world.rest(3600)

                signs = systemd.heard()
                assert set(signs) == {"WATCHDOG=1"}
                assert 102 <= signs["WATCHDOG=1"] <= 120, "every 30 to 35 s"


async def test_a_turn_that_hangs_is_no_sign_of_life(systemd: Systemd) -> None:
    """Its own time, and a quarter of an hour."""
    world = World([target("web"), target("api")])
    world.repo.commit({"web": [config_map("a")], "api": [config_map("b")]})
    async with world:
        await world.in_sync()
        systemd.notifier.ready("")
        with systemd.told_by(world):
            world.cluster.hold("apply", name="a")
            world.cluster.edit(map_id("a"), recolor("red"))

            alive_s = await systemd.silent_after(3600)

            assert 1200 - 60 <= alive_s <= 1200 + 60


async def test_a_turn_that_is_overdue_for_less_than_that_is_waited_for(systemd: Systemd) -> None:
    world = World([target("web")])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        gate = world.cluster.hold("apply", name="a")
        world.cluster.edit(map_id("a"), recolor("red"))
        await gate.reached.wait()

        assert await dropped_within(world, 1190) == []
        gate.over()
        await world.in_sync()
        assert await dropped_within(world, 7200) == []


async def test_a_target_whose_loop_is_gone_is_noticed() -> None:
    """Its interval, and a quarter of an hour in which a loop that met a bug is begun again."""
    world = World([target("web", interval=INTERVAL), target("api", interval=INTERVAL)])
    world.repo.commit({"web": [config_map("a")], "api": [config_map("b")]})
    async with world:
        await world.in_sync()
        task_of("target web@c1").cancel()

        assert await dropped_within(world, 26 * 60) == ["web@c1"]


@pytest.mark.parametrize("name", ["cluster c1", "source ", "target web@c1"])
async def test_a_loop_that_is_over_and_that_nobody_ended_is_no_sign_of_life(name: str, systemd: Systemd) -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        systemd.notifier.ready("")
        with systemd.told_by(world):
            task_of(name).cancel()

            assert await systemd.silent_after(600) <= 60


async def test_what_a_reload_ends_is_not_missed() -> None:
    world = World(["web", "api"])
    world.repo.commit({"web": [config_map("a")], "api": [config_map("b")]})
    async with world:
        await world.in_sync()

        await world.parts.adopt(replace(world._configuration, targets=(world.targets[0],)))
        world.parts.start()

        assert await dropped_within(world, 7200) == []
        assert world.parts.alive


async def test_a_daemon_that_stands_by_is_fed_and_ready() -> None:
    first = World(["web"], holder="edge-1")
    first.repo.commit({"web": [config_map("a")]})
    async with first:
        await first.in_sync()
        second = World(["web"], holder="edge-2", clusters=first.clusters, repo=first.repo)
        async with second:
            await asyncio.wait_for(second.first_turns, 60)

            assert second.state("web") == "waiting"
            assert await dropped_within(second, 7200) == []


# --- the start -------------------------------------------------------------------------------------------------------


async def test_a_start_with_a_cluster_that_is_out_of_reach_is_over_within_a_minute() -> None:
    clusters = {"c1": MemoryCluster(uid="one"), "c2": MemoryCluster(uid="two")}
    world = World([target("web"), target("web", cluster="c2")], clusters=clusters)
    world.repo.commit({"web": [config_map("a")]})
    clusters["c2"].go_down()
    async with world:
        await asyncio.wait_for(world.first_turns, 60)

        assert (world.state("web@c1"), world.state("web@c2")) == ("in-sync", "unknown")


async def test_a_start_that_hangs_gets_more_time_for_about_an_hour_and_no_longer(systemd: Systemd) -> None:
    """Nothing of it has a deadline that could be missed: the cluster's first answer never comes."""
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    world.cluster.hold("identity")
    async with world:
        with systemd.told_by(world):
            assert 3600 <= await systemd.silent_after(2 * 3600) <= 3600 + 120
            assert not world.first_turns.done()


def task_of(name: str) -> asyncio.Task[object]:
    (task,) = [task for task in asyncio.all_tasks() if task.get_name().startswith(name)]
    return task
