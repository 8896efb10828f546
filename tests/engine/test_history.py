"""Which revision ran when: written down as it happens, kept in the cluster, never in anybody's way."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from gitsyncd.edges.store import MemoryStore
from gitsyncd.model.errors import ClusterDenied
from tests.engine.mirror import BROKEN
from tests.engine.world import World, config_map, map_id, target


async def history(world: World, limit: int | None = None, *, name: str = "web") -> list[dict[str, Any]]:
    answer = await world.control.history(name, limit)
    revisions: list[dict[str, Any]] = answer["targets"][0]["revisions"]
    return revisions


def kept(world: World) -> dict[tuple[str, str], str]:
    return next(iter(world.clusters.values())).histories


async def test_each_revision_has_its_moments_and_the_newest_is_first() -> None:
    world = World(["web"])
    first = world.repo.commit({"web": [config_map("a", v="1")]})
    async with world:
        await world.in_sync(commit=first)
        await world.rest(100)
        second = world.repo.commit({"web": [config_map("a", v="2")]})
        await world.in_sync(commit=second)
        await world.rest(5)
        found = await history(world)

        assert [each["commit"] for each in found] == [second, first]
        for each in found:
            moments = [datetime.fromisoformat(each[key]) for key in ("admitted", "applied", "in_sync", "healthy")]
            assert moments == sorted(moments)
            assert (each["failed"], each["error"], each["made_from"]) == (None, None, [])
        assert await history(world, 1) == found[:1]


async def test_a_commit_that_touches_other_targets_alone_is_no_line() -> None:
    world = World(["web"])
    first = world.repo.commit({"web": [config_map("a", v="1")], "docs": []})
    async with world:
        await world.in_sync(commit=first)
        await world.rest(5)
        before = dict(kept(world))
        for number in range(5):
            other = world.repo.commit({"web": [config_map("a", v="1")], "docs": [config_map(f"z{number}")]})
            await world.in_sync(commit=other)
            await world.rest(5)

        assert [each["commit"] for each in await history(world)] == [first]
        assert kept(world) == before


async def test_a_revision_that_cannot_be_read_is_a_failed_one_and_is_no_place_to_go_back_to() -> None:
    world = World(["web"])
    good = world.repo.commit({"web": [config_map("a", v="1")]})
    async with world:
        await world.in_sync(commit=good)
        bad = world.repo.commit({"web": BROKEN})
        await world.until(lambda: world.state("web") == "failed")
        await world.rest(5)
        better = world.repo.commit({"web": [config_map("a", v="3")]})
        await world.in_sync(commit=better)
        await world.rest(5)
        found = await history(world)

    assert [each["commit"] for each in found] == [better, bad, good]
    assert found[1]["failed"]
    assert found[1]["error"]
    assert found[1]["in_sync"] is None


async def test_it_survives_the_loss_of_the_disk_and_goes_on() -> None:
    world = World(["web"])
    first = world.repo.commit({"web": [config_map("a", v="1")]})
    async with world:
        await world.in_sync(commit=first)
        await world.rest(5)

    again = World(["web"], clusters=world.clusters, repo=world.repo, store=MemoryStore())
    second = again.repo.commit({"web": [config_map("a", v="2")]})
    async with again:
        await again.in_sync(commit=second)
        await again.rest(5)
        assert [each["commit"] for each in await history(again)] == [second, first]


async def reloaded(world: World, **facts: Any) -> None:
    """The agent file says something else of the target."""
    wanted = replace(world.parts.configuration, targets=(replace(world.parts.targets[0].target, **facts),))
    await world.parts.adopt(wanted)
    world.control.status.configuration = wanted
    world.parts.start()


async def three_revisions(world: World, **last: Any) -> list[str]:
    """The agent file changes before the third one, and what comes of that is the target's."""
    commits = []
    for number in range(3):
        commits.append(world.repo.commit({"web": [config_map("a", v=str(number))]}))
        await world.in_sync(commit=commits[-1])
        await world.rest(5)
        if number == 1:
            await reloaded(world, **last)
    return commits[::-1]


async def test_a_change_of_the_agent_file_costs_nothing_of_it() -> None:
    async with World(["web"]) as world:
        commits = await three_revisions(world, interval=timedelta(minutes=7))

        assert [each["commit"] for each in await history(world)] == commits


async def test_a_renamed_target_goes_on_with_the_history_of_its_old_name() -> None:
    async with World(["web"]) as world:
        commits = await three_revisions(world, name="site", was="web")

        assert [each["commit"] for each in await history(world, name="site")] == commits
        assert list(kept(world)) == [("edge", "site")]


async def test_the_name_of_a_target_that_is_still_there_gives_its_history_to_nobody() -> None:
    world = World(["web", target("site", path="web", was="web", suspend=True)])
    world.repo.commit({"web": [config_map("a", v="1")]})
    async with world:
        await world.in_sync("web")
        await world.rest(5)
        assert await history(world, name="site") == []
        assert await history(world)


async def test_a_restart_without_news_writes_nothing() -> None:
    world = World(["web"])
    first = world.repo.commit({"web": [config_map("a", v="1")]})
    async with world:
        await world.in_sync(commit=first)
        await world.rest(5)
    before = dict(kept(world))

    again = World(["web"], clusters=world.clusters, repo=world.repo, store=world.store)
    async with again:
        await again.in_sync(commit=first)
        await again.rest(3600)

    assert kept(again) == before
    assert before


async def test_what_was_spoilt_by_hand_is_told_and_begins_anew() -> None:
    world = World(["web"])
    first = world.repo.commit({"web": [config_map("a", v="1")]})
    async with world:
        await world.in_sync(commit=first)
        await world.rest(5)
    kept(world)["edge", "web"] = "{not json"

    again = World(["web"], clusters=world.clusters, repo=world.repo, store=world.store)
    async with again:
        answer = await again.control.history("web", None)
        assert answer["targets"][0]["damage"]
        await again.in_sync(commit=first)
        await again.rest(5)
        assert [each["commit"] for each in await history(again)] == [first]


async def test_a_history_that_may_not_be_written_holds_up_nothing() -> None:
    world = World(["web"])
    cluster = next(iter(world.clusters.values()))
    first = world.repo.commit({"web": [config_map("a", v="1")]})
    fault = cluster.fail("save history", lambda: ClusterDenied("no right to update"))
    async with world:
        await world.in_sync(commit=first)
        await world.rest(60)
        assert world.live(map_id("a")) is not None
        assert world.state("web") == "in-sync"
        assert fault.reached.is_set()
        assert not kept(world)
        cluster.faults.remove(fault)
        second = world.repo.commit({"web": [config_map("a", v="2")]})
        await world.in_sync(commit=second)
        await world.rest(5)

    assert kept(world)


async def test_what_is_deleted_has_no_history() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a", v="1")]})
    async with world:
        await world.in_sync()
        await world.rest(5)
        assert kept(world)
        world.control.suspend("web", timedelta(hours=1), "x")
        await world.control.removal.delete("web")

        assert not kept(world)
