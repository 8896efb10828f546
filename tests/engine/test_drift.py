"""Drift: reverted at once, damped when somebody fights back, and never hidden by what else is wrong."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from gitsyncd.model.errors import Changed
from gitsyncd.model.target import DriftAction, Policy
from tests.engine.world import World, config_map, definition, map_id, recolor, target, widget, widget_id


async def fight(world: World, name: str, *, rounds: int, manager: str = "stubborn-operator") -> list[float]:
    """Somebody who writes again a moment after each revert; the times of the reverts."""
    times = []
    for number in range(rounds):
        world.cluster.edit(map_id(name), recolor(f"red{number}"), manager=manager)
        await world.until(lambda: (world.live(map_id(name)) or {})["data"]["color"] == "blue", within=1000)
        times.append(asyncio.get_running_loop().time())
    return times


async def test_more_than_five_reverts_in_a_minute_are_a_fight_that_is_damped_up_to_five_minutes() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    async with world:
        await world.in_sync()

        # when
        times = await fight(world, "a", rounds=14)

        # then
        gaps = [after - before for before, after in pairwise(times)]
        assert max(gaps[:5]) < 1
        assert [round(gap) for gap in gaps[5:]] == [2, 6, 18, 54, 162, 300, 300, 300]
        (line,) = world.events("fight detected")
        assert (line["object"], line["manager"], line["reverts"]) == ("ConfigMap/default/a", "stubborn-operator", 6)
        assert world.events("fight over") == []


async def test_while_one_object_is_fought_over_the_others_are_reverted_at_once() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    async with world:
        await world.in_sync()
        await fight(world, "a", rounds=10)
        world.cluster.edit(map_id("a"), recolor("red"), manager="stubborn-operator")
        await world.rest(1)
        begun = asyncio.get_running_loop().time()

        # when
        world.cluster.edit(map_id("b"), recolor("red"))
        await world.until(lambda: (world.live(map_id("b")) or {})["data"]["color"] == "blue", within=100)

        # then
        assert asyncio.get_running_loop().time() - begun < 1
        assert (world.live(map_id("a")) or {})["data"]["color"] == "red"
        assert world.state("web") == "failed"
        (problem,) = world.control.status.of()["targets"][0]["problems"]
        assert problem["object"] == "ConfigMap/default/a"
        assert "stubborn-operator keeps changing it" in problem["error"]


async def test_a_fight_is_over_when_it_stays_quiet() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        await fight(world, "a", rounds=8)

        # when
        await world.rest(900)

        # then
        assert len(world.events("fight detected")) == len(world.events("fight over")) == 1
        assert world.state("web") == "in-sync"
        assert world.control.status.of()["targets"][0]["problems"] == []

        # when: the next edit is an ordinary one again
        (gap,) = [asyncio.get_running_loop().time() - at for at in await fight(world, "a", rounds=1)]
        assert gap < 1


async def test_reverts_are_remembered_for_as_long_as_they_count_and_no_longer() -> None:
    # given: one object in a long fight, whose record is older than those of the others
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), *(config_map(f"b{number}") for number in range(20))]})
    async with world:
        await world.in_sync()
        await fight(world, "a", rounds=6)
        for number in range(20):
            await fight(world, f"b{number}", rounds=1)
        remembered = world.loop("web").reconciler._fights
        assert len(remembered) == 21

        # when
        await world.rest(61)
        await fight(world, "b0", rounds=1)

        # then
        assert set(remembered) == {map_id("a"), map_id("b0")}
        assert world.loop("web").reconciler.fighting() == {map_id("a")}


async def test_what_git_asks_for_is_carried_out_in_a_fight_too() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        await fight(world, "a", rounds=11)
        world.cluster.edit(map_id("a"), recolor("red"), manager="stubborn-operator")
        await world.rest(1)

        # when
        world.repo.commit({"web": [config_map("a", color="green")]})
        await world.until(lambda: (world.live(map_id("a")) or {})["data"]["color"] == "green", within=60)


async def test_a_deleted_object_is_created_again_at_once() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()

        world.cluster.remove(map_id("a"))
        await world.until(lambda: world.live(map_id("a")), within=2)

    (line,) = world.events("drift reverted")
    assert (line["kind"], line["manager"]) == ("deleted", None)


async def test_a_field_that_a_person_added_is_removed_and_one_of_an_unknown_writer_is_told_once() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    async with world:
        await world.in_sync()

        # when
        world.cluster.edit(map_id("a"), lambda live: live["data"].update(extra="1"), manager="kubectl-edit")
        world.cluster.edit(map_id("b"), lambda live: live["data"].update(extra="1"), manager="my-tool")
        await world.rest(3600)

        # then
        assert (world.live(map_id("a")) or {})["data"] == {"color": "blue"}
        assert (world.live(map_id("b")) or {})["data"] == {"color": "blue", "extra": "1"}
        assert [line["kind"] for line in world.events("drift reverted")] == ["added"]
        (line,) = world.events("foreign field")
        assert (line["object"], line["manager"]) == ("ConfigMap/default/b", "my-tool")
        assert world.state("web") == "in-sync"


async def test_drift_that_is_only_reported_is_found_once_and_never_written() -> None:
    # given
    world = World([target("web", policy=Policy(drift=DriftAction.REPORT))])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        applied = world.cluster.count()["apply"]

        # when
        world.cluster.edit(map_id("a"), recolor("red"))
        await world.rest(3600)

        # then
        (line,) = world.events("drift found")
        assert (line["kind"], line["manager"], line["fields"]) == ("changed", "kubectl-edit", [".data.color"])
        assert [plan for plan in world.events("plan made") if plan["revert"]] == [], "no turn reverts it"
        assert world.state("web") == "failed"
        assert world.cluster.count()["apply"] == applied
        assert (world.live(map_id("a")) or {})["data"] == {"color": "red"}


async def test_an_object_that_changes_under_our_hands_is_looked_at_again_soon_and_without_a_hot_loop() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()

        # when
        world.cluster.fail("apply", lambda: Changed("somebody was faster"), name="a", times=3)
        world.cluster.edit(map_id("a"), recolor("red"))
        await world.until(lambda: world.events("drift reverted"), within=5)
        assert world.events("object failed", "target failed") == []

        # then: and if it never ends
        before = len(world.cluster.calls)
        world.cluster.fail("apply", lambda: Changed("somebody is always faster"), name="a")
        world.cluster.edit(map_id("a"), recolor("red"))
        await world.rest(600)
        assert len(world.cluster.calls) - before < 600


async def test_our_own_writes_wake_nobody() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        await world.rest(1)
        turns = world.loop("web").finished

        # when
        world.repo.commit({"web": [config_map("a", color="green")]})
        await world.until(lambda: (world.live(map_id("a")) or {})["data"]["color"] == "green")
        await world.rest(100)

        # then
        assert world.loop("web").finished - turns == 1


def seen(number: int) -> Callable[[dict[str, Any]], None]:
    """A controller's note in the status."""
    return lambda live: live.update(status={"seen": number})


async def test_what_a_controller_writes_into_a_status_wakes_nobody() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [definition(), widget("w")]})
    async with world:
        await world.in_sync()
        await world.rest(5)
        turns, calls = world.loop("web").finished, len(world.cluster.calls)

        # when
        for number in range(20):
            world.cluster.edit(widget_id("w"), seen(number), manager="widgetd")
            await world.rest(1)

        # then
        assert world.loop("web").finished == turns
        assert len(world.cluster.calls) == calls
        assert (world.live(widget_id("w")) or {})["status"] == {"seen": 19}
