"""What is known of a cluster is of what is there: nothing is kept of what has gone."""

from tests.engine.world import World, config_map, map_id, recolor


async def test_nothing_is_kept_of_objects_that_left_git() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("stays")]})
    names = [f"round-{number}" for number in range(20)]

    async with world:
        # when
        for name in names:
            await world.in_sync(commit=world.repo.commit({"web": [config_map("stays"), config_map(name)]}))
            world.cluster.edit(map_id(name), recolor("red"))
            await world.in_sync(commit=world.repo.commit({"web": [config_map("stays")]}))

        # then
        view = world.loop("web").view
        assert list(view.objects) == [map_id("stays")]
        assert view.unsure == set()
        assert view.take_news(map_id(name) for name in names) == {}


async def test_nothing_is_kept_of_labelled_objects_that_are_nobodys() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("stays")]})
    async with world:
        await world.in_sync()

        # when: a controller copies the label of what it finds to what it makes, and removes it again
        body = config_map("copy")
        body["metadata"]["labels"] = {"gitsyncd.dev/agent": "edge"}
        for color in ("red", "green"):
            world.cluster.put(body, manager="copier")
            await world.rest(1)
            world.cluster.edit(map_id("copy"), recolor(color), manager="copier")
            await world.rest(1)
            world.cluster.remove(map_id("copy"))
            await world.rest(1)

        # then
        view = world.loop("web").view
        assert list(view.objects) == [map_id("stays")]
        assert view.unsure == set()
        assert view.take_news([map_id("copy")]) == {}


async def test_of_a_deleted_object_that_git_wants_it_is_known_when_that_was_heard() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()

        # when
        world.cluster.remove(map_id("a"))
        await world.until(lambda: world.live(map_id("a")) is not None)
        await world.rest(1)

        # then
        assert len(world.events("drift reverted", object=str(map_id("a")))) == 1
        assert world.loop("web").view.take_news([map_id("a")]) == {}
