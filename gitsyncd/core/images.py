"""Which tag of an image is selected, by policy, and what is held and why.

A conversation, not a call: what a registry has to say of one tag costs a request or two, so `choose` asks for one tag
at a time, the best first, and most often for one in all. On any doubt nothing moves: a tag that is gone, an empty list
or one that ends too early can hide better tags, and never makes an older one the best. A doubt about one tag is held
with its reason, and the next best is asked about; below what stands in Git nothing is.

What stands in Git is asked about like every other: it stays there whatever speaks against it, and is written nowhere
else. Here: order, age, platforms, quarantine. Not here: asking registries, checking signatures, and where the tag is
written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

from gitsyncd.core.reference import image_name
from gitsyncd.core.semver import Range, parse_range, version
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
from gitsyncd.model.immutable import immutable

MAX_LOOKS: Final = 500
"""Tags that are asked about for one choice. A day of builds that are too young must not hide the one that is not."""
MAX_CREATED: Final = 2000
"""Tags that are asked about where only their creation can tell which is the best."""
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Images that say to be older were built reproducibly: 1970, 1980 and the year 1 are usual, and mean nothing."""

Key = Any
"""What tags are sorted by: comparable with others of the same policy."""


@immutable
class Past:
    """What is known beside the registry's answers."""

    standing: Mapping[str, str] = field(default_factory=dict)
    """The tags that stand in Git, or the one that was selected last where none does: for each the digest beside it,
    empty where there is none or more than one."""
    made: Mapping[str, datetime] = field(default_factory=dict)
    """When images that stand there were made, as far as it is remembered: a registry may have lost them."""
    first_seen: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    """By tag and digest, since a tag that moves stands for an image that nobody has seen."""
    quarantined: Collection[Quarantined] = ()
    locked: str = ""
    """Why nothing may move; empty while it may."""


class TooManyTags(ValueError):
    """More tags than can be asked about."""


# --- Order -----------------------------------------------------------------------------------------------------------
def value_of(tag: str, chosen: Filter | None) -> str | None:
    """What the rule looks at; None for a tag that the filter leaves out."""
    if chosen is None:
        return tag
    match = compiled(chosen.pattern).search(tag)
    if match is None:
        return None
    return _expanded(match, chosen.extract) if chosen.extract else tag


@lru_cache(maxsize=256)
def compiled(pattern: str) -> re.Pattern[str]:
    """Groups may be named as in Go, too. Raises `re.error`."""
    return re.compile(_GROUP.sub(lambda found: found[0] if found[1] else "(?P<", pattern))


_GROUP: Final = re.compile(r"(\\.)|\(\?<(?![=!])", re.DOTALL)
"""What Go begins a named group with; what is escaped begins nothing."""
_REFERENCE: Final = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))", re.ASCII)


def group_names(template: str) -> list[str]:
    """The groups that a template for `extract` names."""
    return [name for found in _REFERENCE.finditer(template) if (name := found[1] or found[2])]


def _expanded(match: re.Match[str], template: str) -> str:
    """`$name`, `${name}`, `$1` and `$$`, as Go's regexp.Expand has them: what does not exist is empty."""

    def part(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        try:
            return match[int(name) if name.isdecimal() else name] or ""
        except IndexError:
            return ""

    return _REFERENCE.sub(part, template)


def key_of(tag: str, policy: ImagePolicy) -> Key | None:
    """What the tag is sorted by, higher is better; None for one that the rule cannot read.

    Whether the policy wants it is another question: a tag that the range leaves out has its place in the order too.
    """
    value = value_of(tag, policy.filter)
    if value is None:
        return None
    return _KEYS[policy.select.rule](value)


_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
"""As Go's ParseFloat has decimal ones, and so Flux. Python alone takes `2026_05` for a number, too."""


def _number(value: str) -> Decimal | None:
    if not _NUMBER.fullmatch(value):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:  # an exponent beyond all measure
        return None
    return number if number.is_finite() else None


_KEYS: Final[Mapping[Rule, Callable[[str], Key | None]]] = {
    Rule.SEMVER: version,
    Rule.ALPHABETICAL: lambda value: value,
    Rule.NUMERICAL: _number,
    Rule.NEWEST: lambda _: None,
    Rule.DIGEST: lambda _: None,
}


def ranked(policy: ImagePolicy, tags: Collection[str]) -> list[str]:
    """The tags that the policy wants, the best first; for `newest`, where only the images can tell, in no order.

    Tags of equal rank (`1.2.0` and `v1.2.0`) are in the order of their text, so that no two looks disagree.
    """
    select = policy.select
    match select.rule:
        case Rule.DIGEST:
            return [select.wanted] if select.wanted in tags else []
        case Rule.NEWEST:
            return sorted(tag for tag in tags if value_of(tag, policy.filter) is not None)
        case _:
            keys = {tag: key for tag in tags if (key := key_of(tag, policy)) is not None and _wanted(key, select)}
            return sorted(keys, key=lambda tag: (keys[tag], tag), reverse=select.order is Order.ASC)


def _wanted(key: Key, select: Select) -> bool:
    return select.rule is not Rule.SEMVER or key in _range(select.wanted)


@lru_cache(maxsize=256)
def _range(text: str) -> Range:
    return parse_range(text)


def would_go_back(policy: ImagePolicy, selected: Found, standing: str) -> bool:
    """Whether the choice may not take the place of that tag: it is better, or newer than the choice for all we know."""
    if policy.allow_backwards:
        return False
    if policy.select.rule is Rule.NEWEST:
        is_ours = value_of(standing, policy.filter) is not None
        return is_ours and standing != selected.tag and standing not in selected.older
    return is_backwards(policy, standing, selected.tag)


def is_backwards(policy: ImagePolicy, old: str, new: str) -> bool:
    """Whether `new` is worse than `old`. Not where one of them cannot be told: what stood there was no version."""
    before, after = key_of(old, policy), key_of(new, policy)
    if before is None or after is None:
        return False
    return bool(after < before if policy.select.order is Order.ASC else after > before)


# --- Choice ----------------------------------------------------------------------------------------------------------
def present(policy: ImagePolicy, standing: Iterable[str], made: Mapping[str, datetime]) -> str:
    """Of the tags that stand in Git, the one that nothing may fall behind; empty where none does."""
    tags = sorted(standing)
    if policy.select.rule is Rule.DIGEST and policy.select.wanted in tags:
        return policy.select.wanted
    if policy.select.rule is Rule.NEWEST:
        known = [(made[tag], tag) for tag in tags if tag in made]
        return max(known)[1] if known else next(iter(tags), "")
    ranks = [(key, tag) for tag in tags if (key := key_of(tag, policy)) is not None]
    if not ranks:
        return next(iter(tags), "")
    return (max if policy.select.order is Order.ASC else min)(ranks)[1]


def choose(policy: ImagePolicy, order: Sequence[str], past: Past, now: datetime) -> Generator[str, Found | str, Choice]:
    """`order` is what `ranked` gives. Yields a tag, is sent the image behind it, or in words why there is none that can
    be used, and returns the choice.

    Raises `TooManyTags` where more would have to be asked about than may be.
    """
    if policy.select.rule is Rule.NEWEST:
        return (yield from _newest(policy, order, past, now))
    current = present(policy, past.standing, {})
    held: list[Held] = []
    asked = 0
    for tag in _without_twins(policy, order, current):
        against = _known_before(policy, tag, current, past) if tag != current else None
        if against is None:
            if asked == MAX_LOOKS:
                raise TooManyTags(f"the {asked} best tags are held, the first one as {held[0].reason}")
            asked += 1
            found = yield tag
            if isinstance(found, str):
                against = Held(tag=tag, reason=Reason.UNREADABLE, detail=found)
            elif (against := _against(policy, found, current, past, now)) is None:
                return Choice(selected=found, held=tuple(held))
            if tag == current and isinstance(found, Found) and not _may_leave(policy, against):
                return _kept(policy, found, against, held, past)
        held.append(against)
        if against.reason in {Reason.BACKWARDS, Reason.LOCKED}:
            break  # so are all that follow
        if tag == current and policy.allow_backwards and against.reason is Reason.UNREADABLE:
            break  # a doubt is no word of the policy for an older one
    return Choice(selected=None, held=tuple(held))


def _without_twins(policy: ImagePolicy, order: Sequence[str], current: str) -> Sequence[str]:
    """Without tags that are no better than the present one and no worse, such as `v1.2.0` beside `1.2.0`: to go from
    the one to the other is a change for nothing.
    """
    if current not in order:
        return order
    at, rank = order.index(current), key_of(current, policy)
    before = after = at
    while before > 0 and key_of(order[before - 1], policy) == rank:
        before -= 1
    while after + 1 < len(order) and key_of(order[after + 1], policy) == rank:
        after += 1
    return [*order[:before], current, *order[after + 1 :]]


def _newest(policy: ImagePolicy, tags: Sequence[str], past: Past, now: datetime) -> Generator[str, Found | str, Choice]:
    if len(tags) > MAX_CREATED:
        raise TooManyTags(f"{len(tags)} tags fit, and for `newest` each of at most {MAX_CREATED} has to be asked about")
    images: list[tuple[datetime, Found]] = []
    unreadable: list[Held] = []
    for tag in tags:
        found = yield tag
        if isinstance(found, str):
            unreadable.append(Held(tag=tag, reason=Reason.UNREADABLE, detail=found))
        elif (when := created(found)) is not None:
            images.append((when, found))
    # A tag that stands there and was moved to an older image is no reason to go back behind the one that it was.
    made = {found.tag: max(when, past.made.get(found.tag, when)) for when, found in images}
    made = {**past.made, **made}
    if not policy.allow_backwards and any(each.tag in past.standing and each.tag not in made for each in unreadable):
        return Choice(selected=None, held=tuple(unreadable))  # whatever is chosen might be older
    current = present(policy, past.standing, made)
    held: list[Held] = []
    # Of images that were made at the same moment, as of one with two tags, the present one.
    for when, found in sorted(images, key=lambda each: (each[0], each[1].tag == current, each[1].tag), reverse=True):
        tag = found.tag
        if tag != current and not policy.allow_backwards and current in made and when < made[current]:
            held.append(Held(tag=tag, reason=Reason.BACKWARDS, detail=f"{current} is newer"))
            break
        against = _known_before(policy, tag, current, past) if tag != current else None
        against = against or _against(policy, found, current, past, now)
        if against is None:
            # Whether a tag may take another's place is known of those that were looked at, and of no later one.
            older = {*tags, *past.standing} - {each.tag for each in held}
            return Choice(selected=replace(found, older=frozenset(older)), held=(*held, *unreadable))
        if tag == current and not _may_leave(policy, against):
            return _kept(policy, found, against, held, past, unreadable)
        held.append(against)
        if against.reason is Reason.LOCKED:
            break
    return Choice(selected=None, held=(*held, *unreadable))


def _may_leave(policy: ImagePolicy, against: Held) -> bool:
    """Whether an older image may take the place of the present one: people say that it must go, and the policy that it
    may.
    """
    return policy.allow_backwards and against.reason is Reason.QUARANTINED


def _kept(
    policy: ImagePolicy, found: Found, against: Held, held: Sequence[Held], past: Past, others: Sequence[Held] = ()
) -> Choice:
    """The choice where something speaks against the present tag: nothing older takes its place, and it is not written.

    That is not worth a word where it would not be written anyway, since every file has it.
    """
    beside = past.standing[found.tag]
    is_news = follows_digest(policy) and found.digest != beside
    if is_news or against.reason is Reason.QUARANTINED:
        return Choice(selected=None, held=(*held, against, *others))
    wants_digest = policy.pin_digest is not PinDigest.NEVER
    is_everywhere = len(past.standing) == 1 and (found.digest == beside or not (beside or wants_digest))
    return Choice(selected=None, stands=found, held=(*held, *([] if is_everywhere else [against]), *others))


def created(found: Found) -> datetime | None:
    """When the image was made, if it says so in earnest."""
    return found.created if found.created is not None and found.created >= _EARLIEST else None


def _known_before(policy: ImagePolicy, tag: str, current: str, past: Past) -> Held | None:
    """What speaks against a tag other than the present one, whatever the registry says of it."""
    if current and not policy.allow_backwards and is_backwards(policy, current, tag):
        return Held(tag=tag, reason=Reason.BACKWARDS, detail=f"{current} is in use")
    if past.locked:
        return Held(tag=tag, reason=Reason.LOCKED, detail=past.locked)
    for entry in past.quarantined:
        if _names(entry, policy, tag) or _is_twin(entry, policy, tag):
            return Held(tag=tag, reason=Reason.QUARANTINED, detail=entry.reason)
    return None


def _is_twin(entry: Quarantined, policy: ImagePolicy, tag: str) -> bool:
    """Whether the tag is as good as one that is listed, as `1.1` and `v1.1.0` are beside `1.1.0`: most often they are
    the same image.
    """
    if not entry.tag or not same_image(entry.image, policy.image):
        return False
    rank = key_of(tag, policy)
    return rank is not None and rank == key_of(entry.tag, policy)


def _against(policy: ImagePolicy, found: Found, current: str, past: Past, now: datetime) -> Held | None:
    """What speaks against the image that a tag stands for."""
    tag = found.tag
    if tag == current and past.locked and follows_digest(policy) and found.digest != past.standing[tag]:
        return Held(tag=tag, reason=Reason.LOCKED, detail=past.locked)
    for entry in past.quarantined:
        if _names(entry, policy, tag, found.digest):
            return Held(tag=tag, reason=Reason.QUARANTINED, detail=entry.reason)
    missing = sorted(set(policy.platforms) - found.platforms)
    if missing:
        return Held(tag=tag, reason=Reason.PLATFORM, detail=f"without {', '.join(missing)}")
    if policy.signing_key and not found.is_signed:
        return Held(tag=tag, reason=Reason.UNSIGNED, detail=found.unsigned)
    since = created(found) or past.first_seen.get((tag, found.digest), now)
    # One from the future would stay the newest for ever; where no age is asked for, no other order minds.
    if now - since < policy.min_age and (policy.min_age or policy.select.rule is Rule.NEWEST):
        return Held(tag=tag, reason=Reason.TOO_YOUNG, detail=f"of {since:%Y-%m-%dT%H:%M:%SZ}")
    return None


def is_quarantined(policy: ImagePolicy, found: Found, entries: Iterable[Quarantined]) -> bool:
    """Whether this must not come back, by its tag or by its digest."""
    return any(_names(entry, policy, found.tag, found.digest) for entry in entries)


def _names(entry: Quarantined, policy: ImagePolicy, tag: str, digest: str = "") -> bool:
    """Whether an entry speaks of this tag or digest of the policy's image, however the image is written there."""
    if not ((entry.tag and entry.tag == tag) or (entry.digest and entry.digest == digest)):
        return False
    return same_image(entry.image, policy.image)


def same_image(one: str, other: str) -> bool:
    """Whether two names without tag and digest mean one repository, however they are written."""
    return _normal(one) == _normal(other)


@lru_cache(maxsize=1024)
def _normal(image: str) -> str:
    try:
        return str(image_name(image))
    except ValueError:
        return image


def follows_digest(policy: ImagePolicy) -> bool:
    """Whether another image under the same tag is news."""
    return policy.pin_digest is PinDigest.ALWAYS or policy.select.rule is Rule.DIGEST
