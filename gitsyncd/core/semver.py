"""Semantic versions and ranges of them, with the meaning that Masterminds/semver v3 gives to ranges.

Helm, Flux and Argo CD read ranges by that library, so that a range means here what it means to them. Here: what a text
means, and which versions a range holds. Not here: what is done with a version that is found (`images`).

Versions are those of semver.org 2.0.0, section 11 for their order, read as loosely as people tag: a `v` before, minor
and patch left out (`v1`, `1.2`). Build metadata does not count. Every comparator is a half-open interval of versions:

    ~1.2     [1.2.0, 1.3.0)      ^0.2.3   [0.2.3, 0.3.0)      1.x      [1.0.0, 2.0.0)
    >1.2     [1.3.0, ...)        <=1.2    [..., 1.3.0)        !=1.2.x  all but [1.2.0, 1.3.0)

Comparators beside each other must all hold, `||` stands between groups of which one must, and `A - B` is `>=A <=B`. A
group holds pre-releases only if it names one: `>=1.2.0-0 <2` has 1.3.0-rc.1, `>=1.2 <2` has not.
"""

from __future__ import annotations

import re
from functools import total_ordering
from typing import Final

from gitsyncd.model.immutable import immutable

_MAX_CHARS: Final = 256
"""Of a version, which is one tag at most, and of a range."""

_MAX_NUMBER: Final = 2**64 - 1
"""Masterminds/semver takes no larger one: a tag of many digits, such as a time with nanoseconds, is no version."""

_IDENTIFIERS: Final = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION: Final = re.compile(
    rf"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-({_IDENTIFIERS}))?(?:\+{_IDENTIFIERS})?", re.ASCII
)
_PART: Final = "[0-9]+|[xX*]"
_PARTIAL: Final = rf"v?({_PART})(?:\.({_PART}))?(?:\.({_PART}))?(?:-({_IDENTIFIERS}))?(?:\+{_IDENTIFIERS})?"
_COMPARATOR: Final = re.compile(rf"(=>|=<|>=|<=|!=|~>|=|>|<|~|\^)?\s*{_PARTIAL}(?:\s*,\s*|\s+|$)", re.ASCII)
_HYPHEN: Final = re.compile(r"(?<![^\s,])([0-9A-Za-z.*+-]+)\s+-\s+(?=[0-9A-Za-z*])")

_Identifier = tuple[int, int, str]
_RELEASE: Final[tuple[_Identifier, ...]] = ((2, 0, ""),)
"""Above every pre-release of the same number."""
_FIRST: Final[tuple[_Identifier, ...]] = ()
"""Below every pre-release."""


@total_ordering
@immutable(kw_only=False)
class Version:
    """A version; equal to those that differ in build metadata only."""

    major: int
    minor: int
    patch: int
    tail: tuple[_Identifier, ...] = _RELEASE

    @property
    def is_prerelease(self) -> bool:
        return self.tail != _RELEASE

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    @property
    def _key(self) -> tuple[int, int, int, tuple[_Identifier, ...]]:
        return self.major, self.minor, self.patch, self.tail


def version(text: str) -> Version | None:
    """The version that a text is; None when it is none."""
    if len(text) > _MAX_CHARS or not (match := _VERSION.fullmatch(text)):
        return None
    major, minor, patch, prerelease = match.groups()
    tail = _tail(prerelease)
    numbers = int(major), int(minor or 0), int(patch or 0)
    return None if tail is None or max(numbers) > _MAX_NUMBER else Version(*numbers, tail)


def _tail(prerelease: str | None) -> tuple[_Identifier, ...] | None:
    """Numbers come before words, and by their value. None for a number with a leading zero (semver.org, section 9)."""
    if prerelease is None:
        return _RELEASE
    identifiers = prerelease.split(".")
    if any(part.isdecimal() and len(part) > 1 and part[0] == "0" for part in identifiers):
        return None
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in identifiers)


# --- Ranges ----------------------------------------------------------------------------------------------------------
@immutable(kw_only=False)
class _Interval:
    """From `low` on, up to but without `high`; or all but that."""

    low: Version
    high: Version | None
    outside: bool = False

    def __contains__(self, found: Version) -> bool:
        within = self.low <= found and (self.high is None or found < self.high)
        return within is not self.outside


@immutable(kw_only=False)
class _Group:
    intervals: tuple[_Interval, ...]
    prereleases: bool

    def __contains__(self, found: Version) -> bool:
        return (self.prereleases or not found.is_prerelease) and all(found in each for each in self.intervals)


@immutable(kw_only=False)
class Range:
    """Ask it by `in`."""

    text: str
    groups: tuple[_Group, ...]

    def __contains__(self, found: Version) -> bool:
        return any(found in group for group in self.groups)


def parse_range(text: str) -> Range:
    """Raises `ValueError` with what cannot be read."""
    if len(text) > _MAX_CHARS:
        raise ValueError(f"a range has at most {_MAX_CHARS} characters")
    return Range(text, tuple(_group(part) for part in text.split("||")))


def _group(text: str) -> _Group:
    rest = _HYPHEN.sub(r">=\1 <=", text).strip()
    if not rest:
        raise ValueError("a range is empty; `*` holds every release")
    intervals, prereleases = [], False
    while rest:
        match = _COMPARATOR.match(rest)
        if match is None:
            raise ValueError(f"`{rest}` is no comparison of versions such as `>=1.2`, `~1.2.3`, `^1` or `1.x`")
        operator, *parts, prerelease = match.groups()
        tail = _tail(prerelease)
        if tail is None:
            raise ValueError(f"`{prerelease}` has a number with a leading zero")
        intervals.append(_interval(operator or "=", parts, tail))
        prereleases |= prerelease is not None
        rest = rest[match.end() :]
    return _Group(tuple(intervals), prereleases)


def _interval(operator: str, parts: list[str | None], tail: tuple[_Identifier, ...]) -> _Interval:
    """What one comparator holds. `parts` are major, minor and patch, of which the later ones may be open."""
    given = next((at for at, part in enumerate(parts) if part is None or part in "xX*"), 3)
    major, minor, patch = (int(part or 0) if at < given else 0 for at, part in enumerate(parts))
    low = Version(major, minor, patch, tail)
    at_major, at_minor = Version(major + 1, 0, 0, _FIRST), Version(major, minor + 1, 0, _FIRST)
    beyond = (None, at_major, at_minor, _just_above(low))[given]
    """Above everything that the text may stand for."""
    everything = given == 0 or (given == 3 and (major, minor, patch) == (0, 0, 0))
    tilde = at_major if given == 1 else at_minor
    match operator:
        case "=" | "!=" if given == 3:
            return _Interval(low, beyond, outside=operator == "!=")
        case "=" | "!=" | "~" | "~>":
            # `~0.0.0` holds everything there: constraintTilde in Masterminds/semver, constraints.go.
            return _Interval(low, None if everything else tilde, outside=operator == "!=")
        case "^" if major or given == 1:
            return _Interval(low, at_major)
        case "^" if minor or given == 2:
            return _Interval(low, at_minor)
        case "^":
            return _Interval(low, Version(0, 0, patch + 1, _FIRST) if given else None)
        case ">":
            return _Interval(_just_above(low) if beyond is None else beyond, None)
        case ">=" | "=>":
            return _Interval(low, None)
        case "<":
            return _Interval(_LOWEST, low)
        case _:
            return _Interval(_LOWEST, beyond)


_LOWEST: Final = Version(0, 0, 0, _FIRST)


def _just_above(found: Version) -> Version:
    """Nothing is between the two."""
    return Version(found.major, found.minor, found.patch, (*found.tail, (-1, 0, "")))
