"""An approval is for exactly what a person saw: never for something else that begins alike."""

from __future__ import annotations

import pytest

from gitsyncd.model.errors import UsageError
from tests.engine.world import World, config_map


@pytest.mark.parametrize("digits", [0, 8, 12, 31])
async def test_a_plan_is_approved_by_its_whole_digest_only(digits: int) -> None:
    world = World(["web"])
    world.repo.commit({"web": [config_map(f"a{n}") for n in range(20)]})
    async with world:
        await world.in_sync()
        world.repo.commit({"web": [config_map("a0")]})
        await world.until(lambda: world.events("plan refused"))
        digest = world.events("plan refused")[0]["plan"]

        with pytest.raises(UsageError):
            world.control.approve_plan("web", digest[:digits])

        assert world.control.approve_plan("web", digest)["approved"] == digest
        await world.in_sync()


@pytest.mark.parametrize("digits", [0, 7, 12, 39])
async def test_a_held_revision_is_approved_by_its_whole_id_only(digits: int) -> None:
    world = World(["web"])
    first = world.repo.commit({"web": [config_map("a", v="1")]})
    second = world.repo.commit({"web": [config_map("a", v="2")]})
    async with world:
        await world.in_sync(commit=second)
        other = world.repo.commit({"web": [config_map("a", v="other")]}, parent=first)
        await world.until(lambda: world.events("revision held"))

        with pytest.raises(UsageError):
            await world.control.approve_revision("fleet", other[:digits])

        await world.control.approve_revision("fleet", other)
        await world.in_sync(commit=other)
