"""Two targets of one agent on one cluster: who keeps an object that both want, and how one moves from one to the other."""

import pytest

from tests.engine.world import World, config_map, map_id, recolor

SHARED = map_id("shared")


@pytest.mark.parametrize("names", [["api", "web"], ["web", "api"]])
async def test_an_object_that_two_targets_want_stays_with_its_first_owner_whatever_happens_to_it(
    names: list[str],
) -> None:
    # given
    world = World(names)
    world.repo.commit({"web": [config_map("shared", color="blue")], "api": [config_map("own")]})
    async with world:
        await world.in_sync()
        second = world.repo.commit(
            {
                "web": [config_map("shared", color="blue")],
                "api": [config_map("own"), config_map("shared", color="green")],
            }
        )
        await world.in_sync("web", commit=second)
        await world.until(lambda: world.state("api") == "failed")

        # when
        for _ in range(3):
            world.cluster.edit(SHARED, recolor("red"))
            await world.rest(120)

        # then
        live = world.live(SHARED)
        assert live is not None
        assert (live["metadata"]["annotations"]["gitsyncd.dev/target"], live["data"]["color"]) == ("web", "blue")
        assert world.events("object applied", target="api@c1", object="ConfigMap/default/shared") == []
        assert world.state("web") == "in-sync"


@pytest.mark.parametrize("names", [["api", "web"], ["web", "api"]])
async def test_an_object_that_moves_to_another_target_is_never_deleted(names: list[str]) -> None:
    # given
    world = World(names)
    world.repo.commit({"web": [config_map("shared"), config_map("w")], "api": [config_map("a")]})
    async with world:
        await world.in_sync()
        before = world.live(SHARED)

        # when
        moved = world.repo.commit({"web": [config_map("w")], "api": [config_map("a"), config_map("shared")]})
        await world.in_sync(commit=moved)
        await world.rest(5)

        # then
        after = world.live(SHARED)
        assert before is not None and after is not None
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert after["metadata"]["annotations"]["gitsyncd.dev/target"] == "api"
        assert SHARED not in world.cluster.inventories["edge", "web"][0].entries
        assert SHARED in world.cluster.inventories["edge", "api"][0].entries
