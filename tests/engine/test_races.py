"""Somebody writes between our look and our write: looked at again, and no failure of the object."""

from tests.engine.world import World, config_map, map_id


async def test_an_object_that_somebody_makes_just_before_us_is_adopted_and_no_failure_is_told() -> None:
    # given: our request to create it is on its way
    world = World(["web"])
    world.repo.commit({"web": [config_map("a", color="blue")]})
    gate = world.cluster.hold("apply", name="a")
    async with world:
        await gate.reached.wait()

        # when
        world.cluster.put(config_map("a", color="red"))
        gate.over()
        await world.in_sync()

        # then
        assert (world.live(map_id("a")) or {})["data"]["color"] == "blue"
        assert [line["operation"] for line in world.events("object applied")] == ["adopted"]
        assert world.events("object failed", "target failed") == []
