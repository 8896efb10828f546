"""Where choosing images, writing them to Git and going back meet."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.model.errors import ForgeUnreachable, PushRefused, UsageError
from gitsyncd.model.image import QUARANTINE_FILE
from gitsyncd.model.update import Forge, PullRequest
from tests.engine.imaging import MemoryForge, MemoryRegistry, Workshop, deployment, policy, update
from tests.engine.test_rollback import armed, back, listing, revisions
from tests.engine.world import World, config_map

FRONT, BACK = "web/front.yaml", "web/back.yaml"
BY_REQUEST: dict[str, Any] = {
    "push_branch": "image-updates",
    "pull_request": PullRequest(forge=Forge.GITHUB, token_file=Path("/t")),
}


def registry(*tags: str) -> MemoryRegistry:
    made = MemoryRegistry()
    for tag in tags:
        made.push(tag)
    return made


def quarantined(*tags: str) -> bytes:
    entries = [f"  - {{image: registry.example.com/team/front, tag: {tag}}}\n" for tag in tags]
    return ("images:\n" + "".join(entries)).encode()


def two_policies(forge: MemoryForge, images: MemoryRegistry, **facts: Any) -> Workshop:
    """`front` has something to propose, and `back` has not."""
    images.push("1.0.0", name="back")
    return Workshop(
        policy(**facts),
        policy("back"),
        files={FRONT: deployment("1.0.0"), BACK: deployment("1.0.0", "back", "back")},
        registry=images,
        updates=[update("front", "back", **BY_REQUEST)],
        forge=forge,
    )


def job(tag: str) -> list[dict[str, Any]]:
    """A workload that runs that tag of the image."""
    image = f"registry.example.com/team/front:{tag}"
    pod = {"spec": {"containers": [{"name": "c", "image": image}]}}
    meta = {"name": "front", "namespace": "default"}
    return [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {"template": pod}}]


# --- the way back of one target and of another -----------------------------------------------------------------------


async def test_a_way_back_of_one_target_takes_no_good_one_from_another() -> None:
    async with World(["web", "api"]) as world:
        writer, _ = armed(world)

        async def pushed(web: str, api: str, *listed: str) -> str:
            more = {QUARANTINE_FILE: listing(*listed)} if listed else {}
            commit = world.repo.commit({"web": [config_map("a", v=web)], "api": [config_map("b", v=api)], **more})
            await world.in_sync("web", "api", commit=commit)
            await world.rest(5)
            return commit

        await pushed("1", "1")
        bad = await pushed("2", "1")
        fine = await pushed("2", "2")
        await back(world)  # of `web`, while the head is a good one of `api`
        assert fine not in writer.files[QUARANTINE_FILE].decode()
        again = await pushed("1", "2", bad)
        await pushed("1", "3", bad)

        answer = await world.control.rollback("api", "", confirmed=True, reason="bad")

    assert answer["to"] in {fine, again}
    assert answer["passed_over"] == []


async def test_a_revision_that_runs_what_is_quarantined_is_no_place_to_go_back_to() -> None:
    async with World(["web"]) as world:
        commits = []
        for tag in ("1.0.0", "1.1.0", "1.2.0"):
            listed: Any = {"images": [{"image": "registry.example.com/team/front", "tag": "1.1.0"}]}
            more = {QUARANTINE_FILE: listed} if tag == "1.2.0" else {}
            commits.append(world.repo.commit({"web": job(tag), **more}))
            await world.in_sync(commit=commits[-1])
        armed(world)

        with pytest.raises(UsageError, match=r"runs registry.example.com/team/front:1.1.0, which is quarantined"):
            await back(world, commits[1])
        answer = await back(world, commits[0])

    assert answer["to"] == commits[0]


async def test_a_commit_that_is_there_is_told_though_nobody_could_be_asked_to_merge_it() -> None:
    async with World(["web"]) as world:
        await revisions(world, 1, 2)
        _, forge = armed(world, update("front", **BY_REQUEST))
        forge.fault = ForgeUnreachable("no route")

        with pytest.raises(ForgeUnreachable):
            await back(world, by_request=True)

    assert len(world.events("rollback committed")) == 1


async def test_a_branch_that_a_reviewer_has_written_to_stays_as_it_is() -> None:
    async with World(["web"]) as world:
        await revisions(world, 1, 2)
        writer, _ = armed(world, update("front", **BY_REQUEST))
        writer.others, writer.apart = "c" * 40, {"web/a.yaml": b"by a reviewer"}

        with pytest.raises(PushRefused, match="commits of others, such as cccccccccccc") as caught:
            await back(world, by_request=True)

    assert "Merge that branch or delete it" in caught.value.hint
    assert writer.apart == {"web/a.yaml": b"by a reviewer"}


# --- what is listed, and what is told --------------------------------------------------------------------------------


@pytest.mark.parametrize("twin", ["1.1", "v1.1.0"])
async def test_another_tag_of_the_same_rank_does_not_bring_a_quarantined_one_back(twin: str) -> None:
    shop = Workshop(
        policy(),
        files={FRONT: deployment("1.0.0"), QUARANTINE_FILE: quarantined("1.1.0")},
        registry=registry("1.0.0", "1.1.0", twin),
    )
    async with shop:
        await shop.settled()
        assert shop.writer.files[FRONT] == deployment("1.0.0")

        shop.registry.push("1.1.1")
        await shop.settled()

    assert shop.writer.files[FRONT] == deployment("1.1.1")


async def test_what_is_held_is_told_once_per_tag_and_reason() -> None:
    shop = Workshop(
        policy(),
        files={FRONT: deployment("1.0.0"), QUARANTINE_FILE: quarantined("1.1.0")},
        registry=registry("1.0.0", "1.1.0"),
    )
    async with shop:
        await shop.settled()
        shop.control.lock("front", "x", None)
        await shop.settled()
        shop.control.unlock("front")
        shop.registry.push("1.2.0")
        await shop.settled()
        await shop.settled()
        assert shop.writer.files[FRONT] == deployment("1.2.0")
        shop.writer.push({FRONT: deployment("1.0.0"), QUARANTINE_FILE: quarantined("1.1.0", "1.2.0")})
        await shop.settled()

    told = [(line["tag"], str(line["reason"])) for line in shop.log.events("image held")]
    assert sorted(told) == sorted(set(told))
    assert {("1.1.0", "quarantined"), ("1.2.0", "quarantined")} <= set(told)


async def test_the_digest_of_a_bad_image_is_listed_beside_its_tag_where_a_policy_knows_it() -> None:
    """And told as it is named."""

    digest = f"sha256:{'d' * 64}"
    async with World(["web"]) as world:
        commits = [world.repo.commit({"web": job("1.0.0")})]
        await world.in_sync(commit=commits[-1])
        commits.append(world.repo.commit({"web": job("1.1.0")}))
        await world.in_sync(commit=commits[-1])
        writer, _ = armed(world)
        world.parts.rollbacks._digest = lambda image: digest if image.tag == "1.1.0" else ""

        answer = await back(world, commits[0])

    assert answer["quarantined"] == [{"image": "registry.example.com/team/front", "tag": "1.1.0", "digest": None}]
    assert digest in writer.files[QUARANTINE_FILE].decode()


# --- requests --------------------------------------------------------------------------------------------------------


async def test_a_lock_that_ends_opens_the_request_again_without_waiting_for_the_next_look() -> None:
    forge = MemoryForge()
    shop = two_policies(forge, registry("1.0.0", "1.1.0"), interval=timedelta(hours=2))
    async with shop:
        await shop.settled()
        shop.control.lock("front", "freeze", timedelta(minutes=30))
        await shop.settled()
        assert forge.open == {}
        await asyncio.sleep(1700)
        shop.automation.policies[1].bell.ring()
        await asyncio.sleep(60)
        assert forge.open == {}
        await asyncio.sleep(60)

    assert len(forge.open) == 1
    assert len([asked for asked in forge.asked if "withdraw" in asked]) == 1


async def test_a_defect_in_a_look_closes_no_request() -> None:
    forge = MemoryForge()
    shop = two_policies(forge, registry("1.0.0", "1.1.0"))
    async with shop:
        await shop.settled()
        look = shop.registry.look

        async def broken(wanted: Any, tag: str) -> Any:
            return 1 / 0 if wanted.name == "front" else await look(wanted, tag)

        shop.registry.look = broken  # type: ignore[method-assign, assignment]
        for each in shop.automation.policies:
            each.bell.ring()
            await asyncio.sleep(1)
        await asyncio.sleep(10)

        assert not [asked for asked in forge.asked if "withdraw" in asked]
        shop.log.lines = [line for line in shop.log.lines if line["event"] != "internal error"]


async def test_a_branch_that_is_made_anew_has_its_request() -> None:
    forge = MemoryForge()
    shop = two_policies(forge, registry("1.0.0", "1.1.0"))
    async with shop:
        await shop.settled()
        assert len(forge.open) == 1

        # merged, its branch deleted, and reverted before the next look
        forge.open.clear()
        shop.writer.apart = {}
        shop.writer.push({FRONT: deployment("1.1.0")})
        shop.writer.push({FRONT: deployment("1.0.0")})
        for _ in range(3):
            await shop.settled()

    assert shop.writer.apart
    assert len(forge.open) == 1


async def test_a_lock_ends_what_failed_before_it() -> None:
    shop = Workshop(
        policy(),
        files={FRONT: deployment("1.0.0")},
        registry=registry("1.0.0", "1.1.0"),
        updates=[update("front", max_commits_per_hour=1)],
    )
    async with shop:
        await shop.settled()
        shop.registry.push("1.2.0")
        await shop.settled()
        (loop,) = shop.automation.updates
        assert loop.error is not None

        shop.control.lock("front", "x", None)
        await shop.settled()

        assert loop.error is None
        assert loop._pause_s() is None
