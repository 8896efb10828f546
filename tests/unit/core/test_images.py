"""Which tag is selected, and what is held and why."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.core.images import (
    MAX_CREATED,
    MAX_LOOKS,
    Past,
    TooManyTags,
    choose,
    is_backwards,
    ranked,
    value_of,
    would_go_back,
)
from gitsyncd.model.image import (
    Choice,
    Filter,
    Found,
    Held,
    ImagePolicy,
    Order,
    PinDigest,
    Quarantined,
    Reason,
    Rule,
    Select,
)

IMAGE = "registry.example.com/team/front"
NOW = datetime(2026, 5, 1, tzinfo=UTC)
OLD = NOW - timedelta(days=30)


def policy(rule: str = "semver", wanted: str = "*", order: str = "asc", **changes: Any) -> ImagePolicy:
    select = Select(rule=Rule(rule), wanted=wanted if rule in {"semver", "digest"} else "", order=Order(order))
    return replace(ImagePolicy(name="front", image=IMAGE, select=select), **changes)


def image(tag: str, created: datetime | None = OLD, **changes: Any) -> Found:
    return replace(Found(tag=tag, digest=f"sha256:{tag}", created=created), **changes)


class Registry:
    """Answers what is asked, and keeps what was."""

    def __init__(self, *images: Found | str, hidden: tuple[str, ...] = ()) -> None:
        known = [each if isinstance(each, Found) else image(each) for each in images]
        self.images: Mapping[str, Found] = {each.tag: each for each in known}
        self.hidden = hidden
        """Listed, and gone when asked about."""
        self.asked: list[str] = []

    def choice(self, wanted: ImagePolicy, *, current: str = "", **past: Any) -> Choice:
        """`current` is the one tag that stands in Git, without a digest."""
        standing = {current: ""} if current else {}
        order = ranked(wanted, [*self.images, *self.hidden])
        asking = choose(wanted, order, Past(**{"standing": standing, **past}), NOW)
        try:
            tag = next(asking)
            while True:
                self.asked.append(tag)
                tag = asking.send(self.images.get(tag, "gone"))
        except StopIteration as end:
            result: Choice = end.value
            return result

    def chosen(self, wanted: ImagePolicy, **past: Any) -> tuple[str | None, list[tuple[str, Reason]]]:
        choice = self.choice(wanted, **past)
        return choice.selected.tag if choice.selected else None, [(held.tag, held.reason) for held in choice.held]


# --- order -----------------------------------------------------------------------------------------------------------

SORTED: list[tuple[ImagePolicy, str, str]] = [
    (policy(wanted=">=1.2 <2"), "1.1.9 1.2.0 1.10.0 1.9.0 2.0.0 latest", "1.10.0 1.9.0 1.2.0"),
    (policy(wanted="*"), "0.1 v0.2 0.10.0 main", "0.10.0 v0.2 0.1"),
    (policy(wanted="*"), "1.0.0-rc.1 1.0.0 1.0.0-rc.2", "1.0.0"),
    (policy(wanted=">=1.0.0-0"), "1.0.0-rc.1 1.0.0 1.0.0-rc.11 1.0.0-rc.2", "1.0.0 1.0.0-rc.11 1.0.0-rc.2 1.0.0-rc.1"),
    (policy(wanted="*"), "1.2.0 v1.2.0 1.2", "v1.2.0 1.2.0 1.2"),
    (policy(wanted="1.x", filter=Filter(pattern="-alpine$")), "1.2.0 1.3.0-alpine", ""),
    (
        policy(wanted="1.x", filter=Filter(pattern="^(?P<v>.*)-alpine$", extract="$v")),
        "1.9.0 1.2.0-alpine 1.3.0-alpine 2.0.0-alpine",
        "1.3.0-alpine 1.2.0-alpine",
    ),
    (policy("alphabetical"), "a c b", "c b a"),
    (policy("alphabetical", order="desc"), "a c b", "a b c"),
    (policy("alphabetical"), "RELEASE.2026-01-01 RELEASE.2026-02-01", "RELEASE.2026-02-01 RELEASE.2026-01-01"),
    (policy("alphabetical"), "9 10 A a", "a A 9 10"),
    (policy("numerical"), "2 10 1 0.5 x", "10 2 1 0.5"),
    (policy("numerical", order="desc"), "2 10 1", "1 2 10"),
    (policy("numerical"), "-1 1e3 999 nan inf", "1e3 999 -1"),
    (policy("numerical"), "2026_05 1_0 7 7. .5 1e99999999999999999999", "7. 7 .5"),
    (policy("numerical"), "9007199254740993 9007199254740992", "9007199254740993 9007199254740992"),
    (
        policy("numerical", filter=Filter(pattern="^main-[a-f0-9]+-(?P<ts>[0-9]+)", extract="$ts")),
        "main-0ff1ce-1611840548 main-c0ffee-1611840549 dev-aaaaaa-1711840549 main-nothex",
        "main-c0ffee-1611840549 main-0ff1ce-1611840548",
    ),
    (policy("digest", "stable"), "stable 1.0.0", "stable"),
    (policy("digest", "stable"), "1.0.0", ""),
    (policy("newest", filter=Filter(pattern="^main-")), "main-b dev-a main-a", "main-a main-b"),
]


@pytest.mark.parametrize(("wanted", "tags", "expected"), SORTED)
def test_tags_that_fit_are_sorted_the_best_first(wanted: ImagePolicy, tags: str, expected: str) -> None:
    assert ranked(wanted, tags.split()) == expected.split()
    assert ranked(wanted, tags.split()[::-1]) == expected.split()


@pytest.mark.parametrize(
    ("pattern", "extract", "tag", "value"),
    [
        ("", "", "1.2", "1.2"),
        ("^v(?P<version>.+)$", "$version", "v1.2", "1.2"),
        ("^v(?<version>.+)$", "${version}", "v1.2", "1.2"),
        ("^v(.+)-(.+)$", "$2.$1", "v1-2", "2.1"),
        ("^v(.+)$", "a$$b", "v1", "a$b"),
        ("^v(?P<a>.+)$", "$ab", "v1", ""),
        ("^v(?P<a>.+)$", "${a}b", "v1", "1b"),
        ("^v(a)?", "$1", "vb", ""),
        ("(?<=v)(?P<n>[0-9]+)(?<!x)", "$n", "v12", "12"),
        ("^v", "", "1.2", None),
        (r"^(?<major>[0-9]+)(?:\(?<)?\.(?!0)", "$major", "12.3", "12"),
        ("b", "", "abc", "abc"),
    ],
)
def test_what_is_sorted_by_is_extracted_as_go_does(pattern: str, extract: str, tag: str, value: str | None) -> None:
    assert value_of(tag, Filter(pattern=pattern, extract=extract)) == value


@pytest.mark.parametrize(
    ("wanted", "old", "new", "backwards"),
    [
        (policy(wanted="1.x"), "1.2.0", "1.1.0", True),
        (policy(wanted="1.x"), "1.2.0", "1.2.1", False),
        (policy(wanted="1.x"), "1.2.0", "v1.2.0", False),
        (policy(wanted="<2"), "2.1.0", "1.9.0", True),
        (policy(wanted="1.x"), "latest", "1.0.0", False),
        (policy("alphabetical"), "b", "a", True),
        (policy("alphabetical", order="desc"), "b", "a", False),
        (policy("numerical"), "10", "9", True),
        (policy("numerical", order="desc"), "9", "10", True),
        (policy("digest", "stable"), "stable", "stable", False),
    ],
)
def test_a_step_back_is_one_in_the_order_of_the_policy_whatever_the_range_holds(
    wanted: ImagePolicy, old: str, new: str, backwards: bool
) -> None:
    assert is_backwards(wanted, old, new) is backwards


# --- choice ----------------------------------------------------------------------------------------------------------


def test_the_best_tag_is_selected_and_nothing_else_is_asked_about() -> None:
    registry = Registry("1.2.0", "1.3.0", "1.1.0")

    assert registry.chosen(policy(wanted="1.x"), current="1.1.0") == ("1.3.0", [])
    assert registry.asked == ["1.3.0"]


def test_the_present_tag_is_selected_again_where_nothing_is_better() -> None:
    assert Registry("1.2.0", "1.3.0").chosen(policy(), current="1.3.0") == ("1.3.0", [])


@pytest.mark.parametrize("tags", [(), ("latest",), ("3.0.0",)])
def test_where_nothing_fits_nothing_is_selected(tags: tuple[str, ...]) -> None:
    assert Registry(*tags).chosen(policy(wanted="1.x"), current="1.0.0") == (None, [])


def test_a_registry_that_has_lost_the_newer_tags_moves_nothing() -> None:
    registry = Registry("1.1.0", "1.0.0")

    assert registry.chosen(policy(), current="1.2.0") == (None, [("1.1.0", Reason.BACKWARDS)])
    assert registry.asked == []


def test_a_policy_may_allow_a_step_back() -> None:
    assert Registry("1.1.0").chosen(policy(allow_backwards=True), current="1.2.0") == ("1.1.0", [])


def test_a_tag_without_an_image_that_can_be_used_is_held_in_words_and_the_next_best_is_taken() -> None:
    choice = Registry("1.1.0", hidden=("1.2.0",)).choice(policy(), current="1.0.0")

    assert choice.selected == image("1.1.0")
    assert choice.held == (Held(tag="1.2.0", reason=Reason.UNREADABLE, detail="gone"),)


def test_the_present_tag_is_kept_when_it_vanished() -> None:
    registry = Registry("1.0.0", hidden=("1.2.0",))
    unreadable = ("1.2.0", Reason.UNREADABLE)

    assert registry.chosen(policy(), current="1.2.0") == (None, [unreadable, ("1.0.0", Reason.BACKWARDS)])
    assert registry.chosen(policy(allow_backwards=True), current="1.2.0") == (None, [unreadable])


def test_a_young_image_waits_and_the_next_best_is_taken() -> None:
    registry = Registry(image("1.2.0", NOW - timedelta(minutes=59)), image("1.1.0", NOW - timedelta(hours=1)))

    chosen = registry.chosen(policy(min_age=timedelta(hours=1)), current="1.0.0")

    assert chosen == ("1.1.0", [("1.2.0", Reason.TOO_YOUNG)])


@pytest.mark.parametrize("made", [None, datetime(1970, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize(("seen", "is_old_enough"), [(None, False), (NOW - timedelta(hours=1), True), (NOW, False)])
def test_an_image_that_does_not_say_when_it_was_made_is_as_old_as_it_is_known(
    made: datetime | None, seen: datetime | None, is_old_enough: bool
) -> None:
    known = {("1.2.0", "sha256:1.2.0"): seen} if seen else {}

    choice = Registry(image("1.2.0", made)).choice(policy(min_age=timedelta(hours=1)), first_seen=known)

    assert (choice.selected is not None) is is_old_enough


def test_an_image_that_a_tag_moved_to_is_as_old_as_it_is_known_itself() -> None:
    known = {("1.2.0", "sha256:before"): OLD}

    assert Registry(image("1.2.0", None)).chosen(policy(min_age=timedelta(hours=1)), first_seen=known) == (
        None,
        [("1.2.0", Reason.TOO_YOUNG)],
    )


def test_an_image_from_the_future_is_too_young_where_an_age_is_asked_for_or_is_what_counts() -> None:
    tomorrow = image("1.2.0", NOW + timedelta(days=1))
    held = [("1.2.0", Reason.TOO_YOUNG)]

    assert Registry(tomorrow).chosen(policy(min_age=timedelta(hours=1))) == (None, held)
    assert Registry(tomorrow).chosen(policy("newest")) == (None, held)
    assert Registry(tomorrow).chosen(policy()) == ("1.2.0", [])


def test_an_image_without_a_platform_that_is_asked_for_is_held_by_name_of_it() -> None:
    both = frozenset({"linux/amd64", "linux/arm64"})
    registry = Registry(image("1.2.0", platforms=frozenset({"linux/amd64"})), image("1.1.0", platforms=both))

    choice = registry.choice(policy(platforms=("linux/arm64", "linux/amd64")))

    assert choice.selected == registry.images["1.1.0"]
    assert choice.held == (Held(tag="1.2.0", reason=Reason.PLATFORM, detail="without linux/arm64"),)


def test_an_image_without_a_signature_is_held_where_one_is_asked_for_with_what_is_wrong() -> None:
    registry = Registry(image("1.2.0", unsigned="no signature"), image("1.1.0", is_signed=True))

    choice = registry.choice(policy(signing_key=Path("cosign.pub")))

    assert choice.selected == registry.images["1.1.0"]
    assert choice.held == (Held(tag="1.2.0", reason=Reason.UNSIGNED, detail="no signature"),)


@pytest.mark.parametrize(
    "entry",
    [Quarantined(image=IMAGE, tag="1.2.0"), Quarantined(image=IMAGE, digest="sha256:1.2.0")],
    ids=["by tag", "by digest"],
)
def test_what_is_quarantined_stays_out_and_a_newer_one_passes(entry: Quarantined) -> None:
    assert Registry("1.2.0", "1.1.0").chosen(policy(), current="1.1.0", quarantined=[entry]) == (
        "1.1.0",
        [("1.2.0", Reason.QUARANTINED)],
    )
    assert Registry("1.3.0", "1.2.0", "1.1.0").chosen(policy(), current="1.1.0", quarantined=[entry]) == ("1.3.0", [])


def test_another_image_of_the_same_tag_is_not_quarantined() -> None:
    entry = Quarantined(image="registry.example.com/team/back", tag="1.2.0", digest="sha256:1.2.0")

    assert Registry("1.2.0").chosen(policy(), quarantined=[entry]) == ("1.2.0", [])


def test_a_locked_policy_moves_nothing_and_says_what_waits() -> None:
    choice = Registry("1.3.0", "1.2.0", "1.1.0").choice(policy(), current="1.1.0", locked="freeze")

    assert choice == Choice(selected=None, held=(Held(tag="1.3.0", reason=Reason.LOCKED, detail="freeze"),))
    assert Registry("1.1.0").chosen(policy(), current="1.1.0", locked="freeze") == ("1.1.0", [])


@pytest.mark.parametrize(
    ("asked_for", "reason"),
    [
        ({"platforms": ("linux/arm64",)}, Reason.PLATFORM),
        ({"signing_key": Path("cosign.pub")}, Reason.UNSIGNED),
        ({"min_age": timedelta(days=60)}, Reason.TOO_YOUNG),
    ],
)
@pytest.mark.parametrize("pin_digest", PinDigest)
def test_what_stands_in_one_file_is_written_to_no_other_when_something_speaks_against_it(
    asked_for: dict[str, Any], reason: Reason, pin_digest: PinDigest
) -> None:
    registry = Registry("1.2.0", "1.1.0", "1.0.0")

    chosen = registry.chosen(
        policy(**asked_for, pin_digest=pin_digest), standing={"1.1.0": "sha256:1.1.0", "1.2.0": "sha256:1.2.0"}
    )

    assert chosen == (None, [("1.2.0", reason)])


@pytest.mark.parametrize(
    ("standing", "pin_digest", "is_told"),
    [
        ({"1.2.0": ""}, PinDigest.NEVER, False),
        ({"1.2.0": "sha256:1.2.0"}, PinDigest.NEVER, False),
        ({"1.2.0": "sha256:1.2.0"}, PinDigest.ALWAYS, False),
        ({"1.2.0": ""}, PinDigest.IF_NOT_PRESENT, True),
        ({"1.2.0": "sha256:other"}, PinDigest.NEVER, True),
        ({"1.2.0": "", "1.1.0": ""}, PinDigest.NEVER, True),
    ],
)
@pytest.mark.parametrize("rule", ["semver", "newest"])
def test_what_stands_in_every_file_stays_and_is_held_only_where_it_would_be_written(
    rule: str, standing: dict[str, str], pin_digest: PinDigest, is_told: bool
) -> None:
    wanted = policy(rule, min_age=timedelta(days=60), pin_digest=pin_digest)

    choice = Registry("1.2.0").choice(wanted, standing=standing)

    assert (choice.selected, choice.stands) == (None, image("1.2.0"))
    assert [held.reason for held in choice.held] == [Reason.TOO_YOUNG] * is_told


def test_what_is_quarantined_is_not_selected_where_it_stands_either() -> None:
    entry = Quarantined(image=IMAGE, tag="1.2.0")

    assert Registry("1.2.0", "1.1.0").chosen(policy(), current="1.2.0", quarantined=[entry]) == (
        None,
        [("1.2.0", Reason.QUARANTINED)],
    )


@pytest.mark.parametrize("rule", ["semver", "newest"])
def test_what_is_quarantined_where_it_stands_gives_way_to_an_older_one_where_the_policy_may_go_back(rule: str) -> None:
    entry = Quarantined(image=IMAGE, tag="1.2.0")
    registry = Registry("1.2.0", image("1.1.0", OLD - timedelta(hours=1)))

    chosen = registry.chosen(policy(rule, allow_backwards=True), current="1.2.0", quarantined=[entry])

    assert chosen == ("1.1.0", [("1.2.0", Reason.QUARANTINED)])


@pytest.mark.parametrize("twin", ["v1.2.0", "1.2"])
@pytest.mark.parametrize("current", ["v1.2.0", "1.2.0", "1.2"])
def test_a_tag_that_is_no_better_than_the_present_one_does_not_take_its_place(twin: str, current: str) -> None:
    registry = Registry(*{twin, current, "1.1.0"})

    assert registry.chosen(policy(), current=current) == (current, [])


def test_of_several_tags_in_git_nothing_falls_behind_the_best() -> None:
    standing = dict.fromkeys(["1.0.0", "1.10.0", "1.9.0", "none"], "")

    assert Registry("1.9.0", "1.8.0").chosen(policy(), standing=standing) == (None, [("1.9.0", Reason.BACKWARDS)])


def test_another_image_under_the_present_tag_waits_for_a_lock_only_where_digests_are_followed() -> None:
    rebuilt = image("1.2.0", NOW, digest="sha256:new")
    past: dict[str, Any] = {"standing": {"1.2.0": "sha256:old"}}
    young = timedelta(hours=1)

    assert Registry(rebuilt).chosen(policy(), locked="x", **past) == ("1.2.0", [])
    for following in (policy(pin_digest=PinDigest.ALWAYS), policy("digest", "1.2.0")):
        assert Registry(rebuilt).choice(following, **past).selected == rebuilt
        held = [("1.2.0", Reason.TOO_YOUNG)]
        assert Registry(rebuilt).chosen(replace(following, min_age=young), **past) == (None, held)
        assert Registry(rebuilt).chosen(following, locked="x", **past) == (None, [("1.2.0", Reason.LOCKED)])


def test_a_day_of_builds_that_are_too_young_does_not_hide_the_one_that_is_not() -> None:
    registry = Registry(
        *(image(f"1.{number}.0", NOW - timedelta(minutes=10 * (200 - number))) for number in range(200))
    )

    chosen, held = registry.chosen(policy(min_age=timedelta(hours=24)), current="1.2.0")

    assert chosen == "1.56.0"
    assert len(held) == 143


def test_no_more_than_so_many_tags_are_asked_about_and_that_is_said() -> None:
    registry = Registry(*(image(f"1.{minor}.0", NOW) for minor in range(MAX_LOOKS + 10)))

    with pytest.raises(TooManyTags, match=f"the {MAX_LOOKS} best tags are held, the first one as too-young"):
        registry.choice(policy(min_age=timedelta(hours=1)))

    assert len(registry.asked) == MAX_LOOKS


# --- the newest by creation ------------------------------------------------------------------------------------------


def hours_ago(tag: str, hours: float) -> Found:
    return image(tag, NOW - timedelta(hours=hours))


def test_the_newest_image_is_selected_whatever_its_tag() -> None:
    registry = Registry(hours_ago("zzz", 3), hours_ago("aaa", 1), hours_ago("mmm", 2), image("epoch", None))

    assert registry.chosen(policy("newest")) == ("aaa", [])
    assert sorted(registry.asked) == ["aaa", "epoch", "mmm", "zzz"]


def test_the_newest_image_that_is_old_enough_is_selected() -> None:
    registry = Registry(hours_ago("a", 0.5), hours_ago("b", 2), hours_ago("c", 3))

    assert registry.chosen(policy("newest", min_age=timedelta(hours=1)), current="c") == (
        "b",
        [("a", Reason.TOO_YOUNG)],
    )


def test_an_image_older_than_the_present_one_that_vanished_is_held() -> None:
    past = {"current": "gone", "made": {"gone": NOW - timedelta(hours=1)}}

    assert Registry(hours_ago("b", 2), hours_ago("c", 3)).chosen(policy("newest"), **past) == (
        None,
        [("b", Reason.BACKWARDS)],
    )
    assert Registry(hours_ago("b", 2)).chosen(policy("newest", allow_backwards=True), **past) == ("b", [])
    assert Registry(hours_ago("a", 0.5)).chosen(policy("newest"), **past) == ("a", [])


def test_of_images_that_were_made_at_the_same_moment_the_present_one_stays() -> None:
    registry = Registry(hours_ago("a", 1), hours_ago("b", 1), hours_ago("c", 1))

    assert registry.chosen(policy("newest"), current="b") == ("b", [])
    assert registry.chosen(policy("newest")) == ("c", [])


def test_a_tag_in_git_that_was_moved_to_an_older_image_is_no_reason_to_go_back() -> None:
    past: dict[str, Any] = {"current": "b", "made": {"b": NOW - timedelta(hours=1)}}

    assert Registry(hours_ago("a", 2), hours_ago("b", 9)).chosen(policy("newest"), **past) == (
        None,
        [("a", Reason.BACKWARDS)],
    )


def test_of_several_tags_in_git_the_one_that_was_made_last_counts() -> None:
    registry = Registry(hours_ago("a", 3), hours_ago("b", 1), hours_ago("c", 2))
    entry = Quarantined(image=IMAGE, tag="b")

    assert registry.chosen(policy("newest"), standing={"a": "", "b": ""}, quarantined=[entry]) == (
        None,
        [("b", Reason.QUARANTINED)],
    )


def test_an_image_that_cannot_be_read_keeps_no_other_from_being_the_newest() -> None:
    registry = Registry(hours_ago("a", 3), hours_ago("b", 1), hidden=("c",))

    assert registry.chosen(policy("newest"), current="a") == ("b", [("c", Reason.UNREADABLE)])


def test_the_newest_takes_the_place_of_what_was_looked_at_and_is_no_newer() -> None:
    registry = Registry(hours_ago("a", 3), hours_ago("b", 1), hours_ago("c", 0.1), image("epoch", None))
    newest = policy("newest", min_age=timedelta(hours=1))

    found = registry.choice(newest, standing={"lost": ""}).selected

    assert found is not None
    assert {tag: would_go_back(newest, found, tag) for tag in ("a", "b", "c", "epoch", "lost", "later")} == {
        **dict.fromkeys(["a", "b", "epoch", "lost"], False),
        **dict.fromkeys(["c", "later"], True),
    }
    assert not would_go_back(replace(newest, allow_backwards=True), found, "later")
    assert not would_go_back(replace(newest, filter=Filter(pattern="^.$")), found, "later")


def test_where_nobody_can_tell_when_the_present_image_was_made_nothing_takes_its_place() -> None:
    registry = Registry(hours_ago("a", 3), hidden=("b",))
    past: dict[str, Any] = {"current": "b", "made": {"b": NOW - timedelta(hours=5)}}

    assert registry.chosen(policy("newest"), current="b") == (None, [("b", Reason.UNREADABLE)])
    assert registry.chosen(policy("newest", allow_backwards=True), current="b") == ("a", [("b", Reason.UNREADABLE)])
    assert registry.chosen(policy("newest"), **past) == ("a", [("b", Reason.UNREADABLE)])


def test_more_tags_than_can_be_asked_about_are_refused_in_words() -> None:
    registry = Registry(*(hours_ago(f"t{number}", 1) for number in range(MAX_CREATED + 1)))

    with pytest.raises(TooManyTags, match="2001 tags fit"):
        registry.choice(policy("newest"))


# --- whatever comes --------------------------------------------------------------------------------------------------

TAGS = st.lists(st.sampled_from([f"1.{minor}.{patch}" for minor in range(4) for patch in range(3)]), unique=True)


@given(tags=TAGS, current=st.sampled_from(["", "1.1.1", "1.3.2"]), quarantined=TAGS, gone=TAGS)
def test_nothing_ever_moves_back_or_to_what_is_quarantined(
    tags: list[str], current: str, quarantined: list[str], gone: list[str]
) -> None:
    registry = Registry(*(tag for tag in tags if tag not in gone), hidden=tuple(set(tags) & set(gone)))
    entries = [Quarantined(image=IMAGE, tag=tag) for tag in quarantined]

    choice = registry.choice(policy(), current=current, quarantined=entries)

    selected = choice.selected and choice.selected.tag
    assert selected is None or selected in set(tags) - set(gone)
    assert selected is None or selected not in quarantined
    assert selected is None or not current or not is_backwards(policy(), current, selected)
    fit = [tag for tag in tags if tag not in gone and tag not in quarantined]
    best = next((tag for tag in ranked(policy(), fit) if not current or not is_backwards(policy(), current, tag)), None)
    assert selected == best
