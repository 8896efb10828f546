"""Going back: to what, by which commit or request, and what is said when it cannot be done."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.model.errors import ManifestInvalid, PushRefused, SourceError, SourceUnreachable, UsageError
from gitsyncd.model.image import QUARANTINE_FILE, ImagePolicy
from gitsyncd.model.target import Images
from gitsyncd.model.update import Forge, PullRequest, Update
from tests.engine.imaging import MemoryForge, MemoryWriter, update
from tests.engine.mirror import BROKEN
from tests.engine.world import World, config_map, namespace


def armed(world: World, *updates: Update, policies: tuple[ImagePolicy, ...] = ()) -> tuple[MemoryWriter, MemoryForge]:
    """With a repository to write to, and a forge."""
    writer, forge = MemoryWriter({"web/a.yaml": b"x"}), MemoryForge()
    rollbacks = world.parts.rollbacks
    rollbacks._writer = lambda _update: writer
    rollbacks._requests = lambda each: forge if each.pull_request is not None else None
    rollbacks._images = lambda: Images(policies=policies, updates=updates)
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


def listing(*commits: str) -> Any:
    """The quarantine file, as it stands in a repository in memory."""
    return {"commits": [{"commit": commit, "reason": "it crashes"} for commit in commits]}


async def revisions(world: World, *numbers: int, **facts: Any) -> list[str]:
    """One healthy revision each."""
    found = []
    for number in numbers:
        found.append(world.repo.commit({"web": [config_map("a", v=str(number))], **facts}))
        await world.in_sync(commit=found[-1])
        await world.rest(5)
    return found


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


# --- never to what is quarantined ------------------------------------------------------------------------------------
async def test_a_second_one_goes_one_further_back_and_not_forward_to_the_bad_one() -> None:
    async with World(["web"]) as world:
        oldest, older, bad = await revisions(world, 1, 2, 3)
        armed(world)
        assert (await back(world))["to"] == older
        [again] = await revisions(world, 2, **{QUARANTINE_FILE: listing(bad)})
        answer = await back(world)

    assert (answer["from"], answer["to"], answer["passed_over"]) == (again, oldest, [bad])


async def test_what_was_brought_again_by_another_commit_is_passed_over_as_well() -> None:
    async with World(["web"]) as world:
        good, bad = await revisions(world, 1, 2)
        _, twin, worse = await revisions(world, 1, 2, 3, **{QUARANTINE_FILE: listing(bad)})
        armed(world)
        answer = await back(world)

        assert world.repo.commits[answer["to"]].files["web"] == world.repo.commits[good].files["web"]
        assert (answer["from"], answer["passed_over"]) == (worse, [twin])
        for commit, words in ((bad, r"is quarantined \(it crashes\)"), (twin, "wants the same as a commit that is")):
            with pytest.raises(UsageError, match=words) as caught:
                await back(world, commit)
            assert QUARANTINE_FILE in caught.value.hint


async def test_a_commit_that_people_listed_and_that_no_history_has() -> None:
    async with World(["web"]) as world:
        await revisions(world, 1)
        listed = world.repo.commit({"web": [config_map("a", v="2")]})
        twin = world.repo.commit({"web": [config_map("a", v="2")], "docs": [], QUARANTINE_FILE: listing(listed)})
        await revisions(world, 3, **{QUARANTINE_FILE: listing(listed)})
        armed(world)
        with pytest.raises(UsageError, match="wants the same as a commit that is quarantined"):
            await back(world, twin)


async def test_what_was_bad_for_one_target_is_no_reason_against_what_another_one_had_then() -> None:
    async with World(["web", "api"]) as world:
        api = {"api": [config_map("b", v="1")]}
        first, bad = await revisions(world, 1, 2, **api)
        held = {QUARANTINE_FILE: listing(bad)}
        await revisions(world, 1, **api, **held)
        await revisions(world, 1, api=[config_map("b", v="2")], **held)
        armed(world)
        way = await world.control.rollback("api", "", confirmed=False, reason="x")

    assert (way["to"], way["passed_over"]) == (first, [])


async def test_the_commit_that_brought_it_is_listed_and_not_a_later_one_of_others() -> None:
    async with World(["web"]) as world:
        _, bad = await revisions(world, 1, 2)
        [present] = await revisions(world, 2, docs=[])
        writer, _ = armed(world)
        await back(world)

    listed = writer.files[QUARANTINE_FILE].decode()
    assert (f"commit: {present}" in listed, f"commit: {bad}" in listed) == (False, True)


async def test_where_all_good_ones_are_quarantined_there_is_nothing_to_go_back_to() -> None:
    async with World(["web"]) as world:
        [bad] = await revisions(world, 1)
        await revisions(world, 2, **{QUARANTINE_FILE: listing(bad)})
        armed(world)
        with pytest.raises(UsageError, match="in sync and healthy and is not quarantined"):
            await back(world)


async def test_what_is_quarantined_between_the_look_and_the_push_is_not_written() -> None:
    async with World(["web"]) as world:
        good, _ = await revisions(world, 1, 2)
        writer, _ = armed(world)
        entry = f"commits:\n  - commit: {good}\n".encode()
        writer.rival = lambda: writer.push({QUARANTINE_FILE: entry})
        with pytest.raises(SourceError, match="somebody has just quarantined"):
            await back(world)

    assert writer.files[QUARANTINE_FILE] == entry


async def test_a_quarantine_file_that_cannot_be_read_is_told_at_once() -> None:
    async with World(["web"]) as world:
        broken: Any = {"commits": "none"}
        await revisions(world, 1, 2, **{QUARANTINE_FILE: broken})
        with pytest.raises(ManifestInvalid, match=r"quarantine\.yaml"):
            await world.control.rollback("web", "", confirmed=False, reason="x")


# --- what others pushed ----------------------------------------------------------------------------------------------
async def test_what_people_pushed_meanwhile_is_not_taken_back_unless_it_is_said() -> None:
    async with World(["web"]) as world:
        first, second = await revisions(world, 1, 2)
        writer, _ = armed(world)
        cure = world.repo.commit({"web": [config_map("a", v="3")]})
        other = world.repo.commit({"web": [config_map("a", v="3")], "docs": []})
        with pytest.raises(UsageError, match="main has newer commits below web") as caught:
            await back(world)
        assert (cure[:12] in caught.value.message, other[:12] in caught.value.message) == (True, False)
        assert "gitsyncd sync web@c1" in caught.value.hint
        assert len(writer.commits) == 1

        answer = await back(world, first)

    assert (answer["from"], answer["to"], answer["reverted"]) == (second, first, [cure])
    assert f"- {cure}" in writer.commits[-1].message
    assert world.log.events("rollback committed")[0]["reverted"] == [cure]


async def test_what_people_pushed_elsewhere_is_nobodys_hindrance() -> None:
    async with World(["web"]) as world:
        first, _ = await revisions(world, 1, 2)
        armed(world)
        world.repo.commit({"web": [config_map("a", v="2")], "docs": []})
        answer = await back(world)

    assert (answer["to"], answer["reverted"]) == (first, [])


@pytest.mark.parametrize("digits", [40, 8])
async def test_there_is_no_way_back_to_what_is_there(digits: int) -> None:
    async with World(["web"]) as world:
        _, second = await revisions(world, 1, 2)
        writer, _ = armed(world)
        with pytest.raises(UsageError, match=r"web@c1 has what .* wants: there is nothing to go back from"):
            await back(world, second[:digits])

    assert len(writer.commits) == 1


async def test_what_wants_the_same_in_other_words_is_there_already() -> None:
    """As the whole repository does after a rollback, but for the quarantine file."""
    async with World(["web"]) as world:
        both = [config_map("a", v="1"), config_map("b", v="1")]
        first = world.repo.commit({"web": both})
        await world.in_sync(commit=first)
        await world.rest(5)
        await revisions(world, 2)
        again = world.repo.commit({"web": both[::-1]})
        await world.in_sync(commit=again)
        await world.rest(5)
        armed(world)
        with pytest.raises(UsageError, match="there is nothing to go back from"):
            await back(world, first)


async def test_what_the_agent_file_says_otherwise_now_makes_no_other_revision_of_the_present_one() -> None:
    """History has what a commit wanted then; what it wants now is told by the agent file, too."""
    async with World(["web"]) as world:
        commits = []
        for number in "12":
            placeless = config_map("a", v=number)
            del placeless["metadata"]["namespace"]
            commits.append(world.repo.commit({"web": [namespace("elsewhere"), placeless]}))
            await world.in_sync(commit=commits[-1])
            await world.rest(5)
        configuration = world.parts.configuration
        [only] = configuration.targets
        await world.parts.adopt(replace(configuration, targets=(replace(only, namespace="elsewhere"),)))
        world.parts.start()
        await world.in_sync(commit=commits[-1])
        armed(world)
        answer = await back(world)

    assert (answer["from"], answer["to"]) == (commits[1], commits[0])


async def test_a_good_one_that_a_rewritten_history_has_lost_is_none_to_go_back_to() -> None:
    async with World(["web"]) as world:
        first, lost, _ = await revisions(world, 1, 2, 3)
        world.repo.commits[lost] = replace(world.repo.commits[lost], files={})
        armed(world)
        answer = await back(world)

    assert (answer["to"], answer["passed_over"]) == (first, [])


async def test_a_commit_that_cannot_be_read_is_none_to_go_back_to() -> None:
    async with World(["web"]) as world:
        empty = world.repo.commit({"docs": []})
        unreadable = world.repo.commit({"web": BROKEN})
        await revisions(world, 1)
        armed(world)
        for commit in (empty, unreadable):
            with pytest.raises(UsageError, match="has at web cannot be read, or is not there"):
                await back(world, commit)

        present = world.repo.commit({"web": BROKEN})
        await world.until(lambda: world.state("web") == "failed")
        with pytest.raises(UsageError, match="cannot be read"):
            await back(world, present)


# --- who writes ------------------------------------------------------------------------------------------------------
async def test_by_request_it_is_an_update_that_has_requests_and_the_question_is_checked_before_it_is_meant() -> None:
    access = PullRequest(forge=Forge.GITHUB, token_file=Path("token"))
    async with World(["web"]) as world:
        await revisions(world, 1, 2)
        _, forge = armed(world, update("a"), update("b", name="asks", push_branch="updates", pull_request=access))
        await back(world, by_request=True)
        assert len(forge.open) == 1

        armed(world, update("a"))
        with pytest.raises(UsageError, match="no update of source fleet has a pull_request"):
            await world.control.rollback("web", "", confirmed=False, reason="x", by_request=True)


async def test_a_remote_out_of_reach_offers_a_pause_at_the_first_look_too() -> None:
    async with World(["web"]) as world:
        await revisions(world, 1, 2)
        armed(world)
        world.repo.fault = lambda _: SourceUnreachable("no route")
        with pytest.raises(SourceUnreachable, match="could not be pushed: no route") as caught:
            await world.control.rollback("web", "", confirmed=False, reason="x")

    assert "gitsyncd suspend web@c1" in caught.value.hint
