"""Remotes that are silent, rewound or empty: the admitted commit stays in force."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pytest

from gitsyncd.edges.store import MemoryStore
from gitsyncd.model.errors import SourceUnreachable, UsageError
from gitsyncd.model.source import OnRewind
from tests.engine.mirror import Repo
from tests.engine.virtualtime import VirtualClock
from tests.engine.world import World, config_map, map_id, recolor, source, target


async def test_a_silent_remote_is_said_once_is_asked_with_patience_and_drift_still_heals() -> None:
    # given
    world = World(["web"])
    first = world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()

        # when
        world.repo.fault = lambda _: SourceUnreachable("no route")
        await world.until(lambda: world.events("source unreachable"))
        asked = world.repo.asked["update"]
        await world.rest(3600)
        world.cluster.edit(map_id("a"), recolor("red"))
        await world.until(lambda: world.events("drift reverted"), within=5)

        # then
        assert len(world.events("source unreachable")) == 1
        assert world.repo.asked["update"] - asked < 20
        status = world.control.status.of()
        assert status["targets"][0]["state"] == "in-sync"
        assert status["targets"][0]["admitted"] == f"main@sha1:{first}"
        assert (status["sources"][0]["state"], status["sources"][0]["error"]) == ("unreachable", "no route")

        # when
        world.repo.fault = lambda _: None
        second = world.repo.commit({"web": [config_map("a", color="green")]})
        await world.in_sync(commit=second)

        # then
        (line,) = world.events("source recovered")
        assert line["error"] == "no route"


async def test_a_remote_that_never_answered_leaves_its_targets_unknown_and_the_daemon_ready() -> None:
    # given
    world = World(["web"])
    world.repo.fault = lambda _: SourceUnreachable("no route")

    # when
    async with world:
        await world.first_turns

        # then
        assert world.state("web") == "unknown"
        assert world.control.status.of()["targets"][0]["problems"][0]["error"] == "no route"
        assert world.cluster.count()["apply"] == 0


async def test_a_restart_with_the_remote_out_of_reach_goes_on_with_the_commit_that_was_admitted() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
    world.repo.fault = lambda _: SourceUnreachable("no route")
    world.cluster.edit(map_id("a"), recolor("red"))

    # when
    again = World(["web"], clusters=world.clusters, repo=world.repo, store=world.store)
    async with again:
        await again.in_sync()

    # then
    assert (again.live(map_id("a")) or {})["data"] == {"color": "blue"}


async def test_a_rewound_head_is_held_once_while_drift_heals_and_an_approval_admits_it_once() -> None:
    # given
    world = World(["web"])
    first = world.repo.commit({"web": [config_map("a", v="1")]})
    second = world.repo.commit({"web": [config_map("a", v="2")]})
    async with world:
        await world.in_sync(commit=second)

        # when: history is rewritten
        other = world.repo.commit({"web": [config_map("a", v="other")]}, parent=first)
        await world.until(lambda: world.events("revision held"))
        (source,) = world.control.status.of()["sources"]
        assert source["state"] == "held"
        assert VirtualClock().now() - datetime.fromisoformat(source["since"]) < timedelta(seconds=1)
        await world.rest(3600)
        world.cluster.edit(map_id("a"), recolor("red"))
        await world.until(lambda: world.events("drift reverted", "foreign field"), within=5)

        # then
        (line,) = world.events("revision held")
        assert (line["revision"], line["admitted"]) == (f"main@sha1:{other}", f"main@sha1:{second}")
        assert line["reason"] == "rewound"
        assert world.state("web") == "held"
        assert (world.live(map_id("a")) or {})["data"]["v"] == "2"
        (problem,) = world.control.status.of()["targets"][0]["problems"]
        assert problem["remedy"] == "approve"
        assert problem["hint"].endswith(f"gitsyncd approve fleet --revision {other}")

        # when
        await world.control.approve_revision("fleet", other)
        await world.in_sync(commit=other)

        # then: it is used up
        with pytest.raises(UsageError):
            await world.control.approve_revision("fleet", other)
        world.repo.commit({"web": [config_map("a", v="third")]}, parent=first)
        await world.until(lambda: len(world.events("revision held")) == 2)


async def test_a_source_that_follows_admits_a_rewound_head() -> None:
    world = World([target("web", source=source(on_rewind=OnRewind.FOLLOW))])
    first = world.repo.commit({"web": [config_map("a", v="1")]})
    world.repo.commit({"web": [config_map("a", v="2")]})
    async with world:
        await world.in_sync()

        other = world.repo.commit({"web": [config_map("a", v="other")]}, parent=first)

        await world.in_sync(commit=other)
    assert world.events("revision held") == []


async def test_a_clusters_own_record_holds_a_rewound_head_also_when_the_agents_disk_was_lost() -> None:
    # given
    world = World(["web"])
    first = world.repo.commit({"web": [config_map("a", v="1")]})
    second = world.repo.commit({"web": [config_map("a", v="2")]})
    async with world:
        await world.in_sync(commit=second)

    # when
    world.repo.commit({"web": [config_map("a", v="other")]}, parent=first)
    again = World(["web"], clusters=world.clusters, repo=world.repo, store=MemoryStore())
    async with again:
        await again.until(lambda: again.state("web") == "held")
        await again.rest(600)

        # then
        assert len(again.events("revision held")) == 1
        assert (again.live(map_id("a")) or {})["data"] == {"v": "2"}


async def test_a_branch_that_is_gone_keeps_its_last_commit_and_recovers_by_itself() -> None:
    # given
    world = World(["web"])
    first = world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()

        # when
        del world.repo.heads["main"]
        await world.until(lambda: world.events("source unreachable"))
        world.cluster.remove(map_id("a"))
        await world.until(lambda: world.events("drift reverted"), within=5)

        # then
        assert world.events("source unreachable")[0]["error"].startswith("branch 'main' is not in the repository")
        assert world.live(map_id("a")) is not None

        # when
        world.repo.heads["main"] = first
        await world.until(lambda: world.events("source recovered"), within=600)
        second = world.repo.commit({"web": [config_map("a", v="2")]})
        await world.in_sync(commit=second)


async def test_a_path_that_is_missing_is_an_error_and_never_an_empty_tree() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()

        # when
        world.repo.commit({"elsewhere": [config_map("a")]})
        await world.until(lambda: world.state("web") == "failed")

        # then
        assert world.live(map_id("a")) is not None
        assert world.cluster.count()["delete"] == 0


async def test_one_conversation_serves_every_target_and_branch_of_a_repository() -> None:
    # given
    world = World([*(target(f"t{number}") for number in range(5)), target("next", source=source(branch="next"))])
    world.repo.commit({f"t{number}": [config_map(f"m{number}")] for number in range(5)})
    world.repo.commit({"next": [config_map("n")]}, branch="next")

    # when
    async with world:
        await world.in_sync()
        before = world.repo.asked["update"]
        await world.rest(300)

        # then
        assert world.repo.asked["update"] - before == 10


async def test_sync_asks_the_remote_now() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        second = world.repo.commit({"web": [config_map("a", v="2")]})
        begun = asyncio.get_running_loop().time()

        # when
        answer = await world.control.sync(["web"], wait=True)

        # then
        assert answer["synced"] is True
        assert answer["targets"][0]["revision"] == f"main@sha1:{second}"
        assert asyncio.get_running_loop().time() - begun < 1


async def test_a_rewound_head_is_held_by_the_source_itself_also_while_no_cluster_can_be_asked() -> None:
    # given
    world = World(["web"])
    first = world.repo.commit({"web": [config_map("a", v="1")]})
    second = world.repo.commit({"web": [config_map("a", v="2")]})
    world.cluster.go_down()
    async with world:
        await world.until(lambda: world.events("source updated"))

        # when
        world.repo.commit({"web": [config_map("a", v="other")]}, parent=first)
        await world.until(lambda: world.events("revision held"), within=60)

        # then
        assert world.control.status.of()["sources"][0]["state"] == "held"
        assert world.control.status.of()["targets"][0]["admitted"] == f"main@sha1:{second}"
        assert len(world.events("source updated")) == 1


class SlowRepo(Repo):
    """One that takes its time to say no."""

    async def update(self, branches: Sequence[str]) -> Mapping[str, str | None]:
        await asyncio.sleep(20)
        raise SourceUnreachable("no route")


async def test_a_remote_that_says_no_after_the_cluster_has_answered_does_not_keep_the_daemon_from_being_ready() -> None:
    # given
    world = World(["web"], repo=SlowRepo())

    # when
    async with world:
        await asyncio.wait_for(world.first_turns, 60)

        # then
        assert world.state("web") == "unknown"
        assert world.events("daemon ready")
