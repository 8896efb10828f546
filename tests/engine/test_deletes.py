"""Deletes: only what is ours, never too many, never before everybody has said what they want."""

import asyncio
from datetime import timedelta

import pytest

from gitsyncd.model.errors import Rejected, UsageError
from gitsyncd.model.target import Policy, PrunePolicy
from tests.engine.mirror import BROKEN
from tests.engine.world import World, config_map, definition, map_id, namespace, target, widget, widget_id

MANY = [config_map(f"m{number:02}") for number in range(20)]


async def test_what_left_git_leaves_the_cluster_and_the_record() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    async with world:
        await world.in_sync()

        # when
        second = world.repo.commit({"web": [config_map("a")]})
        await world.in_sync(commit=second)

        # then
        assert world.live(map_id("b")) is None
        assert set(world.cluster.inventories["edge", "web"][0].entries) == {map_id("a")}
        assert [line["object"] for line in world.events("object pruned")] == ["ConfigMap/default/b"]


async def test_a_refused_plan_is_said_once_creates_and_heals_meanwhile_and_passes_when_it_is_approved() -> None:
    # given
    world = World([target("web", interval=timedelta(minutes=10))])
    world.repo.commit({"web": MANY})
    async with world:
        await world.in_sync()

        # when
        second = world.repo.commit({"web": [*MANY[:5], config_map("new")]})
        await world.until(lambda: world.state("web") == "refused")
        world.cluster.remove(map_id("m01"))
        await world.until(lambda: world.live(map_id("m01")), within=5)
        await world.rest(3 * 3600)

        # then
        (line,) = world.events("plan refused")
        assert (line["prune"], line["limit"]) == (15, 10)
        assert world.live(map_id("new")) is not None
        assert world.live(map_id("m19")) is not None
        status = world.control.status.of()["targets"][0]
        assert status["state"] == "refused"
        assert status["plan"] == line["plan"]
        assert [problem["remedy"] for problem in status["problems"]] == ["approve"]

        # when
        with pytest.raises(UsageError):
            world.control.approve_plan("web", "0" * 32)
        world.control.approve_plan("web", line["plan"])
        await world.in_sync(commit=second)

        # then
        assert world.live(map_id("m19")) is None
        assert len(world.events("object pruned")) == 15


async def test_an_empty_tree_deletes_nothing() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()

        world.repo.commit({"web": []})
        await world.until(lambda: world.state("web") == "refused")

        assert world.live(map_id("a")) is not None


async def test_a_commit_may_carry_its_own_approval() -> None:
    world = World(["web"])
    world.repo.commit({"web": MANY})
    async with world:
        await world.in_sync()

        second = world.repo.commit({"web": MANY[:5]}, trailers=("web@c1 prune=15",))
        await world.in_sync(commit=second)

        assert len(world.events("object pruned")) == 15


async def test_a_delete_that_a_finalizer_holds_is_not_done_until_the_object_is_gone() -> None:
    # given
    world = World([target("web", interval=timedelta(minutes=10))])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    async with world:
        await world.in_sync()
        world.cluster.edit(
            map_id("b"), lambda live: live["metadata"].update(finalizers=["example.com/hold"]), manager="holder"
        )
        await world.rest(5)

        # when
        world.repo.commit({"web": [config_map("a")]})
        await world.until(lambda: (world.live(map_id("b")) or {})["metadata"].get("deletionTimestamp"))
        await world.rest(60)

        # then
        assert world.events("object pruned") == []
        assert world.cluster.inventories["edge", "web"][0].entries[map_id("b")].state == "deleting"
        assert world.cluster.count()["delete"] == 1

        # when
        world.cluster.edit(map_id("b"), lambda live: live["metadata"].pop("finalizers"), manager="holder")
        await world.until(lambda: world.events("object pruned"), within=60)

        # then
        assert set(world.cluster.inventories["edge", "web"][0].entries) == {map_id("a")}


async def test_a_delete_that_is_refused_stays_on_record_and_is_tried_again() -> None:
    world = World([target("web", retry_interval=timedelta(seconds=30))])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    async with world:
        await world.in_sync()
        fault = world.cluster.fail("delete", lambda: Rejected("not now"))

        second = world.repo.commit({"web": [config_map("a")]})
        await world.until(lambda: world.state("web") == "failed")
        assert map_id("b") in world.cluster.inventories["edge", "web"][0].entries
        fault.over()
        await world.in_sync(commit=second)

        assert world.live(map_id("b")) is None


# --- Between targets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["web", "db"])
async def test_an_object_that_moves_to_another_target_is_handed_over_whoever_turns_first(first: str) -> None:
    # given
    world = World(["web", "db"])
    world.repo.commit({"web": [config_map("a"), config_map("x")], "db": [config_map("y")]})
    async with world:
        await world.in_sync()
        uid = (world.live(map_id("x")) or {})["metadata"]["uid"]
        gate = world.cluster.hold("save", name="db" if first == "web" else "web")

        # when
        second = world.repo.commit({"web": [config_map("a")], "db": [config_map("y"), config_map("x")]})
        await world.rest(100)
        gate.over()
        await world.in_sync(commit=second)
        await world.until(lambda: map_id("x") not in world.cluster.inventories["edge", "web"][0].entries, within=1200)

        # then
        live = world.live(map_id("x")) or {}
        assert live["metadata"]["uid"] == uid
        assert live["metadata"]["annotations"]["gitsyncd.dev/target"] == "db"
        assert map_id("x") in world.cluster.inventories["edge", "db"][0].entries
        assert world.cluster.count()["delete"] == 0


async def test_nothing_is_deleted_while_a_sibling_cannot_say_what_it_wants() -> None:
    # given
    world = World(["web", "db"])
    world.repo.commit({"web": [config_map("a"), config_map("x")], "db": [config_map("y")]})
    async with world:
        await world.in_sync()

        # when: x moves to a target whose files cannot be read
        broken = world.repo.commit({"web": [config_map("a")], "db": BROKEN})
        await world.until(lambda: world.state("web") == "waiting")
        await world.rest(1800)

        # then
        assert world.live(map_id("x")) is not None
        assert len(world.events("target waiting", target="web@c1")) == 1
        assert world.loop("web").revision is not None
        assert world.loop("web").revision.commit == broken  # type: ignore[union-attr]

        # when: the files are mended, and the object is wanted there
        uid = (world.live(map_id("x")) or {})["metadata"]["uid"]
        mended = world.repo.commit({"web": [config_map("a")], "db": [config_map("y"), config_map("x")]})
        await world.in_sync(commit=mended)

        # then
        assert (world.live(map_id("x")) or {})["metadata"]["uid"] == uid


async def test_deletes_go_on_as_soon_as_the_sibling_has_said_what_it_wants() -> None:
    world = World(["web", "db"])
    world.repo.commit({"web": [config_map("a"), config_map("x")], "db": [config_map("y")]})
    async with world:
        await world.in_sync()
        world.repo.commit({"web": [config_map("a")], "db": BROKEN})
        await world.until(lambda: world.state("web") == "waiting")

        mended = world.repo.commit({"web": [config_map("a")], "db": [config_map("y")]})
        begun = asyncio.get_running_loop().time()
        await world.in_sync(commit=mended)

        assert world.live(map_id("x")) is None
        assert asyncio.get_running_loop().time() - begun < 60


async def test_of_two_targets_that_want_one_object_the_first_keeps_it_without_alternating_writes() -> None:
    # given
    world = World(["web", "db"])
    world.repo.commit({"web": [config_map("x")], "db": [config_map("y")]})
    async with world:
        await world.in_sync()

        # when
        world.repo.commit({"web": [config_map("x")], "db": [config_map("y"), config_map("x", color="red")]})
        await world.until(lambda: world.state("db") == "failed")
        applied = world.cluster.count()["apply"]
        await world.rest(3600)

        # then
        assert world.cluster.count()["apply"] == applied
        assert (world.live(map_id("x")) or {})["data"] == {"color": "blue"}
        assert {world.state("web"), world.state("db")} == {"in-sync", "failed"}
        assert len(world.events("object failed", object="ConfigMap/default/x")) == 1


# --- Order -----------------------------------------------------------------------------------------------------------


async def test_namespaces_and_definitions_come_first_and_go_last() -> None:
    # given
    world = World([target("web", policy=Policy(prune=PrunePolicy(max_percent=100)))])
    world.repo.commit({"web": [config_map("in", namespace="shop"), widget("w"), namespace("shop"), definition()]})
    async with world:
        await world.in_sync()

        # then
        names = [call.name for call in world.cluster.calls if call.method == "apply"]
        assert names.index("shop") < names.index("in")
        assert names.index("widgets.example.com") < names.index("w")

        # when
        world.repo.commit({"web": [config_map("other")]})
        await world.until(lambda: world.state("web") == "refused")
        world.control.approve_plan("web", world.events("plan refused")[-1]["plan"])
        await world.in_sync()

        # then
        names = [call.name for call in world.cluster.calls if call.method == "delete"]
        assert names.index("in") < names.index("shop")
        assert names.index("w") < names.index("widgets.example.com")


async def test_an_object_waits_for_what_it_depends_on_and_fails_with_it() -> None:
    # given
    world = World([target("web", retry_interval=timedelta(seconds=30))])
    needy = config_map("aa-needs-z", annotations={"gitsyncd.dev/depends-on": "ConfigMap/default/z"})
    world.repo.commit({"web": [needy, config_map("z")]})
    fault = world.cluster.fail("apply", lambda: Rejected("no"), name="z")
    async with world:
        await world.until(lambda: world.state("web") == "failed")

        # then
        assert world.live(map_id("aa-needs-z")) is None
        assert (
            "ConfigMap/default/z, which it needs"
            in world.events("object failed", object="ConfigMap/default/aa-needs-z")[0]["error"]
        )

        # when
        fault.over()
        await world.in_sync()

        # then
        names = [call.name for call in world.cluster.calls if call.method == "apply"]
        assert names[-2:] == ["z", "aa-needs-z"]


async def test_delete_takes_all_that_a_suspended_target_owns() -> None:
    world = World(["web", "db"])
    world.repo.commit({"web": MANY, "db": [config_map("y")]})
    async with world:
        await world.in_sync()
        with pytest.raises(UsageError):
            await world.control.removal.delete("web")
        world.control.suspend("web", timedelta(hours=1), "to be deleted")
        await world.until(lambda: world.state("web") == "suspended")

        answer = await world.control.removal.delete("web")

        assert answer == {"deleted": 20, "released": 0, "remaining": []}
        assert ("edge", "web") not in world.cluster.inventories
        assert world.live(map_id("y")) is not None
        await world.rest(600)
        assert world.live(map_id("m00")) is None
        assert world.live(widget_id("none")) is None


async def test_delete_tells_what_it_let_go_from_what_it_deleted() -> None:
    world = World(["web"])
    stays = config_map("stays", annotations={"gitsyncd.dev/prune": "disabled"})
    world.repo.commit({"web": [config_map("goes"), stays]})
    async with world:
        await world.in_sync()
        world.control.suspend("web", timedelta(hours=1), "to be deleted")
        await world.until(lambda: world.state("web") == "suspended")

        answer = await world.control.removal.delete("web")

    assert answer == {"deleted": 1, "released": 1, "remaining": []}
    assert world.live(map_id("stays")) is not None
    assert world.live(map_id("goes")) is None


async def test_delete_touches_no_cluster_while_one_of_them_refuses_it() -> None:
    world = World([target("web", cluster="c1"), target("web", cluster="c2")])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.until(lambda: {world.state("web@c1"), world.state("web@c2")} == {"in-sync"})
        world.control.suspend("web@c1", timedelta(hours=1), "to be deleted")

        with pytest.raises(UsageError, match="web@c2 is in the agent file and not suspended"):
            await world.control.removal.delete("web")

        assert map_id("a") in world.clusters["c1"].objects


async def test_delete_does_not_pass_over_a_cluster_whose_record_nobody_has_read() -> None:
    world = World([target("web", cluster="c1"), target("web", cluster="c2")])
    world.repo.commit({"web": [config_map("a")]})
    world.clusters["c2"].go_down()
    async with world:
        await world.until(lambda: world.state("web@c1") == "in-sync")
        world.control.suspend("web", timedelta(hours=1), "to be deleted")

        with pytest.raises(UsageError, match="cluster c2 has not answered"):
            await world.control.removal.delete("web")

        assert (await world.control.removal.delete("web@c1"))["remaining"] == []
