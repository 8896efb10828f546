"""What `status` answers in each state, and what suspends and resumes."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from gitsyncd.engine.measure import count_objects
from gitsyncd.model.errors import Rejected, SourceUnreachable, UsageError
from gitsyncd.model.target import Images
from tests.engine.imaging import update
from tests.engine.virtualtime import BEGIN
from tests.engine.world import World, config_map, map_id, recolor, source, target

TARGET_KEYS = {"target", "state", "revision", "admitted", "head", "since", "objects", "health", "last_turn", "problems"}
PROBLEM_KEYS = {"object", "error", "remedy", "hint"}
SOURCE_KEYS = {"source", "state", "revision", "since", "error"}
CLUSTER_KEYS = {"cluster", "state", "since", "error"}


def status(world: World) -> dict[str, Any]:
    """As a program reads it, with every promised key there."""
    answer: dict[str, Any] = orjson.loads(orjson.dumps(world.control.status.of()))
    assert {"agent", "version", "targets", "sources", "clusters"} <= answer.keys()
    assert all(item.keys() >= TARGET_KEYS for item in answer["targets"])
    assert all(problem.keys() >= PROBLEM_KEYS for item in answer["targets"] for problem in item["problems"])
    assert all(item.keys() >= SOURCE_KEYS for item in answer["sources"])
    assert all(item.keys() >= CLUSTER_KEYS for item in answer["clusters"])
    return answer


async def test_status_of_a_target_in_sync() -> None:
    world = World(["web"])
    commit = world.repo.commit({"web": [config_map("a"), config_map("b")]})
    async with world:
        await world.in_sync()
        answer = status(world)

    (found,) = answer["targets"]
    revision = f"main@sha1:{commit}"
    assert answer["agent"] == "edge"
    assert {key: found[key] for key in TARGET_KEYS - {"since", "last_turn"}} == {
        "target": "web@c1",
        "state": "in-sync",
        "revision": revision,
        "admitted": revision,
        "head": revision,
        "objects": 2,
        "health": "current",
        "problems": [],
    }
    assert found["since"].startswith("2026-01-01T00:00:00") and found["since"].endswith("Z")
    assert answer["sources"][0]["state"] == answer["clusters"][0]["state"] == "ready"


async def test_status_before_anything_is_known() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    world.cluster.hold("identity")
    async with world:
        await world.rest(1)
        answer = status(world)

    assert (answer["targets"][0]["state"], answer["clusters"][0]["state"]) == ("unknown", "unknown")
    assert answer["targets"][0]["revision"] is None


async def test_status_during_a_turn_that_lasts() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    gate = world.cluster.hold("apply")
    async with world:
        await gate.reached.wait()
        answer = status(world)

    assert answer["targets"][0]["state"] == "syncing"


async def test_status_of_a_target_that_fails_lists_every_object_with_its_remedy() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("b")]})
    world.cluster.fail("apply", lambda: Rejected("not like this", hint="Do it differently."))
    async with world:
        await world.until(lambda: world.state("web") == "failed")
        answer = status(world)

    assert sorted(problem["object"] for problem in answer["targets"][0]["problems"]) == [
        "ConfigMap/default/a",
        "ConfigMap/default/b",
    ]
    assert answer["targets"][0]["problems"][0] | {"object": ""} == {
        "object": "",
        "error": "not like this",
        "remedy": "fix-repo",
        "hint": "Do it differently.",
    }


async def test_status_while_the_cluster_is_out_of_reach() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        world.cluster.go_down()
        await world.until(lambda: world.events("cluster unreachable"))
        world.loop("web").bell.ring()
        await world.until(lambda: world.state("web") == "unknown", within=60)
        answer = status(world)

    assert answer["clusters"][0]["state"] == "unreachable"
    assert [problem["remedy"] for problem in answer["targets"][0]["problems"]] == ["wait"]


async def test_status_of_a_target_that_left_the_agent_file() -> None:
    world = World(["web", "old"])
    world.repo.commit({"web": [config_map("a")], "old": [config_map("b")]})
    async with world:
        await world.in_sync()

    later = World(["web"], clusters=world.clusters, repo=world.repo, store=world.store)
    async with later:
        await later.in_sync()
        await later.rest(600)
        answer = status(later)

    (old,) = [item for item in answer["targets"] if item["target"] == "old@c1"]
    assert (old["state"], old["objects"]) == ("unmanaged", 1)
    assert later.live(map_id("b")) is not None


async def test_a_name_that_is_no_target_is_refused_with_those_that_are() -> None:
    world = World(["web"])
    world.repo.commit({"web": []})
    async with world:
        with pytest.raises(UsageError) as caught:
            world.control.status.of(["wbe"])

    assert "web@c1" in caught.value.hint


# --- Suspending ------------------------------------------------------------------------------------------------------


async def test_a_suspension_leaves_the_cluster_alone_and_ends_by_itself() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()

        # when
        world.control.suspend("web", timedelta(minutes=30), "a rehearsal")
        await world.until(lambda: world.state("web") == "suspended")
        world.cluster.edit(map_id("a"), recolor("red"))
        await world.rest(29 * 60)

        # then
        assert (world.live(map_id("a")) or {})["data"] == {"color": "red"}
        found = status(world)["targets"][0]
        assert found["state"] == "suspended"
        assert found["suspended"]["reason"] == "a rehearsal"

        # when
        await world.rest(61)
        await world.in_sync()

        # then
        assert (world.live(map_id("a")) or {})["data"] == {"color": "blue"}
        assert status(world)["targets"][0]["suspended"] is None
        assert len(world.events("target waiting")) == 1


async def test_a_suspension_outlives_a_restart_and_not_its_end() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        world.control.suspend("web", timedelta(minutes=30), "a rehearsal")
        await world.rest(1)
    world.cluster.edit(map_id("a"), recolor("red"))

    # when
    later = World(["web"], clusters=world.clusters, repo=world.repo, store=world.store)
    async with later:
        await later.first_turns
        assert later.state("web") == "suspended"
        assert later.loop("web").suspension is not None
        assert (later.loop("web").suspension.until or BEGIN) > BEGIN  # type: ignore[union-attr]
        await later.rest(30 * 60)
        await later.in_sync()

        # then
        assert (later.live(map_id("a")) or {})["data"] == {"color": "blue"}


async def test_resume_looks_at_once() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        world.control.suspend("web", timedelta(hours=30), "a rehearsal")
        world.cluster.remove(map_id("a"))
        await world.rest(600)
        assert world.live(map_id("a")) is None

        world.control.resume("web")

        await world.until(lambda: world.live(map_id("a")), within=2)


async def test_a_target_that_the_agent_file_suspends_is_not_resumed_by_a_command() -> None:
    world = World([target("web", suspend=True)])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.first_turns
        with pytest.raises(UsageError):
            world.control.resume("web")
        await world.rest(3600)

    assert world.cluster.count()["apply"] == 0
    assert world.state("web") == "suspended"


async def test_a_pause_with_an_end_does_not_end_what_the_agent_file_says() -> None:
    world = World([target("web", suspend=True)])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.first_turns
        world.control.suspend("web", timedelta(minutes=30), "a rehearsal")
        assert status(world)["targets"][0]["suspended"]["reason"] == "a rehearsal"
        await world.rest(3600)
        assert "agent file" in status(world)["targets"][0]["suspended"]["reason"]

    assert world.cluster.count()["apply"] == 0
    assert world.state("web") == "suspended"


async def test_a_turn_that_is_suspended_ends_at_the_next_object() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map(f"m{number:02}") for number in range(12)]})
    gates = [world.cluster.hold("apply", name=f"m{number:02}") for number in range(4)]
    async with world:
        for gate in gates:
            await gate.reached.wait()

        # when
        world.control.suspend("web", timedelta(minutes=30), "stop")
        for gate in gates:
            gate.over()
        await world.until(lambda: world.state("web") == "suspended", within=5)

        # then
        assert world.cluster.count()["apply"] == 4


async def test_a_suspended_sibling_still_says_what_it_wants() -> None:
    # given
    world = World(["web", "db"])
    world.repo.commit({"web": [config_map("a"), config_map("x")], "db": [config_map("y")]})
    async with world:
        await world.in_sync()
        world.control.suspend("db", timedelta(hours=5), "a rehearsal")

        # when: x moves to it
        world.repo.commit({"web": [config_map("a")], "db": [config_map("y"), config_map("x")]})
        await world.rest(1200)

        # then
        assert world.live(map_id("x")) is not None
        assert world.cluster.count()["delete"] == 0


async def test_status_says_how_far_a_turn_is() -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map(f"m{number:02}") for number in range(12)]})
    gate = world.cluster.hold("apply", name="m11")
    async with world:
        await gate.reached.wait()

        # when
        await world.until(lambda: (status(world)["targets"][0]["progress"] or {}).get("done") == 11)

        # then
        assert status(world)["targets"][0]["progress"] == {"done": 11, "total": 12}
        gate.over()
        await world.in_sync()
        assert status(world)["targets"][0]["progress"] is None


async def test_status_says_when_a_source_answered_last_and_what_to_do_about_one_that_does_not() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        before = status(world)["sources"][0]
        world.repo.fault = lambda _: SourceUnreachable("no answer", subject="source fleet")
        await world.until(lambda: world.events("source unreachable"))
        after = status(world)["sources"][0]

    assert (before["error"], before["remedy"], before["hint"]) == (None, None, None)
    assert (after["remedy"], after["hint"]) == ("wait", SourceUnreachable.default_hint)
    assert before["answered"] <= after["answered"] < after["since"]


async def test_what_fails_at_every_try_has_failed_since_the_first() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    world.cluster.fail("apply", lambda: Rejected("not like this"))
    async with world:
        await world.until(lambda: world.state("web") == "failed")
        first = status(world)["targets"][0]["since"]
        tries = len(world.events("target failed"))
        await world.until(lambda: len(world.events("target failed")) > tries + 2)
        assert status(world)["targets"][0]["since"] == first

        world.repo.commit({"web": [config_map("a", color="red")]})
        await world.until(lambda: status(world)["targets"][0]["since"] != first, within=600)


async def test_in_sync_is_counted_from_the_revision_and_not_from_the_last_look() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        first = status(world)["targets"][0]
        await world.rest(3600)
        later = status(world)["targets"][0]

    assert later["since"] == first["since"]
    assert later["last_turn"] > first["last_turn"]


@pytest.mark.parametrize(
    "annotation",
    [
        {"gitsyncd.dev/apply": "ignore"},
        {"gitsyncd.dev/reconcile": "disabled"},
        {"config.kubernetes.io/local-config": "true"},
        {"gitsyncd.dev/apply": "if-not-present"},
    ],
    ids=lambda annotation: "=".join(next(iter(annotation.items()))),
)
async def test_what_is_left_to_others_is_neither_waited_for_nor_counted(annotation: dict[str, str]) -> None:
    # given
    world = World(["web"])
    world.repo.commit({"web": [config_map("a"), config_map("theirs", annotations=annotation)]})
    if annotation.get("gitsyncd.dev/apply") == "if-not-present":
        world.cluster.put(config_map("theirs"))

    # when
    async with world:
        await world.in_sync()
        healthy = await world.loop("web").until_healthy(lambda: True)

        # then
        assert healthy
        found = status(world)["targets"][0]
        assert (found["health"], found["objects"]) == ("current", 1)
        assert count_objects(world.loop("web"))["pending"] == 0

        # when: it is ours from now on
        world.repo.commit({"web": [config_map("a"), config_map("theirs", v="2")]})
        await world.until(lambda: status(world)["targets"][0]["objects"] == 2, within=100)

        # then
        assert (world.live(map_id("theirs")) or {})["data"] == {"v": "2"}
        assert world.loop("web").health().status == "current"


async def test_a_target_without_any_object_is_healthy() -> None:
    world = World(["web"])
    world.repo.commit({"web": []})
    async with world:
        await world.in_sync()

        assert await world.loop("web").until_healthy(lambda: True)
        assert status(world)["targets"][0]["health"] == "current"


async def test_a_source_that_nobody_follows_is_shown_as_such_and_one_that_is_only_written_to_is_not() -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map("a")]})
    async with world:
        await world.in_sync()
        known = world.control.status.configuration
        spare, written = source("spare"), source("written")
        world.control.status.configuration = replace(
            known,
            sources=(*known.sources, spare, written),
            images=Images(updates=(update("front", source="written"),)),
        )
        shown = status(world)["sources"]

    assert [(item["source"], item["state"]) for item in shown] == [("fleet", "ready"), ("spare", "unused")]
