"""Several daemons of one name: at any moment one of them writes to a cluster, and which one is told."""

import asyncio
from typing import Any

from gitsyncd.model.errors import ClusterUnreachable, SourceUnreachable
from gitsyncd.model.ids import ObjectId
from tests.engine.cluster import MemoryCluster
from tests.engine.mirror import Repo
from tests.engine.world import World, config_map, map_id, recolor, target

FOUR = ("c1", "c2", "c3", "c4")


def worlds(*holders: str, clusters: tuple[str, ...] = ("c1",), shares: bool = False) -> list[World]:
    """Daemons of one name, with the same file, repository and clusters."""
    repo, servers = Repo(), {name: MemoryCluster(uid=f"uid-{name}") for name in clusters}
    repo.commit({"web": [config_map("settings", color="blue")]})
    targets = [target("web", cluster=name) for name in clusters]
    return [World(targets, clusters=servers, repo=repo, holder=holder, shares=shares) for holder in holders]


def held(world: World) -> set[str]:
    return {name for name, cluster in world.parts.clusters.items() if cluster.tenure.held}


async def test_the_second_daemon_stands_by_says_so_and_is_ready() -> None:
    first, second = worlds("one", "two")
    async with first, second:
        await first.in_sync()

        await second.until(lambda: second.events("daemon ready"))

        assert second.state("web") == "waiting"
        assert second.events("target waiting", target="web@c1", **{"for": "one writes to this cluster"})
        (cluster,) = second.control.status.of()["clusters"]
        assert (cluster["state"], cluster["writer"], cluster["error"]) == ("standby", "one", None)
        assert second.events("cluster unreachable", "target failed") == []


async def test_one_that_stands_by_neither_writes_nor_lists() -> None:
    first, second = worlds("one", "two")
    async with first, second:
        await first.in_sync()
        await second.until(lambda: second.events("daemon ready"))
        calls = len(second.cluster.calls)

        first.cluster.edit(map_id("settings"), recolor("red"))
        await first.until(lambda: first.events("drift reverted"))
        await second.rest(600)

        assert len(second.cluster.calls) - calls <= 3  # what the first one's revert took
        assert second.events("drift reverted", "object applied") == []


async def test_one_that_ends_hands_over_at_once() -> None:
    first, second = worlds("one", "two")
    await first.__aenter__()
    await first.in_sync()
    async with second:
        await second.until(lambda: second.events("daemon ready"))
        before = asyncio.get_running_loop().time()
        await first.parts.finish(within_s=10)
        await first.__aexit__()

        await second.in_sync()

        assert asyncio.get_running_loop().time() - before < 1
        second.cluster.edit(map_id("settings"), recolor("red"))
        await second.until(lambda: second.events("drift reverted"), within=5)


async def test_one_that_vanishes_is_followed_when_its_lease_has_expired_and_not_before() -> None:
    first, second = worlds("one", "two")
    await first.__aenter__()
    await first.in_sync()
    async with second:
        await first.__aexit__()
        gone_at = asyncio.get_running_loop().time()
        assert second.cluster.leases["edge"].holder == "one"

        await second.in_sync()

        assert 10 <= asyncio.get_running_loop().time() - gone_at <= 30


async def test_one_that_cannot_renew_writes_nothing_and_begins_again_when_it_can() -> None:
    (world,) = worlds("one")
    async with world:
        await world.in_sync()
        fault = world.cluster.fail("lease-renew", lambda: ClusterUnreachable("no connection"))

        await world.until(lambda: world.state("web") == "unknown")
        applied = world.cluster.count()["apply"]
        world.cluster.edit(map_id("settings"), recolor("red"))
        await world.rest(5)
        writes = world.cluster.count()["apply"] - applied
        fault.over()
        await world.in_sync()

        assert writes == 0
        live = world.live(map_id("settings"))
        assert live is not None and live["data"]["color"] == "blue"


async def test_one_whose_lease_was_taken_stands_by_and_takes_over_again_later() -> None:
    (world,) = worlds("one")
    async with world:
        await world.in_sync()

        world.cluster.grant("edge", holder="intruder", candidates={})
        await world.until(lambda: world.state("web") == "waiting")
        applied = world.cluster.count()["apply"]
        world.cluster.edit(map_id("settings"), recolor("red"))
        await world.rest(8)

        assert world.cluster.count()["apply"] == applied
        await world.in_sync()  # the intruder never renews
        live = world.live(map_id("settings"))
        assert live is not None and live["data"]["color"] == "blue"


async def test_daemons_that_share_divide_the_clusters_evenly_and_again_when_one_comes_or_goes() -> None:
    first, second, third = worlds("one", "two", "three", clusters=FOUR, shares=True)
    async with first:
        await first.in_sync()
        assert held(first) == set(FOUR)

        async with second:
            await second.until(lambda: len(held(second)) == 2, within=30)
            await second.until(lambda: len(held(first)) == 2, within=5)
            assert held(first) | held(second) == set(FOUR)

            async with third:
                await third.until(lambda: len(held(third)) == 1, within=30)
                sizes = sorted(map(len, (held(first), held(second), held(third))))
                assert sizes == [1, 1, 2]
            # the third one was killed: nothing was handed over
            await first.until(lambda: held(first) | held(second) == set(FOUR), within=30)
            await first.until(lambda: len(held(first)) == len(held(second)) == 2, within=30)

        await first.until(lambda: held(first) == set(FOUR), within=30)
        for name in FOUR:
            await first.until(lambda name=name: first.state(f"web@{name}") == "in-sync")  # type: ignore[misc]


FRONT = ObjectId(group="apps", kind="Deployment", namespace="default", name="front")


def ready(replicas: int) -> Any:
    def edit(live: dict[str, Any]) -> None:
        live["metadata"]["generation"] = 1
        live["status"] = {
            "observedGeneration": 1,
            "replicas": 1,
            "updatedReplicas": 1,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "conditions": [{"type": "Available", "status": "True" if replicas else "False"}],
        }

    return edit


async def test_a_turn_that_waits_is_over_with_its_tenure_and_deletes_nothing_of_what_came_after() -> None:
    """Its plan says that `kept` has left Git; meanwhile another daemon has put in force that it is back."""
    server, mine, others = MemoryCluster(uid="uid-c1"), Repo(), Repo()
    front, beside = (
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"replicas": 1},
        }
        for name in ("front", "beside")
    )
    rest = [config_map(name) for name in "abc"]
    needy = config_map("needy", annotations={"gitsyncd.dev/depends-on": "Deployment.apps/default/front"})
    with_it, without = (
        {"web": [front, *rest, last], "other": [beside]} for last in (config_map("kept"), needy)
    )  # `other` has deployments looked at whatever `web` does
    for repo in (mine, others):
        repo.commit(with_it)
    first, second = (
        World(["web", "other"], clusters={"c1": server}, repo=repo, holder=holder)
        for repo, holder in ((mine, "one"), (others, "two"))
    )
    async with first:
        await first.in_sync()
        server.edit(FRONT, ready(0), manager="kube-controller-manager")
        mine.commit(without)
        others.commit(without)
        await first.until(first.loop("web").turning.locked, within=100)
        await first.rest(2)
        assert first.loop("web").turning.locked(), "it waits for `front`"
        # its machine loses the network: the cluster, and Git
        api, cut = first.parts.views["c1"].api, [True]
        arrive = api._arrive  # type: ignore[attr-defined]

        async def lost(*where: str) -> None:
            if cut[0]:
                await asyncio.sleep(0.5)
                raise ClusterUnreachable("no connection")
            await arrive(*where)

        api._arrive = lost  # type: ignore[attr-defined]
        mine.fault = lambda _branches: SourceUnreachable("no route")
        server.break_watches(lambda: ClusterUnreachable("no connection"))
        others.commit(with_it)
        async with second:
            await second.in_sync()
            await second.parts.finish(within_s=10)

        cut[0] = False
        await first.until(lambda: held(first) == {"c1"}, within=120)
        await first.rest(5)
        server.edit(FRONT, ready(1), manager="kube-controller-manager")
        await first.rest(60)

    assert first.live(map_id("kept")) is not None
    assert first.events("object pruned") == []
