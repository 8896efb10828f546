"""Whose bell a delivery rings, and how often it is spoken of, in a world of memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gitsyncd.bells import _Tower
from gitsyncd.engine.trigger import Bell
from gitsyncd.model.hook import Hook, HookKind
from gitsyncd.model.image import RegistryAccess
from tests.engine.imaging import policy
from tests.engine.world import Diary, World, source, target

MAIN = {"ref": "refs/heads/main"}
OTHER = {"ref": "refs/heads/other"}


def hook(kind: HookKind) -> Hook:
    return Hook(kind=kind, secret_file=Path("/nowhere/secret"))


def world() -> World:
    return World([target("web", source=replace(source(), webhook=hook(HookKind.GITHUB)))])


@pytest.mark.parametrize(
    ("event", "body", "looks"),
    [("push", MAIN, 1), ("push", OTHER, 0), ("ping", MAIN, 0), ("push", None, 1), ("push", {"ref": 5}, 1)],
)
async def test_a_source_looks_at_once_when_a_branch_was_pushed_that_somebody_follows(
    event: str, body: Any, looks: int
) -> None:
    async with world() as there:
        await there.rest(10)
        before = there.repo.asked["update"]
        (door,) = _Tower(there.parts, there.log).doors("/hooks/fleet")

        door.ring(event, body)
        await there.rest(1)

        assert there.repo.asked["update"] - before == looks


async def test_many_rings_at_once_are_one_look() -> None:
    async with world() as there:
        await there.rest(10)
        before = there.repo.asked["update"]
        tower = _Tower(there.parts, there.log)

        for _ in range(100):
            tower.doors("/hooks/fleet")[0].ring("push", MAIN)
        await there.rest(1)

        assert there.repo.asked["update"] - before == 1


@pytest.mark.parametrize("path", ["/", "/hooks/", "/hooks/other", "/hooks/fleet/", "/hooks/fleet?x", "/image-hooks"])
async def test_where_nobody_may_ring_there_is_no_door(path: str) -> None:
    async with world() as there:
        assert _Tower(there.parts, there.log).doors(path) == []


async def test_a_changed_agent_file_counts_at_the_next_delivery() -> None:
    async with world() as there:
        tower = _Tower(there.parts, there.log)
        assert len(tower.doors("/hooks/fleet")) == 1

        there.parts.configuration = replace(there.parts.configuration, sources=(source(),))

        assert tower.doors("/hooks/fleet") == []


def rung(prefix: str, body: Any, *images: str) -> list[str]:
    """Which of these images' policies look."""
    access = RegistryAccess(prefix=prefix, webhook=hook(HookKind.GENERIC))
    loops = [SimpleNamespace(policy=replace(policy(), image=image), bell=Bell()) for image in images]
    fleet = SimpleNamespace(
        configuration=SimpleNamespace(images=SimpleNamespace(registries=[access])),
        automation=SimpleNamespace(policies=loops),
    )
    (door,) = _Tower(cast("Any", fleet), Diary()).doors("/image-hooks")
    door.ring("", body)
    return [loop.policy.image for loop in loops if loop.bell.take().everything]


@pytest.mark.parametrize(
    ("prefix", "body", "expected"),
    [
        ("r.example.com/team", {"image": "r.example.com/team/front:1"}, ["r.example.com/team/front"]),
        ("r.example.com/team", {}, ["r.example.com/team/front", "r.example.com/team/api"]),
        ("r.example.com/team/", None, ["r.example.com/team/front", "r.example.com/team/api"]),
        ("r.example.com/team", {"image": "team/shop"}, []),  # of another registry than the one that rings
        ("docker.io", {"image": "team/shop:2"}, ["team/shop"]),
        ("docker.io", {}, ["nginx", "team/shop"]),
        ("docker.io/library", {}, ["nginx"]),
        ("r.example.com", {"image": "r.example.com/unknown"}, []),
    ],
)
async def test_policies_look_whose_image_was_pushed_to_the_registry_that_rings(
    prefix: str, body: Any, expected: list[str]
) -> None:
    images = ["r.example.com/team/front", "r.example.com/team/api", "r.example.com/teams/x", "nginx", "team/shop"]

    assert rung(prefix, body, *images) == expected


async def test_what_is_repeated_is_said_once() -> None:
    async with world() as there:
        (door,) = _Tower(there.parts, there.log).doors("/hooks/fleet")

        for _ in range(3):
            door.refused("wrong")
        door.refused("unreadable")
        for _ in range(3):
            door.ring("push", MAIN)
        door.refused("wrong")

        said = [
            line["event"] + ":" + line.get("error", "") for line in there.events("webhook heard", "webhook refused")
        ]
        assert said == [
            "webhook refused:wrong",
            "webhook refused:unreadable",
            "webhook heard:",
            "webhook refused:wrong",
        ]
