"""From tags to commits: what is written, when, what is held, and what no registry and no rival can make happen."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.edges.store import MemoryStore
from gitsyncd.edges.yaml.images import Files
from gitsyncd.model.errors import (
    ForgeDenied,
    GitsyncdError,
    LocalError,
    ManifestInvalid,
    PushRefused,
    RegistryDenied,
    RegistryThrottled,
    RegistryUnreachable,
    SourceUnreachable,
    UsageError,
)
from gitsyncd.model.image import Mark, PinDigest, Rule, Schedule, Select
from gitsyncd.model.update import Forge, MergeRequest, PullRequest
from tests.engine.imaging import MemoryForge, MemoryRegistry, MemoryWriter, Workshop, deployment, digest, policy, update

FRONT = "web/front.yaml"


def registry(*tags: str, **facts: Any) -> MemoryRegistry:
    found = MemoryRegistry()
    for tag in tags:
        found.push(tag, **facts)
    return found


async def test_a_new_tag_is_one_commit_and_nothing_else_of_the_file_changes() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.2.0", "2.0.0"))

    async with shop:
        await shop.until(lambda: len(shop.writer.commits) == 2)
        await shop.settled()

    assert shop.writer.files[FRONT] == deployment("1.2.0")
    assert [commit.message for commit in shop.writer.commits[1:]] == [
        (
            "Update front to 1.2.0\n\n"
            "Gitsyncd-Policy: front\n"
            "Gitsyncd-Image: registry.example.com/team/front:1.0.0 -> 1.2.0\n"
        )
    ]
    [selected] = shop.log.events("image selected")
    assert {key: selected[key] for key in ("policy", "image", "tag", "digest", "previous")} == {
        "policy": "front",
        "image": "registry.example.com/team/front",
        "tag": "1.2.0",
        "digest": digest("front:1.2.0"),
        "previous": "1.0.0",
    }
    [committed] = shop.log.events("images committed")
    assert committed["changes"] == [
        {
            "file": FRONT,
            "policy": "front",
            "old": "registry.example.com/team/front:1.0.0",
            "new": "registry.example.com/team/front:1.2.0",
        }
    ]
    assert (committed["update"], committed["branch"], committed["attempts"]) == ("fleet", "main", 1)
    assert shop.pushed == ["fleet"]


async def test_a_hundred_idle_intervals_make_no_commit_and_say_nothing() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.2.0")}, registry=registry("1.2.0"))

    async with shop:
        await shop.until(lambda: shop.automation.policies[0].looks == 1)
        said = len(shop.log.lines)
        await shop.until(lambda: shop.automation.policies[0].looks > 100, within_s=100 * 400)

    assert len(shop.writer.commits) == 1
    assert shop.log.lines[said:] == []


async def test_what_is_chosen_at_the_same_time_is_one_commit() -> None:
    found = registry("1.0.0", "1.1.0")
    found.push("1.0.0", name="back")
    found.push("1.5.0", name="back")
    files = {FRONT: deployment("1.0.0"), "web/back.yaml": deployment("1.0.0", "back", "back")}
    shop = Workshop(policy(), policy("back"), files=files, registry=found)

    async with shop:
        await shop.settled()

    assert len(shop.writer.commits) == 2
    assert shop.writer.files == {FRONT: deployment("1.1.0"), "web/back.yaml": deployment("1.5.0", "back", "back")}
    assert shop.writer.commits[-1].message.startswith("Update 2 images: front, back\n")


async def test_a_lost_race_is_written_again_on_what_the_other_wrote() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"))
    shop.writer.rival = lambda: shop.writer.push({"web/other.yaml": b"kind: ConfigMap\n"})

    async with shop:
        await shop.until(lambda: len(shop.writer.commits) == 3)

    assert shop.writer.files == {FRONT: deployment("1.1.0"), "web/other.yaml": b"kind: ConfigMap\n"}
    assert [event["attempts"] for event in shop.log.events("images committed")] == [2]


async def test_a_rival_that_wrote_the_same_leaves_nothing_to_write() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"))
    shop.writer.rival = lambda: shop.writer.push({FRONT: deployment("1.1.0")}, "by the other daemon")

    async with shop:
        await shop.until(lambda: len(shop.writer.commits) == 2)
        await shop.settled()

    assert [commit.message for commit in shop.writer.commits[1:]] == ["by the other daemon"]


async def test_ten_daemons_on_one_branch_make_one_commit() -> None:
    writer = MemoryWriter({FRONT: deployment("1.0.0")})
    tags = registry("1.0.0", "1.1.0")
    shops = [Workshop(policy(), files={}, registry=tags, writer=writer) for _ in range(10)]

    await asyncio.gather(*(_run(shop) for shop in shops))

    assert len(writer.commits) == 2
    assert writer.files[FRONT] == deployment("1.1.0")


async def _run(shop: Workshop) -> None:
    async with shop:
        await shop.settled()
        await shop.settled()


# --- held ------------------------------------------------------------------------------------------------------------
async def test_a_quarantined_tag_stays_out_and_a_newer_one_passes() -> None:
    bad = {"image": "registry.example.com/team/front", "tag": "1.1.0", "reason": "breaks the login"}
    listed = f"images:\n  - {bad}\n".replace("'", '"').encode()
    files = {FRONT: deployment("1.0.0"), ".gitsyncd/quarantine.yaml": listed}
    shop = Workshop(policy(), files=files, registry=registry("1.0.0", "1.1.0"))

    async with shop:
        await shop.settled()
        assert len(shop.writer.commits) == 1
        assert shop.state()["held"] == [{"tag": "1.1.0", "reason": "quarantined", "detail": "breaks the login"}]
        await shop.settled()
        shop.registry.push("1.1.1")
        await shop.settled()

    assert shop.writer.files[FRONT] == deployment("1.1.1")
    assert [event["tag"] for event in shop.log.events("image held", reason="quarantined")] == ["1.1.0"]


async def test_a_tag_that_is_quarantined_between_choice_and_push_is_not_written() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"))
    entry = b"images:\n  - {image: registry.example.com/team/front, tag: 1.1.0}\n"
    shop.writer.rival = lambda: shop.writer.push({".gitsyncd/quarantine.yaml": entry})

    async with shop:
        await shop.settled()
        await shop.settled()

    assert shop.writer.files[FRONT] == deployment("1.0.0")


async def test_a_quarantine_that_cannot_be_read_stops_everything_and_names_the_line() -> None:
    files = {FRONT: deployment("1.0.0"), ".gitsyncd/quarantine.yaml": b"images:\n  - {image: [}\n"}
    shop = Workshop(policy(), files=files, registry=registry("1.0.0", "1.1.0"))

    async with shop:
        await shop.settled()
        state = shop.state()
        shop.writer.push({".gitsyncd/quarantine.yaml": b"images: []\n"})
        await shop.until(lambda: len(shop.writer.commits) == 3)

    assert state["state"] == "failed"
    assert ".gitsyncd/quarantine.yaml:2" in state["error"]
    assert shop.writer.files[FRONT] == deployment("1.1.0")


async def test_a_lock_holds_until_its_time_is_over_and_outlives_a_restart() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0"))
    async with shop:
        await shop.settled()
        shop.control.lock("front", "release freeze", timedelta(hours=1))
        shop.registry.push("1.1.0")
        await shop.settled()
        assert (shop.state()["state"], shop.state()["locked"]["reason"]) == ("locked", "release freeze")

    again = Workshop(policy(), files={}, registry=shop.registry, writer=shop.writer, store=shop.store)
    async with again:
        await again.settled()
        assert len(again.writer.commits) == 1
        assert again.log.events("image held", reason="locked", tag="1.1.0")
        await again.until(lambda: len(again.writer.commits) == 2, within_s=4000)

    assert again.writer.files[FRONT] == deployment("1.1.0")


async def test_unlocking_lets_it_pass_at_once() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0"))
    async with shop:
        await shop.settled()
        shop.control.lock("front", "freeze", None)
        shop.registry.push("1.1.0")
        await shop.settled()
        assert shop.control.unlock("front") == {"policy": "front", "was_locked": True}
        await shop.until(lambda: len(shop.writer.commits) == 2, within_s=5)


async def test_people_who_went_ahead_are_not_taken_back() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"))
    async with shop:
        await shop.settled()
        shop.writer.push({FRONT: deployment("1.9.0")})
        await shop.settled()
        await shop.settled()

    assert shop.writer.files[FRONT] == deployment("1.9.0")
    assert [event["tag"] for event in shop.log.events("image held", reason="backwards")] == ["1.1.0"]


async def test_a_tag_that_vanished_while_it_was_in_use_moves_nothing() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"))
    async with shop:
        await shop.settled()
        del shop.registry.images["registry.example.com/team/front"]["1.1.0"]
        await shop.settled()
        await shop.settled()

    assert shop.writer.files[FRONT] == deployment("1.1.0")
    assert len(shop.writer.commits) == 2


async def test_an_age_without_a_creation_time_counts_from_when_the_tag_was_first_seen_across_a_restart() -> None:
    young = policy(min_age=timedelta(hours=1))
    shop = Workshop(young, files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"))
    async with shop:
        await shop.settled()
        assert shop.log.events("image held", reason="too-young")
        await asyncio.sleep(1800)

    again = Workshop(young, files={}, registry=shop.registry, writer=shop.writer, store=shop.store)
    async with again:
        begun = again.clock.monotonic()
        await again.until(lambda: len(again.writer.commits) == 2)
        assert 1700 < again.clock.monotonic() - begun < 2200


# --- digests ---------------------------------------------------------------------------------------------------------
async def test_a_tag_that_moves_is_followed_by_its_digest() -> None:
    moving = policy(select=Select(rule=Rule.DIGEST, wanted="latest"))
    shop = Workshop(moving, files={FRONT: deployment("latest")}, registry=registry("latest"))
    async with shop:
        await shop.settled()
        first = digest("front:latest")
        assert shop.writer.files[FRONT] == deployment(f"latest@{first}")
        shop.registry.push("latest", content="anew")
        await shop.settled()

    assert shop.writer.files[FRONT] == deployment(f"latest@{digest('anew')}")
    assert shop.writer.commits[-1].message.endswith(
        f"Gitsyncd-Image: registry.example.com/team/front:latest@{first} -> latest@{digest('anew')}\n"
    )


async def test_a_pinned_digest_that_is_there_stays_until_the_tag_moves() -> None:
    pinned = policy(pin_digest=PinDigest.IF_NOT_PRESENT)
    shop = Workshop(pinned, files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0"))
    async with shop:
        await shop.settled()
        assert shop.writer.files[FRONT] == deployment(f"1.0.0@{digest('front:1.0.0')}")
        shop.registry.push("1.0.0", content="anew")
        await shop.settled()
        assert shop.writer.files[FRONT] == deployment(f"1.0.0@{digest('front:1.0.0')}")
        shop.registry.push("1.1.0")
        await shop.settled()

    assert shop.writer.files[FRONT] == deployment(f"1.1.0@{digest('front:1.1.0')}")


# --- failures --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "fault",
    [RegistryUnreachable("down"), RegistryDenied("no"), RegistryThrottled("slow down", retry_after_s=120)],
)
async def test_a_registry_that_fails_is_told_once_and_recovers_by_itself(fault: GitsyncdError) -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"))
    shop.registry.fault = fault
    async with shop:
        await shop.until(lambda: shop.automation.policies[0].looks > 4)
        assert len(shop.writer.commits) == 1
        assert shop.state()["state"] == "failed"
        shop.registry.fault = None
        await shop.until(lambda: len(shop.writer.commits) == 2)

    [told] = shop.log.events("registry unreachable")
    assert (told["policy"], told["error"], told["remedy"], bool(told["hint"])) == (
        "front",
        str(fault),
        fault.remedy,
        True,
    )
    assert len(shop.log.events("registry recovered")) == 1


async def test_a_throttling_registry_is_left_alone_for_as_long_as_it_asked() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0"))
    shop.registry.fault = RegistryThrottled("slow down", retry_after_s=900)
    async with shop:
        await shop.until(lambda: shop.automation.policies[0].looks == 1)
        asked = len(shop.registry.asked)
        await asyncio.sleep(890)
        assert len(shop.registry.asked) == asked


async def test_a_push_that_is_refused_is_told_once_with_its_fix_and_tried_again() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"))
    shop.writer.refusal = PushRefused("the server says: protected branch")
    async with shop:
        await shop.until(lambda: bool(shop.log.events("image update failed")))
        await asyncio.sleep(600)
        told = shop.log.events("image update failed", update="fleet")
        state = shop.control.status()["updates"][0]
        shop.writer.refusal = None
        await shop.until(lambda: len(shop.writer.commits) == 2)

    assert [(each["error"], each["remedy"], bool(each["hint"])) for each in told] == [
        ("the server says: protected branch", "fix-repo", True)
    ]
    assert (state["state"], state["error"]) == ("failed", "the server says: protected branch")


async def test_a_repository_out_of_reach_moves_nothing_and_is_tried_again() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"))
    shop.writer.fault = SourceUnreachable("the server is down")
    async with shop:
        await asyncio.sleep(600)
        assert (shop.state()["state"], shop.state()["tag"]) == ("failed", None)
        shop.writer.fault = None
        await shop.until(lambda: len(shop.writer.commits) == 2)

    assert len(shop.log.events("image update failed")) == 1


async def test_more_commits_than_an_hour_may_have_wait_for_the_next() -> None:
    limited = update("front", max_commits_per_hour=2)
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0"), updates=[limited])
    async with shop:
        for number in range(1, 4):
            shop.registry.push(f"1.{number}.0")
            await shop.settled()
        assert shop.writer.files[FRONT] == deployment("1.2.0")
        assert shop.log.events("image update failed", update="fleet", remedy="wait")
        await shop.until(lambda: len(shop.writer.commits) == 4, within_s=3700)
        assert shop.clock.monotonic() > 3500

    assert shop.writer.files[FRONT] == deployment("1.3.0")


async def test_a_file_that_cannot_be_read_is_told_and_the_others_are_written() -> None:
    files = {FRONT: deployment("1.0.0"), "web/bad.yaml": b'a: [ # {"$imagepolicy": "front"}\n'}
    shop = Workshop(policy(), files=files, registry=registry("1.0.0", "1.1.0"))
    async with shop:
        await shop.settled()
        problems = shop.control.status()["updates"][0]["problems"]

    assert shop.writer.files[FRONT] == deployment("1.1.0")
    assert [(each["file"], each["line"]) for each in problems] == [("web/bad.yaml", 2)]


async def test_a_policy_whom_no_tag_fits_says_so() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("none")}, registry=registry("latest", "v9"))
    async with shop:
        await shop.settled()

    assert shop.log.events("registry unreachable")[0]["error"].endswith("none of 2 tags fits the policy")


async def test_a_registry_that_lists_tags_and_has_no_image_for_them_is_told() -> None:
    listing = registry("1.0.0", "1.1.0")
    kept = dict(listing.images["registry.example.com/team/front"])
    listing.images["registry.example.com/team/front"] = dict.fromkeys(kept)  # type: ignore[assignment]
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=listing)
    async with shop:
        await shop.settled()
        assert "has no image for them" in shop.log.events("registry unreachable")[0]["error"]
        listing.images["registry.example.com/team/front"] = kept
        await asyncio.sleep(60)

    assert shop.log.events("registry recovered")
    assert shop.writer.files[FRONT] == deployment("1.1.0")


async def test_one_mark_that_cannot_be_followed_is_told_and_all_others_are_written() -> None:
    block = b'note: |- # {"$imagepolicy": "front"}\n  two\n  lines\n'
    files = {FRONT: deployment("1.0.0") + block, "web/more.yaml": deployment("1.0.0")}
    shop = Workshop(policy(), files=files, registry=registry("1.0.0", "1.1.0"))
    async with shop:
        await shop.settled()
        await shop.settled()
        state = shop.control.status()["updates"][0]

    assert shop.writer.files == {FRONT: deployment("1.1.0") + block, "web/more.yaml": deployment("1.1.0")}
    [told] = shop.log.events("image update failed")
    assert (told["update"], told["file"], told["line"], told["remedy"]) == ("fleet", FRONT, 5, "fix-repo")
    assert "more than one line" in told["error"]
    assert told["hint"]
    assert (state["state"], [each["line"] for each in state["problems"]]) == ("failed", [5])


async def test_files_that_cannot_be_read_are_told_once_each_until_they_are_mended() -> None:
    mark = b'# {"$imagepolicy": "front"}\n'
    files = {
        FRONT: deployment("1.0.0"),
        "web/broken.yaml": b"a: 1\nb: [ " + mark,
        "web/latin.yaml": b"a: \xe4 " + mark,
        "web/large.yaml": b"a: b " + mark + b"# x\n" * 1_100_000,
    }
    shop = Workshop(policy(), files=files, registry=registry("1.0.0", "1.1.0"))
    async with shop:
        await shop.settled()
        await shop.settled()
        told = [(each["file"], each["line"]) for each in shop.log.events("image update failed")]
        assert shop.control.status()["updates"][0]["state"] == "failed"
        shop.writer.push({path: b"a: 1\n" for path in files if path != FRONT})
        await asyncio.sleep(3)
        await shop.settled()
        state = shop.control.status()["updates"][0]
        shop.writer.push({"web/latin.yaml": files["web/latin.yaml"]})
        await asyncio.sleep(3)
        await shop.settled()

    assert shop.writer.files[FRONT] == deployment("1.1.0")
    assert told == [("web/broken.yaml", 3), ("web/large.yaml", 1), ("web/latin.yaml", 1)]
    assert (state["state"], state["problems"]) == ("ready", [])
    assert len(shop.log.events("image update failed")) == 4


async def test_a_file_that_cannot_be_written_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Files.edited

    def edited(self: Files, file: str, content: bytes, values: Mapping[Mark, str]) -> bytes:
        if file == "web/odd.yaml":
            raise ManifestInvalid("the edit would change more than the marked scalar", file=file, line=3)
        return honest(self, file, content, values)

    monkeypatch.setattr(Files, "edited", edited)
    files = {FRONT: deployment("1.0.0"), "web/odd.yaml": deployment("1.0.0")}
    shop = Workshop(policy(), files=files, registry=registry("1.0.0", "1.1.0"))
    async with shop:
        await shop.settled()
        await shop.settled()
        problems = shop.control.status()["updates"][0]["problems"]

    assert shop.writer.files == {FRONT: deployment("1.1.0"), "web/odd.yaml": deployment("1.0.0")}
    assert [each["file"] for each in problems] == ["web/odd.yaml"]
    assert [each["file"] for each in shop.log.events("image update failed")] == ["web/odd.yaml"]
    [committed] = shop.log.events("images committed")
    assert [change["file"] for change in committed["changes"]] == [FRONT]


# --- what is in between ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("request_too", [False, True])
async def test_a_push_that_arrived_without_an_answer_is_told_and_counted(request_too: bool) -> None:
    shop = (
        by_request(MemoryForge(), "1.0.0", "1.1.0")
        if request_too
        else Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"))
    )
    shop.writer.lost = True
    async with shop:
        await shop.until(lambda: bool(shop.log.events("images committed")))
        await shop.settled()
        await shop.settled()
        state = shop.control.status()["updates"][0]

    [committed] = shop.log.events("images committed")
    assert [change["new"] for change in committed["changes"]] == ["registry.example.com/team/front:1.1.0"]
    assert shop.pushed == ["fleet"]
    assert (state["state"], state["commit"]) == ("ready", committed["commit"])
    assert len(shop.store.load("update-fleet")["commits"]) == 1
    assert len(shop.log.events("image update failed")) == 1


async def test_a_lock_that_comes_between_the_choice_and_the_push_holds() -> None:
    found = registry("1.0.0", "1.1.0")
    found.push("1.5.0", name="back")
    files = {FRONT: deployment("1.0.0"), "web/back.yaml": deployment("1.0.0", "back", "back")}
    shop = Workshop(policy(), policy("back"), files=files, registry=found)
    shop.writer.meanwhile = lambda: shop.control.lock("front", "not now", None)
    async with shop:
        await shop.settled()

    assert shop.writer.files == {FRONT: deployment("1.0.0"), "web/back.yaml": deployment("1.5.0", "back", "back")}
    assert shop.log.events("image update failed") == []


async def test_a_look_that_does_not_end_is_given_up_and_told() -> None:
    shop = Workshop(policy("back"), files={}, registry=SlowRegistry())
    async with shop:
        await shop.until(lambda: bool(shop.log.events("registry unreachable")), within_s=901)
        assert shop.state("back")["state"] == "failed"

    [told] = shop.log.events("registry unreachable")
    assert "the look was not over within 15 minutes" in told["error"]
    assert told["hint"]


async def test_a_policy_that_fails_meanwhile_holds_up_no_commit_of_the_others() -> None:
    files = {FRONT: deployment("1.0.0"), "web/back.yaml": deployment("1.0.0", "back", "back")}
    shop = Workshop(policy(), policy("back"), files=files, registry=both())
    async with shop:
        await shop.settled()
        before = shop.writer.asked
        shop.registry.push("1.2.0")

        def fail() -> None:
            shop.automation.policies[1].error = RegistryUnreachable("down")

        shop.writer.meanwhile = fail
        await asyncio.sleep(3)
        shop.automation.policies[0].bell.ring()
        await shop.until(lambda: len(shop.writer.commits) == 3, within_s=10)

    assert shop.writer.asked - before == 3, "one look, one commit, one look at what it has made of it"


class FullDisk(MemoryStore):
    """Takes nothing of updates while it is full."""

    is_full = True

    def save(self, name: str, value: Mapping[str, Any]) -> None:
        if self.is_full and name.startswith("update-"):
            raise LocalError("the disk is full")
        super().save(name, value)


async def test_a_full_disk_is_told_once_and_loses_no_event_and_repeats_no_commit() -> None:
    store = FullDisk()
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"), store=store)
    async with shop:
        await shop.settled()
        await shop.settled()
        await asyncio.sleep(900)
        state = shop.control.status()["updates"][0]
        assert store.load("update-fleet") == {}
        store.is_full = False
        await asyncio.sleep(900)

    assert len(shop.writer.commits) == 2
    assert len(shop.log.events("images committed")) == 1
    assert shop.pushed == ["fleet"]
    assert [each["error"] for each in shop.log.events("image update failed")] == ["the disk is full"]
    assert state["state"] == "failed"
    assert len(store.load("update-fleet")["commits"]) == 1


class SlowRegistry(MemoryRegistry):
    """Never answers about `back`."""

    async def tags(self, image: str) -> Sequence[str]:
        if image.endswith("/back"):
            await asyncio.Event().wait()
        return await super().tags(image)


async def test_a_registry_that_is_slow_for_one_policy_holds_up_no_other() -> None:
    found = SlowRegistry()
    for tag in ("1.0.0", "1.1.0"):
        found.push(tag)
    files = {FRONT: deployment("1.0.0"), "web/back.yaml": deployment("1.0.0", "back", "back")}
    shop = Workshop(policy(), policy("back"), files=files, registry=found)
    async with shop:
        await shop.until(lambda: len(shop.writer.commits) == 2, within_s=10)

    assert shop.writer.files[FRONT] == deployment("1.1.0")


# --- when ------------------------------------------------------------------------------------------------------------
async def test_a_schedule_decides_when_a_registry_is_asked() -> None:
    nightly = policy(schedule=Schedule(cron="30 3 * * *", time_zone="Europe/Berlin"))
    shop = Workshop(nightly, files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0"))
    async with shop:
        await shop.until(lambda: shop.automation.policies[0].looks == 1)
        await shop.until(lambda: shop.automation.policies[0].looks == 3, within_s=3 * 86_400)
        hours = shop.automation.policies[0].looked_at

    assert hours is not None
    assert (hours.hour, hours.minute) in {(1, 30), (2, 30)}


async def test_a_changed_section_takes_the_place_of_the_old_one_and_forgets_nothing() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0", "2.1.0"))
    async with shop:
        await shop.settled()
        wider = replace(shop.images, policies=(policy(wanted=">=1.0 <3"),))
        await shop.adopt(wider)
        await shop.until(lambda: len(shop.writer.commits) == 3)

    assert shop.writer.files[FRONT] == deployment("2.1.0")


async def test_what_was_lost_with_the_disk_is_read_from_git() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"))
    async with shop:
        await shop.settled()
    again = Workshop(policy(), files={}, registry=shop.registry, writer=shop.writer, store=MemoryStore())
    del shop.registry.images["registry.example.com/team/front"]["1.1.0"]
    async with again:
        await again.settled()

    assert again.writer.files[FRONT] == deployment("1.1.0")


async def test_a_name_that_is_no_policy() -> None:
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0"))
    async with shop:
        with pytest.raises(UsageError, match="there is no policy 'font'"):
            shop.control.lock("font", "x", None)
        with pytest.raises(UsageError, match="there is no policy 'font'"):
            shop.control.status(["font"])


# --- pull requests ---------------------------------------------------------------------------------------------------
def by_request(forge: MemoryForge, *tags: str) -> Workshop:
    access = PullRequest(forge=Forge.GITEA, token_file=Path("token"), labels=("images",))
    rolling = update("front", push_branch="updates", pull_request=access)
    return Workshop(
        policy(), files={FRONT: deployment("1.0.0")}, registry=registry(*tags), updates=[rolling], forge=forge
    )


async def test_a_request_says_what_would_move_and_is_asked_for_only_when_that_changes() -> None:
    forge = MemoryForge()
    shop = by_request(forge, "1.0.0", "1.1.0")
    async with shop:
        await shop.settled()
        await shop.settled()
        assert forge.asked == ["ensure"]
        [made] = forge.open.values()

    assert (made.head, made.base, made.title, made.labels) == ("updates", "main", "Update front to 1.1.0", ("images",))
    assert (
        "| `web/front.yaml` | `front` | `registry.example.com/team/front:1.0.0` | `registry.example.com/team/front:1.1.0` |"
        in made.body
    )


async def test_a_request_for_what_has_arrived_is_withdrawn() -> None:
    forge = MemoryForge()
    forge.open["updates", "main"] = MergeRequest(head="updates", base="main", title="old", body="")
    shop = by_request(forge, "1.0.0")
    async with shop:
        await shop.settled()
        await shop.settled()

    assert forge.open == {}
    assert len(forge.asked) == 1


def two_by_request(
    forge: MemoryForge, found: MemoryRegistry, store: MemoryStore | None = None, writer: MemoryWriter | None = None
) -> Workshop:
    access = PullRequest(forge=Forge.GITEA, token_file=Path("token"))
    rolling = update("front", "back", push_branch="updates", pull_request=access)
    files = {FRONT: deployment("1.0.0"), "web/back.yaml": deployment("1.0.0", "back", "back")}
    return Workshop(
        policy(),
        policy("back"),
        files=files,
        registry=found,
        updates=[rolling],
        forge=forge,
        store=store,
        writer=writer,
    )


class HalfRegistry(MemoryRegistry):
    """Answers with a fault, or never, about `back` alone."""

    half: Exception | asyncio.Event | None = None

    async def tags(self, image: str) -> Sequence[str]:
        if image.endswith("/back"):
            if isinstance(self.half, Exception):
                raise self.half
            if self.half is not None:
                await self.half.wait()
        return await super().tags(image)


def both() -> HalfRegistry:
    found = HalfRegistry()
    for name in ("front", "back"):
        found.push("1.0.0", name=name)
        found.push("1.1.0", name=name)
    return found


@pytest.mark.parametrize("doubt", ["registry", "start"])
async def test_as_long_as_one_policy_is_in_doubt_branch_and_request_stay_as_they_are(doubt: str) -> None:
    found, forge, store = both(), MemoryForge(), MemoryStore()
    shop = two_by_request(forge, found, store)
    async with shop:
        await shop.settled()
        before, asked = dict(shop.writer.apart), len(forge.asked)
        [request] = forge.open.values()
        if doubt == "registry":
            found.half = RegistryUnreachable("down")
        if doubt != "start":
            found.push("1.2.0")
            await shop.settled()
            await asyncio.sleep(600)
    if doubt == "start":
        found.half = asyncio.Event()
        found.push("1.2.0")
        again = two_by_request(forge, found, store, shop.writer)
        async with again:
            await asyncio.sleep(600)

    assert set(before) == {FRONT, "web/back.yaml"}
    assert shop.writer.apart == before
    assert forge.open == {("updates", "main"): request}
    assert len(forge.asked) == asked


@pytest.mark.parametrize("registry_is", ["up", "down", "silent"])
async def test_a_lock_takes_what_was_proposed_for_its_policy_back_and_nothing_else(registry_is: str) -> None:
    found, forge = both(), MemoryForge()
    shop = two_by_request(forge, found)
    async with shop:
        await shop.settled()
        assert set(shop.writer.apart) == {FRONT, "web/back.yaml"}
        if registry_is != "up":
            found.half = RegistryUnreachable("down") if registry_is == "down" else asyncio.Event()
        shop.control.lock("back", "not now", None)
        await shop.until(lambda: set(shop.writer.apart) == {FRONT}, within_s=10)
        await asyncio.sleep(1)
        [request] = forge.open.values()
        assert "back.yaml" not in request.body
        assert shop.control.status()["updates"][0]["waits_for"] == []

        found.push("1.2.0")
        await shop.settled()
        assert shop.writer.apart == {FRONT: deployment("1.2.0")}, "the other goes on"

        if isinstance(found.half, asyncio.Event):
            found.half.set()
        found.half = None
        shop.control.unlock("back")
        await shop.until(lambda: "web/back.yaml" in shop.writer.apart, within_s=10)
        await asyncio.sleep(1)

    [request] = forge.open.values()
    assert "back.yaml" in request.body


async def test_a_request_for_what_is_locked_is_closed_with_the_reason_and_comes_back() -> None:
    forge = MemoryForge()
    shop = by_request(forge, "1.0.0", "1.1.0")
    async with shop:
        await shop.settled()
        shop.control.lock("front", "crashes", None)
        await shop.settled()
        assert (forge.open, forge.asked[1:]) == (
            {},
            ["withdraw: Nothing of this is wanted now: locked is `front`. A new request comes after."],
        )
        shop.control.unlock("front")
        await shop.settled()

    assert len(forge.open) == 1


async def test_what_a_lock_held_passes_when_its_time_is_over_and_not_at_the_next_look_only() -> None:
    shop = Workshop(
        policy(interval=timedelta(hours=8)), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0")
    )
    async with shop:
        shop.control.lock("front", "freeze", timedelta(minutes=30))
        await shop.settled()
        assert len(shop.writer.commits) == 1
        await asyncio.sleep(29 * 60)
        assert len(shop.writer.commits) == 1
        await asyncio.sleep(70)

    assert shop.writer.files[FRONT] == deployment("1.1.0")


class LaggingRegistry(MemoryRegistry):
    lag_s = 0.0

    async def tags(self, image: str) -> Sequence[str]:
        await asyncio.sleep(self.lag_s)
        return await super().tags(image)


@pytest.mark.parametrize(
    "when", [{"interval": timedelta(hours=8)}, {"schedule": Schedule(cron="30 3 * * *", time_zone="UTC")}]
)
async def test_a_lock_whose_time_is_over_in_the_midst_of_a_look_lets_pass_what_it_held(when: dict[str, Any]) -> None:
    found = LaggingRegistry()
    found.push("1.0.0")
    found.push("1.1.0")
    shop = Workshop(policy(**when), files={FRONT: deployment("1.0.0")}, registry=found)
    async with shop:
        shop.control.lock("front", "freeze", timedelta(minutes=30))
        await shop.settled()
        await asyncio.sleep(30 * 60 - 10)
        found.lag_s = 30.0
        shop.automation.policies[0].bell.ring()
        await asyncio.sleep(120)

    assert shop.writer.files[FRONT] == deployment("1.1.0")


async def test_the_end_of_a_lock_does_not_cut_short_the_pause_that_a_registry_asks_for() -> None:
    found = registry("1.0.0", "1.1.0")
    shop = Workshop(policy(interval=timedelta(hours=8)), files={FRONT: deployment("1.0.0")}, registry=found)
    async with shop:
        await shop.settled()
        shop.control.lock("front", "freeze", timedelta(minutes=1))
        found.fault = RegistryThrottled("429", retry_after_s=1800)
        await shop.settled()
        asked = len(found.asked)
        await asyncio.sleep(1000)

    assert len(found.asked) == asked


async def test_a_request_for_what_was_merged_is_not_said_to_be_closed_for_the_lock_of_another_policy() -> None:
    found, forge = both(), MemoryForge()
    shop = two_by_request(forge, found)
    async with shop:
        await shop.settled()
        shop.control.lock("back", "bad", None)
        await shop.settled()
        await asyncio.sleep(5)
        shop.writer.push(dict(shop.writer.apart), "merged")
        await shop.settled()

    assert forge.asked[-1] == "withdraw: Nothing of this is wanted any more, or it has arrived otherwise."


async def test_what_was_in_doubt_goes_on_once_it_is_known() -> None:
    found, forge = both(), MemoryForge()
    found.half = RegistryUnreachable("down")
    shop = two_by_request(forge, found)
    async with shop:
        await shop.settled()
        assert (shop.writer.apart, forge.asked) == ({}, [])
        assert shop.control.status()["updates"][0]["waits_for"] == ["back"]
        found.half = None
        await shop.until(lambda: bool(forge.open))

        assert shop.control.status()["updates"][0]["waits_for"] == []

    assert set(shop.writer.apart) == {FRONT, "web/back.yaml"}


async def test_what_was_remembered_in_no_way_that_can_be_used_counts_for_nothing() -> None:
    store = MemoryStore()
    store.save("update-fleet", {"commits": ["2026-01-01T00:00:00", "yesterday", 7]})
    shop = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"), store=store)
    store.save("update-fleet", {"commits": ["2026-01-01T00:00:00"]})
    again = Workshop(policy(), files={FRONT: deployment("1.0.0")}, registry=registry("1.0.0", "1.1.0"), store=store)
    for each in (shop, again):
        async with each:
            await each.until(lambda each=each: len(each.writer.commits) == 2)  # type: ignore[misc]


async def test_a_request_whose_tag_must_not_come_back_is_withdrawn() -> None:
    forge = MemoryForge()
    shop = by_request(forge, "1.0.0", "1.1.0")
    async with shop:
        await shop.settled()
        listed = b"images:\n- {image: registry.example.com/team/front, tag: 1.1.0, reason: crashes}\n"
        shop.writer.push({".gitsyncd/quarantine.yaml": listed})
        await asyncio.sleep(3)
        await shop.settled()

    assert forge.open == {}


async def test_a_branch_on_which_others_have_commits_is_left_alone_and_told_with_the_fix() -> None:
    forge = MemoryForge()
    shop = by_request(forge, "1.0.0", "1.1.0")
    async with shop:
        await shop.settled()
        before, asked = dict(shop.writer.apart), len(forge.asked)
        shop.writer.others = "c0ffee" * 7
        await shop.settled()
        assert shop.log.events("image update failed") == [], "what is wanted is there"
        shop.registry.push("1.2.0")
        await shop.settled()
        await asyncio.sleep(600)
        [told] = shop.log.events("image update failed")
        assert (told["remedy"], "updates has commits of others, such as c0ffeec0ffee" in told["error"]) == (
            "fix-repo",
            True,
        )
        assert "Merge that branch or delete it" in told["hint"]
        assert (shop.writer.apart, len(forge.asked)) == (before, asked)
        shop.writer.others, shop.writer.apart = "", {}
        await asyncio.sleep(600)

    assert shop.writer.apart == {FRONT: deployment("1.2.0")}


async def test_a_request_from_a_branch_on_which_others_have_commits_is_not_withdrawn() -> None:
    forge = MemoryForge()
    theirs = MergeRequest(head="updates", base="main", title="theirs", body="")
    forge.open["updates", "main"] = theirs
    shop = by_request(forge, "1.0.0")
    shop.writer.others = "c0ffee" * 7
    async with shop:
        await shop.settled()
        await shop.settled()

    assert forge.open == {("updates", "main"): theirs}
    assert forge.asked == []


async def test_an_hour_that_had_its_commits_says_nothing_where_none_is_due() -> None:
    forge = MemoryForge()
    access = PullRequest(forge=Forge.GITEA, token_file=Path("token"))
    rolling = update("front", push_branch="updates", pull_request=access, max_commits_per_hour=1)
    shop = Workshop(
        policy(),
        files={FRONT: deployment("1.0.0")},
        registry=registry("1.0.0", "1.1.0"),
        updates=[rolling],
        forge=forge,
    )
    async with shop:
        await shop.settled()
        await shop.settled()

    assert forge.open
    assert shop.log.events("image update failed") == []


async def test_a_forge_that_fails_is_told_and_asked_again() -> None:
    forge = MemoryForge()
    forge.fault = ForgeDenied("refuses the token")
    shop = by_request(forge, "1.0.0", "1.1.0")
    async with shop:
        await shop.until(lambda: bool(shop.log.events("image update failed", error="refuses the token")))
        forge.fault = None
        await shop.until(lambda: bool(forge.open))
