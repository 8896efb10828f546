"""What is measured, in a world of memory: each number against what happened there."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from gitsyncd.edges.web.openmetrics import render
from gitsyncd.engine.measure import Scene, measure
from gitsyncd.engine.meter import Meter
from gitsyncd.model import metric
from gitsyncd.model.errors import (
    PushRefused,
    RegistryUnreachable,
    Rejected,
    SourceDenied,
    SourceTooLarge,
    SourceUnreachable,
)
from gitsyncd.model.metric import METRICS, Histogram, Labels, Metric
from gitsyncd.model.source import OnRewind
from tests.engine.imaging import MemoryRegistry, Workshop, deployment, policy
from tests.engine.virtualtime import BEGIN
from tests.engine.world import World, config_map, map_id, recolor, source, target

MANY = [config_map(f"m{number:02}") for number in range(20)]
HOURS = timedelta(hours=10)


def measured(world: World, of: Metric) -> dict[Labels, Any]:
    """The values of one metric now; of a histogram how often anything was seen."""
    (family,) = [family for family in measure(scene(world)) if family.metric is of]
    return {
        labels: sum(value.counts) if isinstance(value, Histogram) else value for labels, value in family.values.items()
    }


def scene(world: World, policies: Sequence[Any] = (), updates: Sequence[Any] = ()) -> Scene:
    return Scene(
        agent="edge",
        version="1.2.3",
        ready=world.first_turns.done(),
        lag_s=0.25,
        targets=world.parts.targets,
        sources=world.parts.sources,
        views=world.parts.views,
        policies=policies,
        updates=updates,
        meter=world.parts.meter,
        clock=world.parts.edges.clock,
    )


async def test_all_metrics_are_measured_in_the_order_of_the_table_and_can_be_rendered() -> None:
    world = World(["web"])
    async with world:
        families = list(measure(scene(world)))

        assert [family.metric for family in families] == list(METRICS)
        assert all(
            len(labels) == len(family.metric.labels) and render(family)
            for family in families
            for labels in family.values
        )


async def test_image_policies_and_updates_by_state_with_the_last_look_and_what_was_pushed() -> None:
    found = MemoryRegistry()
    found.push("1.0.0")
    found.push("1.1.0")
    shop = Workshop(policy(interval=HOURS), files={"a.yaml": deployment("1.0.0")}, registry=found)
    scene = Scene(
        agent="edge",
        version="1.2.3",
        ready=True,
        lag_s=0.0,
        targets=[],
        sources=[],
        views={},
        policies=shop.automation.policies,
        updates=shop.automation.updates,
        meter=Meter(),
        clock=shop.clock,
    )

    def now() -> list[Any]:
        values = {family.metric: family.values for family in measure(scene)}
        return [
            values[each]
            for each in (
                metric.IMAGE_POLICY_STATE,
                metric.IMAGE_UPDATE_STATE,
                metric.IMAGE_COMMITS,
                metric.IMAGE_LOOK_AGE,
            )
        ]

    async with shop:
        assert now() == [{("front", "unknown"): 1}, {("fleet", "unknown"): 1}, {("fleet",): 0}, {}]
        await shop.settled()
        looked = shop.automation.policies[0].looked_at
        assert looked is not None
        await asyncio.sleep(60)
        age = (shop.clock.now() - looked).total_seconds()
        assert age > 59
        assert now() == [{("front", "selected"): 1}, {("fleet", "ready"): 1}, {("fleet",): 1}, {("front",): age}]
        found.fault = RegistryUnreachable("down")
        await shop.settled()
        assert now()[0] == {("front", "failed"): 1}
        found.fault = None
        found.push("1.2.0")
        shop.writer.refusal = PushRefused("protected branch")
        await shop.settled()
        assert now()[1:3] == [{("fleet", "failed"): 1}, {("fleet",): 1}]


async def test_a_target_in_sync_with_how_long_ago_and_how_often() -> None:
    world = World([target("web", interval=HOURS)])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    async with world:
        assert measured(world, metric.TARGET_IN_SYNC) == {("web@c1",): 0}
        assert measured(world, metric.TARGET_LAST_SYNC) == {}
        assert measured(world, metric.READY) == {(): 0}
        await world.in_sync()
        await world.first_turns
        synced = measured(world, metric.TARGET_LAST_SYNC)["web@c1",]

        await world.rest(3600)

        assert measured(world, metric.TARGET_IN_SYNC) == {("web@c1",): 1}
        assert measured(world, metric.TARGET_STATE) == {("web@c1", "in-sync"): 1}
        assert measured(world, metric.TARGET_INFO) == {("web@c1", "fleet", "c1"): 1}
        assert measured(world, metric.TARGET_LAST_SYNC) == {("web@c1",): synced}
        assert 0 < synced - BEGIN.timestamp() < 60
        assert 3590 < measured(world, metric.TARGET_ATTEMPT_AGE)["web@c1",] < 3660
        assert measured(world, metric.TARGET_INTERVAL) == {("web@c1",): HOURS.total_seconds()}
        assert measured(world, metric.TARGET_TURNS)["web@c1",] >= 1
        assert measured(world, metric.READY) == {(): 1}
        assert measured(world, metric.LOOP_LAG) == {(): 0.25}
        assert [labels[::2] for labels in measured(world, metric.BUILD_INFO)] == [("1.2.3", "edge")]


async def test_a_revert_is_counted_once_by_kind_and_writer_and_a_revert_of_nothing_is_not() -> None:
    world = World([target("web", interval=HOURS)])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    async with world:
        await world.in_sync()
        turns = measured(world, metric.TARGET_TURNS)["web@c1",]
        assert measured(world, metric.DRIFT_REVERTED) == {}
        assert measured(world, metric.REVERTS) == {("web@c1",): 0}

        world.cluster.edit(map_id("a"), recolor("red"), manager="kubectl-edit")
        await world.until(lambda: world.events("drift reverted", kind="changed"))
        world.cluster.remove(map_id("b"))
        await world.until(lambda: world.events("drift reverted", kind="deleted"))
        await world.rest(60)

        assert measured(world, metric.DRIFT_REVERTED) == {
            ("web@c1", "changed", "person"): 1,
            ("web@c1", "deleted", "unknown"): 1,
        }
        assert measured(world, metric.REVERTS) == {("web@c1",): 2}
        assert measured(world, metric.TARGET_TURNS)["web@c1",] >= turns + 2


async def test_a_refused_plan_is_counted_once_however_often_it_is_refused() -> None:
    world = World([target("web", interval=timedelta(minutes=1))])
    world.repo.commit({"web": MANY})
    async with world:
        await world.in_sync()

        world.repo.commit({"web": MANY[:5]})
        await world.until(lambda: world.state("web") == "refused")
        await world.rest(600)

        assert measured(world, metric.PLAN_REFUSED) == {
            ("web@c1", "budget"): 1,
            ("web@c1", "empty"): 0,
            ("web@c1", "approval-needed"): 0,
        }
        assert measured(world, metric.TARGET_STATE) == {("web@c1", "refused"): 1}
        assert measured(world, metric.TARGET_OBJECTS) == objects(**{"in-sync": 5}, leaving=15)

        world.repo.commit({"web": []})
        await world.until(lambda: measured(world, metric.PLAN_REFUSED)["web@c1", "empty"] == 1)


def objects(**counts: int) -> dict[Labels, int]:
    states = ("in-sync", "failed", "pending", "deleting", "leaving")
    return {("web@c1", state): counts.get(state, 0) for state in states}


async def test_every_object_is_in_one_state() -> None:
    world = World([target("web", interval=HOURS)])
    world.cluster.fail("apply", lambda: Rejected("no"), name="b")
    world.repo.commit({"web": [config_map("a"), config_map("b"), config_map("c")]})
    async with world:
        await world.until(lambda: world.state("web") == "failed")

        assert measured(world, metric.TARGET_OBJECTS) == objects(**{"in-sync": 2}, failed=1)


POLLS: list[tuple[Callable[[], Exception], str]] = [
    (lambda: SourceUnreachable("no route"), "unreachable"),
    (lambda: SourceDenied("no"), "denied"),
    (lambda: SourceTooLarge("large"), "too-large"),
]


@pytest.mark.parametrize(("error", "result"), POLLS, ids=[result for _, result in POLLS])
async def test_a_poll_is_counted_by_what_came_of_it_and_the_age_begins_again_with_a_usable_answer(
    error: Callable[[], Exception], result: str
) -> None:
    world = World([target("web"), target("db", source=source(branch="other", on_rewind=OnRewind.FOLLOW))])
    world.repo.commit({"web": [config_map("a")]})
    world.repo.commit({"db": [config_map("b")]}, branch="other")
    async with world:
        await world.in_sync()
        polls = measured(world, metric.SOURCE_POLLS)
        assert polls == {("fleet", "ok"): world.repo.asked["update"]}

        world.repo.fault = lambda _: error()
        await world.until(lambda: world.events("source unreachable"))
        await world.rest(1800)

        assert measured(world, metric.SOURCE_POLLS)["fleet", result] >= 2
        assert measured(world, metric.SOURCE_AGE)["fleet",] > 1800

        world.repo.fault = lambda _: None
        await world.until(lambda: len(world.events("source recovered")) == 2)
        assert measured(world, metric.SOURCE_AGE)["fleet",] < 60


async def test_a_cluster_that_is_down_is_not_up_and_nothing_of_it_is_in_sync() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        await world.until(lambda: measured(world, metric.WATCHES) == {("c1",): 1})
        assert measured(world, metric.CLUSTER_UP) == {("c1",): 1}
        requests = measured(world, metric.API_REQUESTS)
        assert requests["c1", "apply", "200"] >= 1

        outage = world.cluster.go_down()
        await world.until(lambda: world.events("cluster unreachable"))

        assert measured(world, metric.CLUSTER_UP) == {("c1",): 0}
        assert measured(world, metric.TARGET_IN_SYNC) == {("web@c1",): 0}
        assert measured(world, metric.TARGET_STATE) == {("web@c1", "unknown"): 1}
        await world.until(lambda: measured(world, metric.WATCHES) == {("c1",): 0})
        outage.over()
        await world.until(lambda: measured(world, metric.CLUSTER_UP) == {("c1",): 1})


async def test_the_number_of_series_does_not_follow_objects_commits_or_time() -> None:
    world = World([target("web", interval=timedelta(minutes=1))])
    world.repo.commit({"web": [config_map("a", color="0")]})
    async with world:
        await world.in_sync()
        world.cluster.edit(map_id("a"), recolor("red"), manager="kubectl-edit")
        await world.until(lambda: world.events("drift reverted"))
        before = series(world)

        for number in range(20):
            commit = world.repo.commit({"web": [*MANY, config_map("a", color=str(number))]})
            await world.in_sync(commit=commit)
            world.cluster.edit(map_id(f"m{number:02}"), recolor("red"), manager="kubectl-edit")
            await world.until(lambda number=number: len(world.events("drift reverted")) == number + 2)  # type: ignore[misc]

        new = series(world) - before
        assert {name for name, _ in new} <= {metric.API_REQUESTS.name}, "verbs and codes are a small set of their own"
        assert len(new) < 5


def series(world: World) -> set[tuple[str, Labels]]:
    return {(family.metric.name, labels) for family in measure(scene(world)) for labels in family.values}
