"""Clusters that go away, come back, forget, or serve other kinds: said once, and nothing is believed gone too early."""

import asyncio
from datetime import timedelta

import pytest

from gitsyncd.model.answers import ClusterIdentity
from gitsyncd.model.errors import ClusterDenied, ClusterUnreachable, Expired
from gitsyncd.model.ids import ObjectId
from tests.engine.cluster import MemoryApi, MemoryCluster, resource
from tests.engine.world import World, config_map, definition, map_id, recolor, target, widget, widget_id


async def test_a_cluster_that_is_down_at_start_is_said_once_and_every_target_looks_when_it_is_back() -> None:
    # given
    world = World(["web", "db"])
    world.repo.commit({"web": [config_map("a")], "db": [config_map("b")]})
    outage = world.cluster.go_down()
    async with world:
        await world.first_turns
        await world.rest(3600)

        # then
        assert len(world.events("cluster unreachable")) == 1
        assert {world.state("web"), world.state("db")} == {"unknown"}
        assert world.events("target failed") == []
        assert len(world.cluster.calls) < 250

        # when
        outage.over()
        await world.in_sync()

        # then
        assert len(world.events("cluster recovered")) == 1


async def test_a_cluster_that_goes_down_later_is_said_once_and_what_happened_meanwhile_is_found() -> None:
    # given
    world = World([target("web", interval=timedelta(hours=10))])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    async with world:
        await world.in_sync()

        # when
        outage = world.cluster.go_down()
        await world.rest(600)
        world.cluster.edit(map_id("a"), recolor("red"))
        world.cluster.remove(map_id("b"))
        outage.over()
        await world.until(lambda: world.live(map_id("b")), within=120)
        await world.in_sync()

        # then
        assert len(world.events("cluster unreachable")) == 1
        assert len(world.events("cluster recovered")) == 1
        assert (world.live(map_id("a")) or {})["data"] == {"color": "blue"}
        assert sorted(line["kind"] for line in world.events("drift reverted")) == ["changed", "deleted"]


async def test_one_cluster_that_is_down_leaves_the_others_alone() -> None:
    # given
    clusters = {"c1": MemoryCluster(uid="one"), "c2": MemoryCluster(uid="two")}
    world = World([target("web"), target("web", cluster="c2")], clusters=clusters)
    world.repo.commit({"web": [config_map("a")]})
    clusters["c2"].go_down()

    # when
    async with world:
        await world.in_sync("web@c1")
        second = world.repo.commit({"web": [config_map("a", v="2")]})

        # then
        await world.in_sync("web@c1", commit=second)
        assert world.state("web@c2") == "unknown"


async def test_a_failure_that_a_recovery_has_overtaken_is_no_news() -> None:
    """Two watches break and each asks who answers now; the later answer is from before the cluster came back."""
    # given
    world = World([target("web", interval=timedelta(hours=10))])
    world.repo.commit({"web": [config_map("a"), definition()]})
    async with world:
        await world.in_sync()
        await world.rest(5)

        # when
        late = world.cluster.hold("identity")
        late.error = lambda: ClusterUnreachable("no connection")
        world.cluster.break_watches(lambda: ClusterUnreachable("broken"))
        await world.until(lambda: world.events("cluster recovered"), within=60)
        late.over()
        second = world.repo.commit({"web": [config_map("a", v="2"), definition()]})
        await world.in_sync(commit=second)
        await world.rest(600)

        # then
        assert len(world.events("cluster unreachable")) == len(world.events("cluster recovered")) == 1
        world.cluster.edit(map_id("a"), recolor("red"))
        await world.until(lambda: len(world.events("drift reverted")) == 1, within=5)


@pytest.mark.parametrize("how", ["ended", "broken", "expired"])
async def test_whatever_ends_a_watch_changes_in_the_gap_are_noticed(how: str) -> None:
    # given
    world = World([target("web", interval=timedelta(hours=10))])
    world.repo.commit({"web": [config_map("a"), config_map("b"), config_map("c")]})
    async with world:
        await world.in_sync()
        await world.rest(5)

        # when
        pause = world.cluster.hold("watch")
        world.cluster.break_watches(None if how == "ended" else lambda: ClusterUnreachable("broken"))
        await pause.reached.wait()
        world.cluster.edit(map_id("a"), recolor("red"))
        world.cluster.remove(map_id("b"))
        if how == "expired":
            world.cluster.compact()
        pause.over()
        await world.until(lambda: len(world.events("drift reverted")) == 2, within=60)

        # then
        assert (world.live(map_id("a")) or {})["data"] == {"color": "blue"}
        assert world.live(map_id("b")) is not None
        world.cluster.edit(map_id("c"), recolor("red"))
        await world.until(lambda: len(world.events("drift reverted")) == 3, within=5)


async def test_a_cluster_that_comes_back_between_being_asked_and_being_watched_is_said_to_have_recovered() -> None:
    # given
    world = World([target("web", interval=timedelta(hours=10))])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        await world.rest(5)

        # when: a watch breaks, the cluster says nonsense when asked who it is, and is well from then on
        world.cluster.fail("identity", lambda: ClusterUnreachable("not JSON"), times=1)
        world.cluster.break_watches(lambda: ClusterUnreachable("broken"))
        await world.until(lambda: world.events("cluster recovered"), within=60)

        # then
        second = world.repo.commit({"web": [config_map("a", v="2")]})
        await world.in_sync(commit=second)
        assert len(world.events("cluster unreachable")) == 1


@pytest.mark.parametrize(
    "error",
    [None, lambda: Expired("too old"), lambda: ClusterUnreachable("no"), lambda: ClusterDenied("not any more")],
    ids=["returns", "expired", "unreachable", "denied"],
)
async def test_a_watch_that_ends_as_soon_as_it_began_never_spins(error: type[Exception] | None) -> None:
    # given
    world = World([target("web", interval=timedelta(hours=10))])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        await world.rest(5)
        before = len(world.cluster.calls)

        # when: every watch of the next ten minutes ends at once
        if error is None:
            world.cluster.quick_watches = True
        else:
            world.cluster.fail("watch", error)
        world.cluster.break_watches()
        await world.rest(600)

        # then
        assert len(world.cluster.calls) - before < 100


async def test_a_version_that_is_heard_of_while_the_cluster_is_asked_for_its_own_is_no_restore(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given: a broken watch has the cluster asked who it is, and the answer takes its time
    world = World([target("web", interval=timedelta(hours=10))])
    world.repo.commit({"web": [config_map("a"), widget("w"), definition()]})
    async with world:
        await world.in_sync()
        await world.rest(5)
        answered, arrives = asyncio.Event(), asyncio.Event()
        ask = MemoryApi.identity

        async def slow(api: MemoryApi) -> ClusterIdentity:
            answer = await ask(api)
            answered.set()
            await arrives.wait()
            return answer

        monkeypatch.setattr(MemoryApi, "identity", slow)
        for watch in world.cluster.watches:
            if watch.type.kind == "Widget":
                watch.queue.put_nowait(ClusterUnreachable("broken"))
        await answered.wait()

        # when
        world.cluster.edit(map_id("a"), recolor("red"))
        await world.rest(1)
        arrives.set()
        await world.until(lambda: world.events("cluster recovered"), within=60)

        # then
        assert world.events("cluster changed") == []
        await world.in_sync()


async def test_a_label_that_somebody_removes_is_put_back_and_the_object_is_not_believed_gone() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        uid = (world.live(map_id("a")) or {})["metadata"]["uid"]

        # when
        world.cluster.edit(map_id("a"), lambda live: live["metadata"]["labels"].clear())
        await world.until(lambda: world.events("drift reverted"), within=5)

        # then
        live = world.live(map_id("a")) or {}
        assert live["metadata"]["labels"] == {"gitsyncd.dev/agent": "edge"}
        assert live["metadata"]["uid"] == uid
        assert world.events("drift reverted")[0]["kind"] == "changed"


async def test_another_cluster_behind_the_same_address_is_written_nothing() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()

    # when
    other = MemoryCluster(uid="kube-system-of-another")
    again = World(["web"], clusters={"c1": other}, repo=world.repo, store=world.store)
    async with again:
        await again.rest(600)

        # then
        assert len(again.events("cluster changed")) == 1
        assert other.count()["apply"] == other.count()["save"] == 0


# --- Kinds -----------------------------------------------------------------------------------------------------------


async def test_a_kind_and_an_object_of_it_may_come_in_one_commit() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [widget("w"), definition()]})

    # when
    async with world:
        await world.in_sync()

        # then
        assert world.live(widget_id("w")) is not None
        assert world.events("object failed", "target failed") == []
        kinds = {watch.type.kind for watch in world.cluster.watches}
        await world.until(lambda: "Widget" in {watch.type.kind for watch in world.cluster.watches}, within=5)
        assert "CustomResourceDefinition" in kinds


async def test_a_kind_that_nobody_defines_fails_its_objects_alone_until_somebody_does() -> None:
    # given
    world = World([target("web", retry_interval=timedelta(seconds=30))])
    world.repo.commit({"web": [widget("w"), config_map("a")]})
    async with world:
        await world.until(lambda: world.state("web") == "failed")
        assert world.live(map_id("a")) is not None
        assert [line["object"] for line in world.events("object failed")] == ["Widget.example.com/default/w"]

        # when
        world.cluster.put(definition())

        # then
        await world.in_sync()
        assert world.live(widget_id("w")) is not None


async def test_objects_of_a_kind_whose_definition_was_deleted_are_let_go() -> None:
    # given: the definition is somebody else's, the object is ours
    world = World([target("web", interval=timedelta(minutes=10))])
    world.cluster.served_after_s = 0
    world.cluster.put(definition())
    world.repo.commit({"web": [widget("w"), config_map("a")]})
    async with world:
        await world.in_sync()

        # when: it goes, and then its objects leave Git
        world.cluster.remove(
            ObjectId(
                group="apiextensions.k8s.io", kind="CustomResourceDefinition", namespace="", name="widgets.example.com"
            )
        )
        second = world.repo.commit({"web": [config_map("a")]})
        await world.in_sync(commit=second)

        # then
        (line,) = world.events("object released")
        assert (line["object"], line["reason"]) == ("Widget.example.com/default/w", "gone already")
        assert set(world.cluster.inventories["edge", "web"][0].entries) == {map_id("a")}


async def test_objects_of_a_kind_whose_api_does_not_answer_are_kept_on_record_until_it_does() -> None:
    # given
    world = World([target("web", retry_interval=timedelta(seconds=30))])
    gadgets = resource("metrics.example.com/v1", "Gadget")
    world.cluster.kinds[gadgets.type] = gadgets
    gadget = widget("g", kind="Gadget", group="metrics.example.com")
    world.repo.commit({"web": [gadget, config_map("a")]})
    async with world:
        await world.in_sync()

    # when: its API goes down, its object leaves Git, and the daemon starts anew
    world.cluster.stale.add("metrics.example.com")
    second = world.repo.commit({"web": [config_map("a")]})
    again = World(world.targets, clusters=world.clusters, repo=world.repo, store=world.store)
    async with again:
        await again.until(lambda: again.state("web") == "failed")
        await again.rest(600)

        # then
        gadget_id = widget_id("g", kind="Gadget", group="metrics.example.com")
        assert again.events("object released", "object pruned") == []
        assert gadget_id in again.cluster.inventories["edge", "web"][0].entries
        assert len(again.events("object failed")) == 1

        # when
        again.cluster.stale.clear()
        await again.in_sync(commit=second)

        # then
        assert gadget_id not in again.cluster.objects
        assert [line["object"] for line in again.events("object pruned")] == [str(gadget_id)]


async def test_objects_of_a_kind_that_is_announced_and_not_served_yet_are_kept_on_record() -> None:
    # given: a server that has just started and does not serve its definitions yet
    world = World([target("web", retry_interval=timedelta(seconds=30))])
    world.cluster.served_after_s = 0
    world.cluster.put(definition())
    world.repo.commit({"web": [widget("w"), config_map("a")]})
    async with world:
        await world.in_sync()
    kinds = dict(world.cluster.kinds)
    world.cluster.kinds = {kind: found for kind, found in kinds.items() if kind.kind != "Widget"}

    # when
    second = world.repo.commit({"web": [config_map("a")]})
    again = World(world.targets, clusters=world.clusters, repo=world.repo, store=world.store)
    async with again:
        await again.until(lambda: again.state("web") == "failed")
        assert again.events("object released") == []

        # then
        again.cluster.kinds = kinds
        await again.in_sync(commit=second)
        assert again.live(widget_id("w")) is None
