"""Turns: one at a time per target, as few as needed, each from the newest commit."""

import asyncio
from collections import Counter

from gitsyncd.model.errors import ClusterUnreachable, RendererTimedOut
from tests.engine.cluster import Fault
from tests.engine.world import World, config_map, map_id, recolor


async def test_what_git_says_is_on_the_cluster_after_the_first_turn() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})

    # when
    async with world:
        await world.in_sync()

    # then
    live = world.live(map_id("a"))
    assert live is not None
    assert live["data"] == {"color": "blue"}
    assert live["metadata"]["labels"] == {"gitsyncd.dev/agent": "edge"}
    assert len(world.events("object applied", operation="created")) == 2
    assert len(world.events("target in sync", target="web@c1", objects=2)) == 1
    assert set(world.cluster.inventories["edge", "web"][0].entries) == {map_id("a"), map_id("b")}


async def test_half_an_hour_in_which_nothing_happens_costs_polls_of_the_remote_and_nothing_else() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    async with world:
        await world.in_sync()
        await world.rest(1)
        before, polls = len(world.cluster.calls), world.repo.asked["update"]

        # when
        await world.rest(30 * 60)

        # then
        assert [call.method for call in world.cluster.calls[before:]] == []
        assert world.repo.asked["update"] - polls == 60
        assert world.renderer.renders == 1


async def test_a_commit_that_changes_nothing_of_a_target_makes_no_request() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")], "docs": []})
    async with world:
        await world.settled()
        before = len(world.cluster.calls)

        # when
        second = world.repo.commit({"web": [config_map("a")], "docs": [config_map("z")]})
        await world.in_sync(commit=second)
        await world.settled()

        # then
        assert world.cluster.calls[before:] == []


async def test_a_revert_costs_one_apply_and_the_record_of_it() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map(f"m{number}") for number in range(20)]})
    async with world:
        await world.in_sync()
        before = len(world.cluster.calls)

        # when
        world.cluster.edit(map_id("m7"), recolor("red"))
        await world.until(lambda: world.events("drift reverted"))
        await world.rest(60)

        # then
        assert [call.method for call in world.cluster.calls[before:]] == ["apply"]
        (line,) = world.events("drift reverted")
        assert (line["object"], line["kind"], line["manager"], line["writer"], line["fields"]) == (
            "ConfigMap/default/m7",
            "changed",
            "kubectl-edit",
            "person",
            [".data.color"],
        )


async def test_a_bell_that_is_rung_often_during_a_turn_causes_one_further_turn() -> None:
    # given: a turn that is held up in the middle
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    gate = world.cluster.hold("apply", name="a")
    async with world:
        await gate.reached.wait()
        loop = world.loop("web")
        before = loop.finished

        # when
        for _ in range(100):
            loop.bell.ring()
        gate.over()
        await world.in_sync()
        await world.rest(5)

        # then
        assert loop.finished - before == 2


async def test_two_turns_of_one_target_never_overlap() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    gate = world.cluster.hold("apply", name="a")
    async with world:
        await gate.reached.wait()
        before = world.loop("web").finished

        # when: everything asks for a turn while one is under way
        world.loop("web").bell.ring()
        await asyncio.wait_for(world.control.sync(["web"], wait=False), 5)
        await world.rest(20)

        # then
        assert [call.name for call in world.cluster.calls if call.method == "apply"].count("a") == 1
        assert world.loop("web").finished == before
        gate.over()
        await world.in_sync()


async def test_a_newer_commit_ends_the_turn_at_the_next_object_and_is_applied_at_once() -> None:
    # given: four requests in flight of a commit with twelve objects
    world = World(["web"])
    names = [f"m{number:02}" for number in range(12)]
    world.repo.commit({"web": [config_map(name, v="1") for name in names]})
    gates = [world.cluster.hold("apply", name=name) for name in names[:4]]
    async with world:
        await asyncio.gather(*(gate.reached.wait() for gate in gates))

        # when
        second = world.repo.commit({"web": [config_map(name, v="2") for name in names]})
        await world.until(lambda: len(world.events("source updated")) == 2)
        begun = asyncio.get_running_loop().time()
        for gate in gates:
            gate.over()
        await world.in_sync(commit=second)

        # then: what was begun is finished and recorded, the rest is only ever applied from the newer commit
        assert asyncio.get_running_loop().time() - begun < 1
        applied = [call.name for call in world.cluster.calls if call.method == "apply"]
        assert sorted(applied) == sorted(names[:4] + names)
        assert all((world.live(map_id(name)) or {})["data"] == {"v": "2"} for name in names)
        assert len(world.events("target in sync")) == 1


async def test_stopping_finishes_the_objects_in_flight_and_records_them() -> None:
    # given
    world = World(["web"])
    names = [f"m{number:02}" for number in range(12)]
    world.repo.commit({"web": [config_map(name) for name in names]})
    gates = [world.cluster.hold("apply", name=name) for name in names[:4]]
    async with world:
        await asyncio.gather(*(gate.reached.wait() for gate in gates))

        # when
        stopping = asyncio.create_task(world.parts.finish(within_s=10))
        await world.rest(1)
        for gate in gates:
            gate.over()
        await stopping

    # then
    recorded = world.cluster.inventories["edge", "web"][0].entries
    assert sum(entry.state == "live" for entry in recorded.values()) == 4
    assert sum(entry.state == "pending" for entry in recorded.values()) == 8
    assert world.cluster.count()["apply"] == 4


async def test_the_daemon_is_ready_once_when_every_target_had_its_first_turn_or_failed_it() -> None:
    # given
    world = World(["web", "bad"])
    world.repo.commit({"web": [config_map("a")], "bad": "broken"})

    # when
    async with world:
        await world.first_turns
        await world.rest(3600)

    # then
    assert len(world.events("daemon ready")) == 1
    assert world.events("daemon ready")[0]["clock"] < 30


async def test_after_a_restart_what_is_recorded_is_listed_once_and_while_git_is_read() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    async with world:
        await world.in_sync()
    before = len(world.cluster.calls)

    # when
    again = World(["web"], clusters=world.clusters, repo=world.repo, store=world.store)
    again.renderer.go.clear()
    async with again:
        await again.until(lambda: any(call.method == "list" for call in world.cluster.calls[before:]))
        assert again.state("web") == "syncing"
        again.renderer.go.set()
        await again.in_sync()

    # then
    methods = Counter(call.method for call in world.cluster.calls[before:])
    assert methods["list"] == 1
    assert methods["apply"] == methods["delete"] == 0


async def test_a_look_ahead_that_fails_is_made_again_when_git_is_read() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
    again = World(["web"], clusters=world.clusters, repo=world.repo, store=world.store)
    again.renderer.go.clear()
    fault = Fault("list", lambda: ClusterUnreachable("gone for a moment", subject="cluster c1"))
    again.cluster.faults.append(fault)

    # when
    async with again:
        await asyncio.wait_for(fault.reached.wait(), 60)
        fault.over()
        again.renderer.go.set()

        # then
        await again.in_sync()
        assert again.events("target failed", "cluster unreachable") == []


async def test_git_is_rendered_while_a_cluster_has_not_answered_yet_and_not_once_more() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    silence = Fault("identity", gate=asyncio.Event())
    world.cluster.faults.append(silence)

    async with world:
        # when
        await world.until(lambda: world.renderer.renders == 1)
        assert world.cluster.count()["list"] == 0
        silence.over()

        # then
        await world.in_sync()
        assert world.renderer.renders == 1
        assert world.repo.asked["snapshot"] == 1


async def test_what_was_rendered_before_a_newer_commit_came_is_not_applied() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a", color="red")]})
    silence = Fault("identity", gate=asyncio.Event())
    world.cluster.faults.append(silence)

    async with world:
        await world.until(lambda: world.renderer.renders == 1)

        # when
        world.repo.commit({"web": [config_map("a", color="blue")]})
        await world.until(lambda: world.renderer.renders == 2)
        silence.over()

        # then
        await world.in_sync()
        assert (world.live(map_id("a")) or {})["data"] == {"color": "blue"}
        assert world.cluster.count()["apply"] == 1


async def test_a_rendering_ahead_that_fails_is_told_by_the_turn_and_tried_again() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    world.renderer.fault = lambda _: RendererTimedOut("too slow", file="web/all.json")
    silence = Fault("identity", gate=asyncio.Event())
    world.cluster.faults.append(silence)

    async with world:
        await world.until(lambda: world.renderer.renders == 1)
        assert world.events("render failed") == []

        # when
        silence.over()
        await world.until(lambda: bool(world.events("render failed")))
        world.renderer.fault = lambda _: None

        # then
        await world.in_sync()
