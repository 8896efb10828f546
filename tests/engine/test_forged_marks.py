"""Marks are labels and annotations: whoever may edit an object may write them. Alone they must not lead to a delete."""

from __future__ import annotations

from gitsyncd.edges.store import MemoryStore
from tests.engine.world import World, config_map, map_id

VICTIM = map_id("victim")


def marked() -> dict[str, object]:
    """An object of somebody else, with all marks of the target `web` on it."""
    body = config_map("victim", annotations={"gitsyncd.dev/target": "web", "gitsyncd.dev/id": str(VICTIM)})
    body["metadata"]["labels"] = {"gitsyncd.dev/agent": "edge"}
    return body


async def test_an_object_with_forged_marks_is_left_alone() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()

        world.cluster.put(marked())
        second = world.repo.commit({"web": [config_map("a", v="2")]})
        await world.in_sync(commit=second)
        await world.rest(3600)

        assert world.live(VICTIM) is not None
        assert set(world.cluster.inventories["edge", "web"][0].entries) == {map_id("a")}


async def test_an_object_with_forged_marks_does_not_enter_an_inventory_that_is_rebuilt() -> None:
    # given: our own object that left Git, and one that only says that it is ours
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("x")]})
    async with world:
        await world.in_sync()
    world.cluster.put(marked())
    del world.cluster.inventories["edge", "web"]
    second = world.repo.commit({"web": [config_map("a")]})

    # when
    later = World(world.targets, clusters=world.clusters, repo=world.repo, store=MemoryStore())
    async with later:
        await later.in_sync(commit=second)
        await later.rest(3600)

        # then
        assert later.live(map_id("x")) is None
        assert later.live(VICTIM) is not None
        assert set(later.cluster.inventories["edge", "web"][0].entries) == {map_id("a")}


async def test_an_object_with_forged_marks_is_no_sign_of_a_lost_inventory() -> None:
    world = World(["web"])
    world.cluster.put(marked())
    world.repo.commit({"web": [config_map("a")]})

    async with world:
        await world.in_sync()

        assert world.events("target failed") == []
        assert world.live(VICTIM) is not None
