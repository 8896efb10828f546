"""A changed agent file in a running daemon: what changed is exchanged, what did not is not touched."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from gitsyncd.edges.config.follow import Follower
from gitsyncd.model.errors import LocalError
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.target import Cluster, Configuration, InCluster
from tests.engine.cluster import MemoryCluster
from tests.engine.world import World, config_map, map_id, source, target


async def take_up(world: World, **changes: Any) -> None:
    """As a reload does."""
    world._configuration = replace(world._configuration, **changes)
    await world.parts.adopt(world._configuration)
    world.parts.start()


def settings(world: World) -> Configuration:
    return world._configuration


def two_targets() -> World:
    world = World(["web", "db"])
    world.repo.commit({"web": [config_map("front")], "db": [config_map("back")], "more": [config_map("extra")]})
    return world


async def test_the_same_file_once_more_touches_nothing() -> None:
    world = two_targets()
    async with world:
        await world.settled()
        parts = (
            list(world.parts.targets),
            dict(world.parts.views),
            list(world.parts.sources),
            dict(world.parts.tracks),
        )
        calls = len(world.cluster.calls)

        await take_up(world)
        await world.rest(3)

        assert (list(world.parts.targets), world.parts.views, world.parts.sources, world.parts.tracks) == parts
        assert len(world.cluster.calls) == calls


async def test_an_added_target_begins_and_its_neighbours_take_no_turn() -> None:
    world = two_targets()
    async with world:
        await world.in_sync()
        turns = {name: world.loop(name).finished for name in ("web", "db")}

        await take_up(world, targets=(*world.targets, target("more")))
        await world.in_sync("more")

        assert world.live(map_id("extra")) is not None
        assert {name: world.loop(name).finished for name in ("web", "db")} == turns


async def test_a_removed_target_leaves_its_objects_and_its_record_and_is_shown_as_unmanaged() -> None:
    world = two_targets()
    async with world:
        await world.in_sync()
        entries = dict(world.cluster.inventories["edge", "db"][0].entries)

        await take_up(world, targets=(world.targets[0],))
        world.cluster.edit(map_id("back"), _painted)
        await world.rest(3600)

        live = world.live(map_id("back"))
        assert live is not None and live["data"] == {"color": "red"}, "nobody looks after it any more"
        assert world.cluster.inventories["edge", "db"][0].entries == entries
        assert world.cluster.count()["delete"] == 0
        states = {row["target"]: row["state"] for row in world.control.status.of()["targets"]}
        assert states == {"web@c1": "in-sync", "db@c1": "unmanaged"}


async def test_a_target_that_comes_back_owns_what_it_owned() -> None:
    world = two_targets()
    async with world:
        await world.in_sync()
        uid = _uid(world, map_id("back"))
        await take_up(world, targets=(world.targets[0],))

        await take_up(world, targets=tuple(world.targets))
        await world.in_sync("db")

        assert _uid(world, map_id("back")) == uid
        assert world.cluster.count()["delete"] == 0


async def test_a_changed_target_works_by_its_new_settings_and_writes_nothing_for_their_sake() -> None:
    world = two_targets()
    async with world:
        await world.in_sync()
        applied, neighbour = world.cluster.count()["apply"], world.loop("db")

        await take_up(world, targets=(replace(world.targets[0], path="more"), world.targets[1]))
        await world.until(lambda: world.live(map_id("extra")))
        await world.in_sync("web")

        assert world.live(map_id("front")) is None, "it left the path, and is within the budget"
        assert world.cluster.count()["apply"] == applied + 1
        assert world.loop("db") is neighbour


async def test_a_new_interval_alone_makes_no_write() -> None:
    world = two_targets()
    async with world:
        await world.in_sync()
        applied = world.cluster.count()["apply"]

        await take_up(world, targets=tuple(replace(item, interval=timedelta(minutes=1)) for item in world.targets))
        await world.in_sync()
        await world.rest(10)

        assert world.cluster.count()["apply"] == applied
        assert {loop.target.interval for loop in world.parts.targets} == {timedelta(minutes=1)}


async def test_an_added_cluster_is_connected_and_a_removed_one_is_let_go_at_once() -> None:
    world = two_targets()
    world.clusters["c2"] = MemoryCluster(uid="uid-2")
    one, two = (Cluster(name=name, connection=InCluster(), parallel=4) for name in ("c1", "c2"))
    async with world:
        await world.in_sync()

        await take_up(world, clusters=(one, two), targets=(*world.targets, target("web", cluster="c2")))
        await world.until(lambda: map_id("front") in world.clusters["c2"].objects)
        assert world.clusters["c2"].leases["edge"].holder == "edge-1"

        await take_up(world, clusters=(one,), targets=tuple(world.targets))
        calls = len(world.clusters["c2"].calls)
        await world.rest(600)

        assert world.clusters["c2"].leases["edge"].holder == ""
        assert len(world.clusters["c2"].calls) == calls
        assert world.clusters["c2"].watches == set()
        assert map_id("front") in world.clusters["c2"].objects


async def test_a_changed_cluster_is_connected_afresh_and_the_others_are_not() -> None:
    clusters = {"c1": MemoryCluster(uid="uid-1"), "c2": MemoryCluster(uid="uid-2")}
    world = World([target("web"), target("web", cluster="c2")], clusters=clusters)
    world.repo.commit({"web": [config_map("front")]})
    async with world:
        await world.settled()
        views = dict(world.parts.views)
        calls = len(clusters["c1"].calls)

        first, second = settings(world).clusters
        await take_up(world, clusters=(first, replace(second, parallel=2)))
        await world.until(lambda: world.parts.views["c2"].resources)
        await world.in_sync()

        assert world.parts.views["c1"] is views["c1"]
        assert world.parts.views["c2"] is not views["c2"]
        assert len(clusters["c1"].calls) == calls
        assert clusters["c2"].count()["apply"] == 1


async def test_another_branch_is_followed_and_the_old_one_is_asked_for_no_more() -> None:
    world = World(["web"])
    first = world.repo.commit({"web": [config_map("front", color="blue")]})
    world.repo.commit({"web": [config_map("front", color="green")]}, branch="next", parent=first)
    async with world:
        await world.in_sync()

        moved = replace(world.targets[0], source=source(branch="next"))
        await take_up(world, sources=(source(branch="next"),), targets=(moved,))
        await world.until(lambda: _color(world) == "green")

        assert list(world.parts.tracks) == [("fleet", "next")]
        assert len(world.parts.sources) == 1


async def test_a_renamed_target_takes_over_what_the_old_name_owned_and_prunes_what_left_git() -> None:
    world = two_targets()
    world.repo.commit({"web": [config_map("front"), config_map("leaves")], "db": [config_map("back")]})
    async with world:
        await world.in_sync()
        uid = _uid(world, map_id("front"))
        world.repo.commit({"web": [config_map("front")], "db": [config_map("back")]})

        renamed = replace(world.targets[0], name="site", was="web")
        await take_up(world, targets=(renamed, world.targets[1]))
        await world.in_sync("site")
        await world.until(lambda: world.live(map_id("leaves")) is None)

        assert _uid(world, map_id("front")) == uid
        live = world.live(map_id("front"))
        assert live is not None and live["metadata"]["annotations"]["gitsyncd.dev/target"] == "site"
        assert {target for _, target in world.cluster.inventories} == {"site", "db"}
        assert [row["target"] for row in world.control.status.of()["targets"]] == ["site@c1", "db@c1"]
        await world.rest(60)
        assert world.cluster.count()["delete"] == 1


async def test_a_name_that_is_still_used_keeps_what_it_owns() -> None:
    world = two_targets()
    async with world:
        await world.in_sync()

        thief = target("more", was="db")
        await take_up(world, targets=(*world.targets, thief))
        await world.in_sync("more")

        assert set(world.cluster.inventories["edge", "db"][0].entries) == {map_id("back")}
        assert set(world.cluster.inventories["edge", "more"][0].entries) == {map_id("extra")}


async def test_a_turn_in_progress_ends_at_an_object_before_its_target_is_removed() -> None:
    world = two_targets()
    async with world:
        await world.in_sync()
        gate = world.cluster.hold("apply", name="n0")
        world.repo.commit({"web": [config_map(f"n{number}") for number in range(8)]})
        await gate.reached.wait()
        loop = world.loop("web")

        removal = world._tasks.create_task(take_up(world, targets=(world.targets[1],)))
        await world.rest(1)
        assert not removal.done()
        gate.over()
        await removal

        assert loop not in world.parts.targets
        recorded = world.cluster.inventories["edge", "web"][0].entries
        assert all(recorded[object_id].state == "live" for object_id in recorded if world.live(object_id))


def _painted(live: dict[str, Any]) -> None:
    live["data"]["color"] = "red"


def _uid(world: World, object_id: ObjectId) -> str:
    live = world.live(object_id)
    assert live is not None
    return str(live["metadata"]["uid"])


def _color(world: World) -> str:
    live = world.live(map_id("front"))
    assert live is not None
    return str(live["data"]["color"])


async def test_a_file_that_could_not_be_read_for_want_of_memory_is_read_again_by_itself_and_told_of_once(
    tmp_path: Path,
) -> None:
    file = tmp_path / "gitsyncd.yaml"
    file.write_text("one")
    world = two_targets()
    tries: list[float] = []

    async def load() -> Configuration:
        tries.append(world.daemon._clock.monotonic())
        if len(tries) < 4:
            raise LocalError("no child process can be started: Cannot allocate memory", hint="Check the limits.")
        return settings(world)

    world.daemon._load, world.daemon._file = load, Follower(file)
    async with world:
        await world.settled()
        following = asyncio.create_task(world.daemon._follow_file(world.parts, world.control))
        await world.rest(5)
        assert tries == []
        file.write_text("another")
        await world.until(lambda: len(tries) == 1, within=5)
        assert world.control.status.of()["configuration"]["error"] is not None
        await world.until(lambda: world.events("configuration loaded"), within=120)
        await world.rest(300)
        following.cancel()

        assert world.control.status.of()["configuration"]["error"] is None
        assert len(tries) == 4
        assert tries[1] - tries[0] > 10
        (told,) = world.events("configuration refused")
        assert (told["remedy"], told["hint"]) == ("fix-config", "Check the limits.")
