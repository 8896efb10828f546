"""Going back: to what, by which commit or request, and what is said when it cannot be done."""

from pathlib import Path
from typing import Any

import pytest

from gitsyncd.model.errors import PushRefused, SourceError, SourceUnreachable, UsageError
from gitsyncd.model.update import Forge, PullRequest, Update
from tests.engine.imaging import MemoryForge, MemoryWriter, update
from tests.engine.mirror import BROKEN
from tests.engine.world import World, config_map


def armed(world: World, *updates: Update) -> tuple[MemoryWriter, MemoryForge]:
    """With a repository to write to, and a forge."""
    writer, forge = MemoryWriter({"web/a.yaml": b"x"}), MemoryForge()
    rollbacks = world.parts.rollbacks
    rollbacks._writer = lambda _update: writer
    rollbacks._requests = lambda each: forge if each.pull_request is not None else None
    rollbacks._updates = lambda: updates
    return writer, forge


async def back(world: World, to: str = "", **facts: Any) -> dict[str, Any]:
    return await world.control.rollback("web", to, confirmed=True, reason="it crashes", **facts)


async def two_revisions(world: World) -> tuple[str, str]:
    first = world.repo.commit({"web": [config_map("a", v="1")]})
    await world.in_sync(commit=first)
    await world.rest(5)
    second = world.repo.commit({"web": [config_map("a", v="2")]})
    await world.in_sync(commit=second)
    await world.rest(5)
    return first, second


async def test_the_last_good_one_is_put_back_by_a_commit_that_names_both() -> None:
    async with World(["web"]) as world:
        first, second = await two_revisions(world)
        writer, _ = armed(world)
        answer = await back(world)

    assert (answer["from"], answer["to"], answer["branch"], answer["path"]) == (second, first, "main", "web")
    message = writer.commits[-1].message
    assert message == f"Roll web@c1 back to {first[:12]}\n\nit crashes\n\nGitsyncd-Rollback: {second} -> {first}"
    assert f"commit: {second}".encode() in writer.files[".gitsyncd/quarantine.yaml"]
    [told] = world.log.events("rollback committed")
    assert (told["target"], told["from"], told["to"], told["quarantined"]) == ("web@c1", second, first, [])


async def test_commits_to_other_folders_are_no_place_to_go_back_to() -> None:
    async with World(["web"]) as world:
        first, second = await two_revisions(world)
        other = ""
        for number in range(3):
            other = world.repo.commit({"web": [config_map("a", v="2")], "docs": [config_map(f"z{number}")]})
            await world.in_sync(commit=other)
            await world.rest(5)
        armed(world)
        way = await world.control.rollback("web", "", confirmed=False, reason="x")

    assert (way["from"], way["to"]) == (other, first)
    assert second not in way.values()


async def test_a_revision_that_cannot_be_read_is_gone_back_from() -> None:
    async with World(["web"]) as world:
        good = world.repo.commit({"web": [config_map("a", v="1")]})
        await world.in_sync(commit=good)
        await world.rest(5)
        bad = world.repo.commit({"web": BROKEN})
        await world.until(lambda: world.state("web") == "failed")
        await world.rest(5)
        armed(world)
        answer = await back(world)

    assert (answer["from"], answer["to"], answer["quarantined"]) == (bad, good, [])


async def test_one_that_is_named_by_its_first_digits() -> None:
    async with World(["web"]) as world:
        first, _ = await two_revisions(world)
        armed(world)
        assert (await back(world, first[:8]))["to"] == first


@pytest.mark.parametrize(
    ("to", "words"), [("abc", "too short"), ("f" * 40, "is no commit"), ("0123456789", "is no commit")]
)
async def test_what_is_no_revision_to_go_back_to(to: str, words: str) -> None:
    async with World(["web"]) as world:
        await two_revisions(world)
        writer, _ = armed(world)
        with pytest.raises(UsageError, match=words) as caught:
            await back(world, to)

    assert caught.value.hint
    assert len(writer.commits) == 1


async def test_without_a_good_one_there_is_nothing_to_go_back_to() -> None:
    async with World(["web"]) as world:
        first = world.repo.commit({"web": [config_map("a", v="1")]})
        await world.in_sync(commit=first)
        await world.rest(5)
        armed(world)
        with pytest.raises(UsageError, match="no other revision of web@c1"):
            await back(world)


async def test_a_remote_out_of_reach_offers_a_pause() -> None:
    async with World(["web"]) as world:
        await two_revisions(world)
        writer, _ = armed(world)
        writer.fault = SourceUnreachable("no route")
        with pytest.raises(SourceUnreachable, match="could not be pushed: no route") as caught:
            await back(world)

    assert "gitsyncd suspend web@c1 --for 1h --reason" in caught.value.hint


async def test_a_push_that_is_refused_is_told_as_it_is() -> None:
    async with World(["web"]) as world:
        await two_revisions(world)
        writer, _ = armed(world)
        writer.refusal = PushRefused("protected branch")
        with pytest.raises(SourceError, match="protected branch"):
            await back(world)

    assert world.log.events("rollback committed") == []


async def test_by_request_it_is_pushed_to_a_branch_of_its_own_and_asked_for() -> None:
    access = PullRequest(forge=Forge.GITHUB, token_file=Path("token"), labels=("rollback",))
    async with World(["web"]) as world:
        first, _ = await two_revisions(world)
        writer, forge = armed(world, update("front", push_branch="updates", pull_request=access))
        answer = await back(world, by_request=True)

    assert answer["pull_request"] == "https://git.example/fleet/pulls/1"
    [(head, base)] = forge.open
    assert (head, base) == ("gitsyncd-rollback-web-c1", "main")
    made = forge.open[head, base]
    assert (made.title, made.labels) == (f"Roll web@c1 back to {first[:12]}", ("rollback",))
    assert len(writer.commits) == 1
    assert ".gitsyncd/quarantine.yaml" in writer.apart


async def test_nobody_can_be_asked_without_a_forge() -> None:
    async with World(["web"]) as world:
        await two_revisions(world)
        writer, _ = armed(world, update("front"))
        with pytest.raises(UsageError, match="no update of source fleet has a pull_request"):
            await back(world, by_request=True)

    assert len(writer.commits) == 1
