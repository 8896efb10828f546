"""What a look at a registry comes to when something is wrong with it, and what of it may be written."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.edges.store import MemoryStore
from gitsyncd.engine.image_loop import PolicyLoop
from gitsyncd.model.errors import LocalError, PushRefused, RegistryError, RegistryThrottled, RegistryUnreachable
from gitsyncd.model.image import Found, ImagePolicy, Origin, PinDigest, Rule, Select
from tests.engine.imaging import IMAGE, MemoryRegistry, Workshop, deployment, digest, policy
from tests.engine.virtualtime import VirtualClock
from tests.engine.world import Diary, VirtualCalendar

FRONT = "web/front.yaml"
BACK = "web/back.yaml"


class Registry(MemoryRegistry):
    """One that has broken images, and can be stopped in the middle of a look."""

    def __init__(self, *tags: str) -> None:
        super().__init__()
        self.broken: dict[str, Exception] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        for tag in tags:
            self.push(tag)

    async def look(self, policy: ImagePolicy, tag: str) -> Found | None:
        await self.gate.wait()
        if tag in self.broken:
            raise self.broken[tag]
        return await super().look(policy, tag)

    def drop(self, *tags: str) -> None:
        for tag in tags:
            del self.images[IMAGE][tag]


class FullStore(MemoryStore):
    """On a disk that may be full."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def save(self, name: str, value: Mapping[str, Any]) -> None:
        if self.full and name.startswith("image-"):
            raise LocalError("the disk of /var/lib/gitsyncd is full", hint="Free some space.")
        super().save(name, value)


def shop_of(registry: Registry, chosen: ImagePolicy | None = None, **facts: Any) -> Workshop:
    return Workshop(chosen or policy(), registry=registry, **{"files": {FRONT: deployment("1.0.0")}, **facts})


# --- what was chosen once --------------------------------------------------------------------------------------------
async def test_what_was_chosen_before_a_restart_and_is_gone_is_not_written() -> None:
    shop = shop_of(Registry("1.0.0", "1.1.0"))
    shop.writer.refusal = PushRefused("protected branch")
    async with shop:
        await shop.settled()
        assert shop.state()["tag"] == "1.1.0"

    shop.writer.refusal = None
    again = shop_of(Registry("0.9.0"), policy(wanted="<2"), writer=shop.writer, store=shop.store)
    async with again:
        await again.settled()
        await again.settled()
        state = again.state()

    assert again.writer.files[FRONT] == deployment("1.0.0")
    assert (state["tag"], state["state"]) == ("1.1.0", "held"), "it is shown as what was chosen last"


async def test_a_look_that_fails_takes_back_what_may_be_written_and_not_what_is_shown() -> None:
    shop = shop_of(Registry("1.0.0", "1.1.0"))
    async with shop:
        await shop.settled()
        [loop] = shop.automation.policies
        shop.registry.fault = RegistryUnreachable("down")
        await shop.until(lambda: loop.error is not None)

        assert loop.selected is None
        assert (shop.state()["tag"], shop.state()["state"]) == ("1.1.0", "failed")


async def test_what_is_known_from_before_a_restart_is_not_written_while_the_registry_is_down() -> None:
    shop = shop_of(Registry("1.0.0", "1.1.0"))
    shop.writer.refusal = PushRefused("protected branch")
    async with shop:
        await shop.settled()

    shop.writer.refusal = None
    registry = Registry("1.0.0")
    registry.fault = RegistryUnreachable("down")
    again = shop_of(registry, writer=shop.writer, store=shop.store)
    async with again:
        for _ in range(5):
            again.automation.updates[0].bell.ring()
            await asyncio.sleep(30)

    assert again.writer.files[FRONT] == deployment("1.0.0")


async def test_what_was_known_of_another_image_does_not_count() -> None:
    shop = shop_of(Registry("1.0.0", "1.9.0"), files={"web/none.yaml": b"kind: ConfigMap\n"})
    async with shop:
        await shop.settled()
        assert shop.state()["tag"] == "1.9.0"
        shop.registry.push("1.1.0", name="front2")
        moved = ImagePolicy(name="front", image=f"{IMAGE}2", select=Select(rule=Rule.SEMVER, wanted="1.x"))
        await shop.adopt(type(shop.images)(policies=(moved,), updates=shop.images.updates))
        await shop.settled()

        assert (shop.state()["tag"], shop.state()["held"]) == ("1.1.0", [])


async def test_a_look_that_meets_a_defect_takes_back_what_may_be_written() -> None:
    registry = Registry("1.0.0")
    loop = PolicyLoop(
        policy(), registry, clock=VirtualClock(), calendar=VirtualCalendar(), log=Diary(), store=MemoryStore()
    )
    await loop.look()
    assert loop.selected is not None
    registry.broken["1.0.0"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await loop.look()

    assert loop.selected is None


# --- one candidate that is no good -----------------------------------------------------------------------------------
async def test_an_image_that_cannot_be_read_is_held_and_the_next_best_is_written() -> None:
    registry = Registry("1.0.0", "1.1.0", "1.2.0")
    registry.broken["1.2.0"] = RegistryError("its manifest is of a kind that is not known, 'x'", hint="Push it again.")
    shop = shop_of(registry)
    async with shop:
        await shop.settled()
        await shop.settled()
        state = shop.state()
        [held] = shop.log.events("image held")
        registry.broken.clear()
        await shop.settled()

    assert (held["tag"], held["reason"]) == ("1.2.0", "unreadable")
    assert "its manifest is of a kind" in held["detail"]
    assert (state["state"], state["tag"]) == ("selected", "1.1.0")
    assert shop.writer.files[FRONT] == deployment("1.2.0")
    assert not shop.log.events("registry unreachable")


async def test_a_registry_that_fails_in_the_middle_of_a_look_is_no_reason_for_the_next_best() -> None:
    registry = Registry("1.0.0", "1.1.0", "1.2.0")
    registry.broken["1.2.0"] = RegistryUnreachable("registry.example.com answers with status 503")
    shop = shop_of(registry)
    async with shop:
        await shop.settled()
        assert shop.state()["state"] == "failed"

    assert shop.writer.files[FRONT] == deployment("1.0.0")


async def test_a_policy_that_is_held_or_fails_keeps_no_other_from_being_written() -> None:
    registry = Registry("1.0.0", "1.1.0")
    registry.broken |= {tag: RegistryError("broken") for tag in ("1.0.0", "1.1.0")}
    registry.push("2.0.0", name="back")
    registry.push("2.1.0", name="back")
    files = {FRONT: deployment("1.0.0"), BACK: deployment("2.0.0", "back", "back")}
    shop = Workshop(policy(), policy("back", "2.x"), files=files, registry=registry)
    async with shop:
        await shop.settled()
        assert shop.state()["state"] == "failed"

    assert shop.writer.files == {FRONT: deployment("1.0.0"), BACK: deployment("2.1.0", "back", "back")}


# --- what stands in one place and not in another ---------------------------------------------------------------------
DIGEST_APART = (
    'kind: Kustomization\nimages:\n  - name: x\n    newTag: {tag}  # {{"$imagepolicy": "front:tag"}}\n'
    '    digest: {digest}  # {{"$imagepolicy": "front:digest"}}\n'
)


async def test_what_is_younger_than_the_policy_wants_and_in_use_is_shown_and_the_better_one_held() -> None:
    registry = Registry()
    for tag in ("1.0.0", "1.1.0"):
        registry.push(tag, created=VirtualClock().now())
    shop = shop_of(registry, policy(min_age=timedelta(hours=1)))
    async with shop:
        await shop.settled()
        state = shop.state()
        await shop.until(lambda: len(shop.writer.commits) == 2, within_s=4000)

    assert (state["state"], state["tag"]) == ("selected", "1.0.0")
    assert [(held["tag"], held["reason"]) for held in state["held"]] == [("1.1.0", "too-young")]


@pytest.mark.parametrize("pin", PinDigest)
async def test_an_unsigned_image_that_the_present_tag_was_moved_to_is_never_written(pin: PinDigest) -> None:
    registry = Registry()
    registry.push("1.0.0", is_signed=True)
    before = DIGEST_APART.format(tag="1.0.0", digest=digest("front:1.0.0")).encode()
    signed = policy(signing_key=Path("cosign.pub"), pin_digest=pin)
    shop = shop_of(registry, signed, files={"k.yaml": before, FRONT: deployment("1.0.0")})
    async with shop:
        await shop.settled()
        written = dict(shop.writer.files)
        registry.push("1.0.0", content="somebody else's", unsigned="no signature")
        await shop.settled()
        state = shop.state()

    assert shop.writer.files == written
    assert [(held["tag"], held["reason"]) for held in state["held"]] == [("1.0.0", "unsigned")]


async def test_a_lock_is_not_said_to_hold_a_digest_that_stands_in_a_scalar_of_its_own() -> None:
    registry = Registry("1.0.0")
    file = DIGEST_APART.format(tag="1.0.0", digest=digest("front:1.0.0")).encode()
    shop = shop_of(registry, policy(pin_digest=PinDigest.ALWAYS), files={"k.yaml": file})
    async with shop:
        await shop.settled()
        shop.control.lock("front", "freeze", None)
        await shop.settled()
        assert shop.state()["held"] == []


async def test_a_digest_that_is_there_stays_beside_its_tag_when_another_scalar_of_the_file_moves() -> None:
    registry = Registry("1.1.0")
    there = deployment(f"1.1.0@{digest('front:1.1.0')}")
    registry.push("1.1.0", content="rebuilt")
    shop = shop_of(
        registry,
        policy(pin_digest=PinDigest.IF_NOT_PRESENT),
        files={FRONT: deployment("1.0.0") + b"---\n" + there},
    )
    async with shop:
        await shop.until(lambda: len(shop.writer.commits) == 2)

    assert shop.writer.files[FRONT] == deployment(f"1.1.0@{digest('rebuilt')}") + b"---\n" + there


async def test_a_lock_is_not_said_to_hold_the_tag_that_stands_beside_another() -> None:
    files = {FRONT: deployment(f"latest@{digest('front:latest')}"), "web/b.yaml": deployment("begin")}
    shop = shop_of(Registry("latest"), policy(select=Select(rule=Rule.DIGEST, wanted="latest")), files=files)
    shop.writer.refusal = PushRefused("protected branch")
    async with shop:
        await shop.settled()
        shop.control.lock("front", "freeze", None)
        await shop.settled()
        assert shop.state()["held"] == []


# --- age -------------------------------------------------------------------------------------------------------------
async def test_the_age_of_an_image_begins_anew_where_its_tag_moves_to_another_across_a_restart() -> None:
    young = policy(min_age=timedelta(hours=1))
    shop = shop_of(Registry("1.0.0", "1.1.0"), young)
    async with shop:
        await shop.settled()
        await asyncio.sleep(3000)
        shop.registry.push("1.1.0", content="another")
        await shop.settled()

    again = Workshop(young, files={}, registry=shop.registry, writer=shop.writer, store=shop.store)
    async with again:
        begun = again.clock.monotonic()
        await again.until(lambda: len(again.writer.commits) == 2, within_s=4000)
        assert again.clock.monotonic() - begun > 3500


async def test_a_list_of_tags_that_is_short_once_makes_no_image_young_again() -> None:
    shop = shop_of(Registry("1.0.0", "1.1.0"), policy(min_age=timedelta(hours=1)))
    async with shop:
        await shop.settled()
        await asyncio.sleep(3000)
        kept = dict(shop.registry.images[IMAGE])
        shop.registry.images[IMAGE] = {"1.0.0": kept["1.0.0"]}
        await shop.settled()
        shop.registry.images[IMAGE] = kept
        begun = shop.clock.monotonic()
        await shop.until(lambda: len(shop.writer.commits) == 2, within_s=4000)
        assert shop.clock.monotonic() - begun < 1200


# --- a disk that is full ---------------------------------------------------------------------------------------------
async def test_a_full_disk_keeps_nothing_from_being_chosen_and_is_told_once() -> None:
    store = FullStore()
    shop = shop_of(Registry("1.0.0", "1.1.0"), store=store)
    store.full = True
    async with shop:
        for _ in range(5):
            await shop.settled()
        state = shop.state()
        [told] = shop.log.events("image update failed")
        store.full = False
        await shop.settled()

    assert shop.writer.files[FRONT] == deployment("1.1.0")
    assert len(shop.log.events("image selected")) == 1
    assert state["state"] == "selected"
    assert (told["policy"], "is full" in told["error"], told["hint"]) == ("front", True, "Free some space.")
    assert store.load("image-front")["selected"]["tag"] == "1.1.0"


async def test_a_lock_that_cannot_be_kept_is_in_force_and_says_so() -> None:
    store = FullStore()
    shop = shop_of(Registry("1.0.0"), store=store)
    async with shop:
        await shop.settled()
        store.full = True
        with pytest.raises(LocalError, match="front is locked, which is forgotten when the daemon ends"):
            shop.control.lock("front", "freeze", None)
        shop.registry.push("1.1.0")
        await shop.settled()

    assert shop.writer.files[FRONT] == deployment("1.0.0")


# --- told once -------------------------------------------------------------------------------------------------------
async def test_that_no_tag_fits_is_told_once_and_asked_about_ever_more_seldom() -> None:
    shop = shop_of(Registry("latest"))
    async with shop:
        await asyncio.sleep(3600)
        looks = shop.automation.policies[0].looks
        shop.registry.push("1.1.0")
        await shop.until(lambda: len(shop.writer.commits) == 2)

    assert len(shop.log.events("registry unreachable")) == 1
    assert len(shop.log.events("registry recovered")) == 1
    assert looks < 20


# --- when ------------------------------------------------------------------------------------------------------------
async def test_a_registry_that_says_when_to_come_back_is_asked_then() -> None:
    shop = shop_of(Registry("1.0.0", "1.1.0"))
    shop.registry.fault = RegistryThrottled("slow down", retry_after_s=1)
    async with shop:
        await shop.until(lambda: shop.automation.policies[0].looks == 1)
        shop.registry.fault = None
        await shop.until(lambda: len(shop.writer.commits) == 2, within_s=3)


@pytest.mark.parametrize("said", [0.0, 1.0])
async def test_a_registry_that_always_says_soon_is_not_asked_every_second(said: float) -> None:
    shop = shop_of(Registry("1.0.0"))
    shop.registry.fault = RegistryThrottled("slow down", retry_after_s=said)
    async with shop:
        await asyncio.sleep(3600)

        assert shop.automation.policies[0].looks < 25


# --- locks -----------------------------------------------------------------------------------------------------------
async def test_a_lock_in_the_middle_of_a_look_selects_nothing() -> None:
    registry = Registry("1.0.0")
    shop = shop_of(registry)
    async with shop:
        await shop.settled()
        registry.push("1.1.0")
        registry.gate.clear()
        shop.automation.policies[0].bell.ring()
        await asyncio.sleep(1)
        shop.control.lock("front", "freeze", None)
        registry.gate.set()
        await shop.settled()

        assert [(held["tag"], held["reason"]) for held in shop.state()["held"]] == [("1.1.0", "locked")]
    assert [each["tag"] for each in shop.log.events("image selected")] == ["1.0.0"]
    assert shop.writer.files[FRONT] == deployment("1.0.0")


# --- what an image is made from --------------------------------------------------------------------------------------
async def test_the_code_of_what_is_selected_is_shown_and_known_of_what_was_across_a_restart() -> None:
    source = "https://git.example.com/team/front"
    registry = Registry()
    first = registry.push("1.0.0", made_from=Origin(source=source, revision="a" * 40))
    shop = shop_of(registry)
    async with shop:
        await shop.settled()
        assert shop.state()["made_from"] == {"source": source, "revision": "a" * 40}
        second = registry.push("1.1.0", made_from=Origin(source=source, revision="b" * 40))
        await shop.settled()
        registry.push("1.2.0")
        await shop.settled()
        assert shop.state()["made_from"] is None
        selected = shop.log.events("image selected")

    again = shop_of(registry, files={}, writer=shop.writer, store=shop.store)
    running = [f"{IMAGE}:1.0.0", f"{IMAGE}:other@{second.digest}", f"{IMAGE}:1.2.0", f"{IMAGE}2:1.0.0", "no image"]
    assert first.digest != second.digest
    async with again:
        assert again.control.made_from(running) == [
            {"image": running[0], "source": source, "revision": "a" * 40},
            {"image": running[1], "source": source, "revision": "b" * 40},
        ]
    assert [each["made_from"] for each in selected] == [f"{source}@{'a' * 40}", f"{source}@{'b' * 40}", None]


# --- people who are faster than the next look ------------------------------------------------------------------------
async def test_a_newer_image_that_a_person_wrote_since_the_look_is_not_taken_back() -> None:
    registry = Registry()
    begin = VirtualClock().now() - timedelta(days=1)
    for hours, tag in enumerate(("a", "b")):
        registry.push(tag, created=begin + timedelta(hours=hours))
    newest = policy(select=Select(rule=Rule.NEWEST), interval=timedelta(hours=1))
    shop = shop_of(registry, newest, files={FRONT: deployment("a")})
    async with shop:
        await shop.settled()
        assert shop.writer.files[FRONT] == deployment("b")
        registry.push("c", created=begin + timedelta(hours=9))
        await asyncio.sleep(10)
        shop.writer.push({FRONT: deployment("c")})
        shop.automation.updates[0].bell.ring()  # as another policy's look does
        await asyncio.sleep(60)
        assert shop.writer.files[FRONT] == deployment("c")
        await shop.settled()

        assert shop.state()["tag"] == "c"


# --- lists without measure -------------------------------------------------------------------------------------------
def test_a_list_of_a_hundred_thousand_tags_leaves_others_their_turns() -> None:
    async def turns() -> int:
        registry = Registry("1.0.0")
        [found] = registry.images[IMAGE].values()
        registry.images[IMAGE] |= {f"0.{number // 1000}.{number % 1000}": found for number in range(100_000)}
        clock = VirtualClock()
        loop = PolicyLoop(policy(), registry, clock=clock, calendar=VirtualCalendar(), log=Diary(), store=MemoryStore())
        looking, count = asyncio.create_task(loop.look()), 0
        while not looking.done():
            await asyncio.sleep(0.01)
            count += 1
        assert loop.selected == found
        return count

    assert asyncio.run(turns()) > 15
