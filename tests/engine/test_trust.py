"""What a cluster's own record says was applied there, against what the repository says now."""

from gitsyncd.edges.store import MemoryStore
from tests.engine.mirror import BROKEN
from tests.engine.world import World, config_map, map_id, recolor


async def test_a_record_of_a_commit_that_nobody_knows_holds_the_head_once_and_not_at_every_poll() -> None:
    # given
    before = World(["web"])
    for version in ("1", "2", "3"):  # more commits than the other repository has: its ids are counted
        before.repo.commit({"web": [config_map("a", v=version)]})
    async with before:
        await before.in_sync()

    # when
    after = World(["web"], clusters=before.clusters, store=MemoryStore())
    head = after.repo.commit({"web": [config_map("b")]})
    async with after:
        await after.until(lambda: after.state("web") == "held")
        await after.rest(3600)

        # then
        assert after.live(map_id("b")) is None
        assert len(after.events("source updated")) == 1
        assert len(after.events("revision held")) == 1

        # when
        await after.control.approve_revision("fleet", head)
        await after.in_sync(commit=head)

        # then
        assert after.live(map_id("b")) is not None


async def test_a_record_of_one_cluster_holds_the_head_for_that_cluster_only() -> None:
    # given
    before = World(["web"])
    for version in ("1", "2", "3"):  # more commits than the other repository has: its ids are counted
        before.repo.commit({"web": [config_map("a", v=version)]})
    async with before:
        await before.in_sync()

    # when
    after = World(["web", "api"], clusters=before.clusters, store=MemoryStore())
    after.repo.commit({"web": [config_map("b")], "api": [config_map("c")]})
    async with after:
        await after.until(lambda: after.state("web") == "held")
        await after.until(lambda: after.live(map_id("c")))

        # then
        assert after.state("api") == "in-sync"


async def test_drift_is_healed_towards_the_last_rendering_while_a_newer_commit_cannot_be_rendered() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        world.repo.commit({"web": BROKEN})
        await world.until(lambda: world.events("render failed"))

        # when
        world.cluster.edit(map_id("a"), recolor("red"))
        await world.until(lambda: world.events("drift reverted"), within=5)

        # then
        live = world.live(map_id("a"))
        assert live is not None and live["data"]["color"] != "red"
        assert world.state("web") == "failed"
