"""The record in the cluster: lost, damaged or written by somebody else, it costs nothing but work."""

from dataclasses import replace
from datetime import timedelta

from gitsyncd.edges.store import MemoryStore
from gitsyncd.model.errors import ClusterUnreachable, StateError
from gitsyncd.model.inventory import EntryState, Inventory
from tests.engine.world import World, config_map, map_id, recolor, target

A, B, X = map_id("a"), map_id("b"), map_id("x")


async def started(*names: str) -> World:
    """A world whose daemon was in sync once and is stopped now; `x` is about to leave Git."""
    world = World(list(names) or ["web"])
    world.repo.commit(
        {name: [config_map("a"), config_map("x")] if name == "web" else [config_map("y")] for name in names or ["web"]}
    )
    async with world:
        await world.in_sync()
    return world


def again(world: World) -> World:
    return World(world.targets, clusters=world.clusters, repo=world.repo, store=MemoryStore())


async def test_a_lost_inventory_is_rebuilt_from_marks_by_a_turn_that_deletes_nothing() -> None:
    # given
    world = await started()
    del world.cluster.inventories["edge", "web"]
    second = world.repo.commit({"web": [config_map("a")]})

    # when
    later = again(world)
    async with later:
        await later.in_sync(commit=second)

        # then
        assert set(later.cluster.inventories["edge", "web"][0].entries) == {A}
        (line,) = later.events("target failed")
        assert "rebuilt from the marks" in line["error"]
        assert line["remedy"] == "fix-cluster"

        assert [plan["prune"] for plan in later.log.lines if plan["event"] == "plan made"][:2] == [0, 1]
        assert later.live(X) is None


async def test_a_damaged_inventory_is_joined_with_marks_and_stops_no_other_target() -> None:
    # given
    world = await started("web", "db")
    whole, version = world.cluster.inventories["edge", "web"]
    left = {A: whole.entries[A]}
    damaged = replace(whole, entries=left, trusted=False, damage="inventory ConfigMap 'gitsyncd.edge.web.1' is missing")
    world.cluster.inventories["edge", "web"] = damaged, version
    second = world.repo.commit({"web": [config_map("a")], "db": [config_map("y", v="2")]})

    # when
    later = again(world)
    async with later:
        await later.in_sync(commit=second)

        # then
        (line,) = later.events("target failed")
        assert line["target"] == "web@c1"
        assert "'gitsyncd.edge.web.1' is missing" in line["error"]
        record = later.cluster.inventories["edge", "web"][0]
        assert (set(record.entries), record.damage) == ({A}, "")
        plans = [
            line["prune"] for line in later.log.lines if line["event"] == "plan made" and line["target"] == "web@c1"
        ]
        assert plans[:2] == [0, 1]


async def test_objects_of_kinds_that_left_git_are_found_when_the_record_is_lost() -> None:
    # given: the only Secret leaves Git in the same commit
    world = World(["web"])
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}}
    world.repo.commit({"web": [config_map("a"), secret]})
    async with world:
        await world.in_sync()
    del world.cluster.inventories["edge", "web"]
    world.repo.commit({"web": [config_map("a")]})

    # when
    later = again(world)
    async with later:
        await later.in_sync()

    # then
    assert [line["object"] for line in later.events("object pruned")] == ["Secret/default/s"]


async def test_nothing_is_rebuilt_at_a_first_sync_on_a_cluster_with_others_objects() -> None:
    world = World(["web"])
    world.cluster.put(config_map("theirs"))
    world.repo.commit({"web": [config_map("a")]})

    async with world:
        await world.in_sync()

    assert world.events("target failed") == []
    assert world.cluster.count()["list"] == 1


async def test_an_inventory_that_somebody_else_wrote_is_loaded_again_and_the_turn_begun_anew() -> None:
    # given
    world = await started()
    later = again(world)
    async with later:
        await later.in_sync()

        # when: another daemon of the same name writes in between
        known, version = later.cluster.inventories["edge", "web"]
        later.cluster.inventories["edge", "web"] = replace(known, serial=known.serial + 1), version + 1
        second = later.repo.commit({"web": [config_map("a", v="2"), config_map("x")]})
        await later.in_sync(commit=second)

        # then
        assert (later.live(A) or {})["data"] == {"v": "2"}
        assert later.cluster.count()["load"] == 3
        assert [line["retry_s"] for line in later.events("target failed")] == [1.0]


async def test_what_is_to_be_created_is_on_record_before_it_is_written() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    gate = world.cluster.hold("apply", name="a")

    # when: the daemon dies before the first answer
    async with world:
        await gate.reached.wait()
    recorded = world.cluster.inventories["edge", "web"][0]

    # then
    assert {key: entry.state for key, entry in recorded.entries.items()} == {
        A: EntryState.PENDING,
        B: EntryState.PENDING,
    }

    # when: Git has changed its mind before the next start
    world.repo.commit({"web": [config_map("b")]})
    later = again(world)
    async with later:
        await later.in_sync()

        # then
        assert set(later.cluster.inventories["edge", "web"][0].entries) == {B}
        assert later.live(A) is None


async def test_a_restart_on_an_unchanged_cluster_writes_nothing() -> None:
    # given
    world = await started("web", "db")
    before = world.cluster.count()

    # when
    later = again(world)
    async with later:
        await later.in_sync()
        await later.rest(600)

    # then
    made = later.cluster.count() - before
    assert {
        method: made[method] for method in ("apply", "save", "patch", "delete", "read", "dry run")
    } == dict.fromkeys(("apply", "save", "patch", "delete", "read", "dry run"), 0)
    assert made["list"] == 1


async def test_changes_while_the_daemon_was_away_are_reverted_at_its_start() -> None:
    world = await started()
    world.cluster.edit(A, recolor("red"))
    world.cluster.remove(X)

    later = again(world)
    async with later:
        await later.in_sync()

    assert sorted(line["kind"] for line in later.events("drift reverted")) == ["changed", "deleted"]


async def test_a_record_that_cannot_be_saved_fails_the_turn_before_anything_is_written() -> None:
    # given
    world = World([target("web", retry_interval=timedelta(seconds=30))])
    world.repo.commit({"web": [config_map("a")]})
    fault = world.cluster.fail("save", lambda: StateError("the disk of the server is full"))
    async with world:
        await world.until(lambda: world.state("web") == "failed")

        # then
        assert world.cluster.count()["apply"] == 0
        assert world.events("target failed")[0]["error"].endswith("the disk of the server is full")

        # when
        fault.over()
        await world.in_sync()


async def test_an_inventory_from_another_cluster_halts_the_cluster() -> None:
    # given
    world = World(["web"])
    world.cluster.inventories["edge", "web"] = Inventory(target="web@c1", cluster_uid="somewhere else", serial=1), 1
    world.repo.commit({"web": [config_map("a")]})

    # when
    async with world:
        await world.rest(600)

        # then
        assert len(world.events("cluster changed")) == 1
        assert world.cluster.count()["apply"] == 0


async def test_a_turn_that_outlives_what_was_known_of_the_cluster_does_not_record_what_it_has_forgotten() -> None:
    # given
    world = World(["web", "db"])
    world.repo.commit({"web": [config_map("a"), config_map("b"), config_map("c")], "db": [config_map("y")]})
    version = world.cluster.version
    async with world:
        await world.in_sync()
        gate = world.cluster.hold("apply", name="b")
        world.repo.commit({"web": [config_map("b", color="green"), config_map("c")], "db": [config_map("y")]})
        await world.until(gate.reached.is_set)

        # when: while it is held, the store seems to have been put back, and what was known of the cluster is forgotten
        world.cluster.version = lambda: "1"  # type: ignore[method-assign]
        world.cluster.break_watches(lambda: ClusterUnreachable("the connection broke"))
        await world.until(lambda: bool(world.events("cluster changed")))
        gate.over()
        await world.rest(0.5)
        world.cluster.version = version  # type: ignore[method-assign]
        await world.until(lambda: world.live(A) is None, within=300)
        await world.in_sync()

    # then
    inventory, _ = world.cluster.inventories["edge", "web"]
    assert {object_id.name for object_id in inventory.entries} == {"b", "c"}
