"""What fails is tried again with patience, is said once, and harms nobody else."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from gitsyncd.edges.store import MemoryStore
from gitsyncd.model.errors import ClusterDenied, GitsyncdError, LocalError, Rejected, SourceTooLarge, Throttled
from tests.engine.mirror import BROKEN
from tests.engine.world import World, config_map, map_id, recolor, source, target


async def test_a_failing_target_waits_twice_as_long_each_time_up_to_its_interval() -> None:
    # given
    world = World([target("web", retry_interval=timedelta(seconds=30), interval=timedelta(minutes=10))])
    world.repo.commit({"web": [config_map("a")]})
    world.cluster.fail("apply", lambda: Rejected("no"), name="a")

    # when
    async with world:
        await world.rest(3600)

    # then
    times = [call.at for call in world.cluster.calls if call.method == "apply"]
    assert [round(after - before) for before, after in pairwise(times)][:7] == [30, 60, 120, 240, 480, 600, 600]
    assert [line["retry_s"] for line in world.events("target failed")][:6] == [30, 60, 120, 240, 480, 600]


async def test_a_failure_is_said_once_and_its_end_too() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    fault = world.cluster.fail("apply", lambda: Rejected("not like this"), name="a")
    async with world:
        await world.rest(300)
        failed = world.events("object failed")

        # when
        fault.over()
        await world.in_sync()

        # then
        assert [(line["object"], line["error"], line["remedy"]) for line in failed] == [
            ("ConfigMap/default/a", "not like this", "fix-repo")
        ]
        assert world.live(map_id("b")) is not None
        assert len(world.events("target in sync")) == 1


async def test_an_object_that_fails_does_not_keep_drift_of_the_others_from_being_reverted_at_once() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    world.cluster.fail("apply", lambda: Rejected("no"), name="a")
    async with world:
        await world.until(lambda: world.state("web") == "failed")

        # when
        begun = asyncio.get_running_loop().time()
        world.cluster.edit(map_id("b"), recolor("red"))
        await world.until(lambda: world.events("drift reverted"))

        # then
        assert asyncio.get_running_loop().time() - begun < 1
        assert world.state("web") == "failed"
        assert [problem["object"] for problem in world.control.status.of()["targets"][0]["problems"]] == [
            "ConfigMap/default/a"
        ]


async def test_a_bug_met_in_one_target_is_told_without_values_and_stops_no_other() -> None:
    # given
    world = World(["web", "db"])
    world.repo.commit({"web": [config_map("a")], "db": [config_map("b")]})
    world.renderer.fault = lambda snapshot: KeyError("s3cret") if snapshot.path == "web" else None

    # when
    async with world:
        await world.in_sync("db")
        await world.rest(1)

        # then
        assert world.state("web") == "failed"
        (line,) = world.events("target failed")[:1]
        assert line["target"] == "web@c1"
        assert "internal error: KeyError" in line["error"]
        assert "s3cret" not in str(world.log.lines)


async def test_a_bug_met_at_one_object_hides_no_other_object() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    world.cluster.fail("apply", lambda: KeyError("s3cret"), name="a")

    # when
    async with world:
        await world.until(lambda: world.state("web") == "failed")

    # then
    assert world.live(map_id("b")) is not None
    (line,) = world.events("object failed")
    assert line["object"] == "ConfigMap/default/a"
    assert "s3cret" not in str(world.log.lines)


async def test_a_tree_that_cannot_be_read_changes_nothing_and_is_not_read_again_before_the_next_commit() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    async with world:
        await world.in_sync()
        applied = world.cluster.count()["apply"]

        # when
        world.repo.commit({"web": BROKEN})
        await world.until(lambda: world.state("web") == "failed")
        renders = world.renderer.renders
        await world.rest(500)

        # then
        assert world.renderer.renders == renders
        assert world.cluster.count()["apply"] == applied
        assert world.live(map_id("b")) is not None
        (line,) = world.events("render failed")
        assert (line["file"], line["line"], line["error"]) == ("web/all.json", 1, "this is no manifest")

        # when: the next commit is good again
        good = world.repo.commit({"web": [config_map("a"), config_map("b")]})
        await world.in_sync(commit=good)


async def test_a_server_that_asks_for_time_is_given_it() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    world.cluster.fail("apply", lambda: Throttled("slow down", retry_after_s=200), name="a", times=1)

    # when
    async with world:
        await world.in_sync()

    # then
    first, second = (call.at for call in world.cluster.calls if call.method == "apply")
    assert second - first >= 200


async def test_a_kind_that_may_not_be_listed_fails_its_objects_and_no_others() -> None:
    # given
    world = World(["web"])
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}}
    world.repo.commit({"web": [config_map("a"), secret]})
    world.cluster.fail("list", lambda: ClusterDenied("you may not"), kind="Secret")
    world.cluster.fail("list in namespace", lambda: ClusterDenied("you may not"), kind="Secret")

    # when
    async with world:
        await world.until(lambda: world.state("web") == "failed")

    # then
    assert world.live(map_id("a")) is not None
    assert [line["object"] for line in world.events("object failed")] == ["Secret/default/s"]


async def test_a_kind_that_may_be_listed_in_its_namespaces_only_is_watched_there() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    world.cluster.fail("list", lambda: ClusterDenied("not over all namespaces"), kind="ConfigMap")

    # when
    async with world:
        await world.in_sync()
        world.cluster.edit(map_id("a"), recolor("red"))
        await world.until(lambda: world.events("drift reverted"), within=60)

        # then
        assert [watch.namespace for watch in world.cluster.watches] == ["default"]


async def test_an_error_that_lasts_never_turns_into_a_hot_loop() -> None:
    # given: whatever fails, whoever rings
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    methods = ("list", "watch", "apply", "save", "read")

    # when
    async with world:
        await world.in_sync()
        for method in methods:
            before = len(world.cluster.calls)
            fault = world.cluster.fail(method, lambda: GitsyncdError("an error of no special class"))
            world.repo.commit({"web": [config_map("a", v=method)]})
            world.cluster.break_watches()
            await world.rest(600)
            fault.over()

            # then
            assert len(world.cluster.calls) - before < 200, method


@pytest.mark.parametrize("bad", ["big", "main"])
async def test_a_branch_that_is_too_large_blocks_no_other_branch_of_its_repository(bad: str) -> None:
    # given
    world = World([target("web"), target("big", source=source(branch="big"))])
    world.repo.commit({"web": [config_map("a")]})
    world.repo.commit({"big": [config_map("b")]}, branch="big")
    world.repo.fault = lambda branches: SourceTooLarge("a file above its cap") if bad in branches else None
    good = "web" if bad == "big" else "big"

    # when
    async with world:
        await world.in_sync(good)
        asked = world.repo.asked["update"]
        await world.rest(3600)

        # then
        assert world.state("big" if bad == "big" else "web") == "unknown"
        assert len(world.events("source unreachable")) == 1
        states = {status["branch"]: status["state"] for status in world.control.status.of()["sources"]}
        assert states == {"big": "ready", "main": "ready"} | {bad: "unreachable"}
        assert world.repo.asked["update"] - asked < 120 + 60, "what is too large is fetched less and less often"


async def test_a_turn_that_is_not_over_in_time_says_so_keeps_what_it_did_and_goes_on_later() -> None:
    # given: a server that takes a minute for each request, four at a time
    world = World([target("web", timeout=timedelta(minutes=5))])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        world.cluster.latency_s = 60

        # when
        second = world.repo.commit({"web": [config_map(f"m{number:02}") for number in range(40)]})
        await world.until(lambda: world.events("target failed"))

        # then
        (line,) = world.events("target failed")
        assert "was not over within" in line["error"]
        assert line["retry_s"] == 30
        assert 0 < len(world.events("object applied")) < 40

        # when
        await world.in_sync(commit=second)

        # then
        applied = [line["object"] for line in world.events("object applied")]
        assert len(applied) == len(set(applied)) == 41


async def test_a_right_to_watch_that_is_taken_away_is_no_outage_and_names_the_objects() -> None:
    # given
    world = World([target("web", retry_interval=timedelta(seconds=30))])
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}}
    world.repo.commit({"web": [config_map("a"), secret]})
    async with world:
        await world.in_sync()

        # when
        faults = [
            world.cluster.fail(method, lambda: ClusterDenied("you may not"), kind="Secret")
            for method in ("list", "watch", "list in namespace")
        ]
        world.cluster.break_watches()
        await world.until(lambda: world.state("web") == "failed", within=120)

        # then
        assert world.events("cluster unreachable") == []
        assert [line["object"] for line in world.events("object failed")] == ["Secret/default/s"]
        assert world.events("object pruned", "object released") == []

        # when
        for fault in faults:
            fault.over()
        await world.in_sync()


class FullDisk(MemoryStore):
    """What the agent's machine answers when nothing more can be written."""

    def save(self, name: str, value: Mapping[str, Any]) -> None:
        raise LocalError(f"{name} cannot be written: no space left on device")


async def test_a_full_disk_keeps_no_commit_from_being_applied_and_no_drift_from_being_reverted() -> None:
    # given
    world = World(["web"], store=FullDisk())
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()

        # when
        second = world.repo.commit({"web": [config_map("a", v="2")]})
        await world.in_sync(commit=second)
        world.cluster.remove(map_id("a"))
        await world.until(lambda: world.live(map_id("a")), within=5)

        # then: it is told
        assert "no space left" in world.events("source unreachable")[0]["error"]
        with pytest.raises(LocalError):
            world.control.suspend("web", timedelta(hours=1), "a rehearsal")
        await world.until(lambda: world.state("web") == "suspended", within=5)
