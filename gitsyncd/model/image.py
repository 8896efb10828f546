"""Images: which tags a policy may select, what a registry says of one, and why one is held.

Facts only. Which tag is selected is decided in `core.images`; how a registry is asked is the business of its edge.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from gitsyncd.model.hook import Hook
from gitsyncd.model.immutable import immutable
from gitsyncd.model.source import BearerAuth, PasswordAuth


class Rule(StrEnum):
    """What makes one tag better than another."""

    SEMVER = "semver"
    ALPHABETICAL = "alphabetical"
    NUMERICAL = "numerical"
    NEWEST = "newest"
    DIGEST = "digest"


class Order(StrEnum):
    """Which end of the sorted tags is taken: the last of `asc`, as Flux has it."""

    ASC = "asc"
    DESC = "desc"


class PinDigest(StrEnum):
    """When the digest is written beside the tag."""

    NEVER = "never"
    IF_NOT_PRESENT = "if-not-present"
    ALWAYS = "always"


@immutable
class Select:
    """`wanted` is the range for `semver`, the tag for `digest`, and empty for the others."""

    rule: Rule
    wanted: str = ""
    order: Order = Order.ASC


@immutable
class Filter:
    """Tags in which `pattern` is found; `extract` makes of what it matched the text that the rule looks at."""

    pattern: str
    extract: str = ""


@immutable
class Schedule:
    """Moments on the calendar of a time zone."""

    cron: str
    time_zone: str


@immutable
class ImagePolicy:
    """Which tag of an image is wanted."""

    name: str
    image: str
    """Without tag and digest."""
    select: Select
    filter: Filter | None = None
    min_age: timedelta = timedelta(0)
    allow_backwards: bool = False
    pin_digest: PinDigest = PinDigest.NEVER
    platforms: tuple[str, ...] = ()
    """`os/architecture` or `os/architecture/variant`; all of them must be in the image."""
    signing_key: Path | None = None
    """A public key file; when it is given, a signature by that key is asked for."""
    interval: timedelta = timedelta(minutes=5)
    """How often the registry is asked."""
    schedule: Schedule | None = None
    """When it is asked, in place of `interval`."""


@immutable
class DockerConfigAuth:
    """What `docker login` writes. Helpers that it names run only if they are allowed."""

    file: Path


RegistryAuth = PasswordAuth | BearerAuth | DockerConfigAuth
"""Credentials by file; the files are read at each use."""


@immutable
class RegistryAccess:
    """How the registry of some images is reached."""

    prefix: str
    """Whole components of an image's name from its beginning; the longest that fits decides."""
    auth: RegistryAuth | None = None
    ca_file: Path | None = None
    allow_plain_http: bool = False
    proxy: str = ""
    credential_helpers: tuple[Path, ...] = ()
    """Programs that a docker configuration may name."""
    webhook: Hook | None = None
    """Who may say that something was pushed."""


@immutable
class Origin:
    """The code that an image says to be made from, in the words of whoever built it. Either may be empty, not both."""

    source: str = ""
    """Most often the address of a repository."""
    revision: str = ""
    """Most often a commit."""

    def __str__(self) -> str:
        return f"{self.source}@{self.revision}" if self.source and self.revision else self.source or self.revision


@immutable
class Found:
    """One tag as the registry has it now."""

    tag: str
    digest: str
    created: datetime | None = None
    """By the image's own word, in UTC."""
    platforms: frozenset[str] = frozenset()
    is_signed: bool = False
    """By a key that the policy trusts."""
    unsigned: str = ""
    """Why it is not signed, in words; empty where nobody asked."""
    made_from: Origin | None = None
    older: frozenset[str] = frozenset()
    """Where only images can tell their order: the tags whose place this one may take."""


class Reason(StrEnum):
    """Why a tag is not selected although it is better than what was."""

    TOO_YOUNG = "too-young"
    BACKWARDS = "backwards"
    UNSIGNED = "unsigned"
    UNREADABLE = "unreadable"
    QUARANTINED = "quarantined"
    PLATFORM = "platform"
    LOCKED = "locked"


@immutable
class Held:
    """One tag that is not selected, and why."""

    tag: str
    reason: Reason
    detail: str = ""
    """For people: since when, which platform, who said so."""


@immutable
class Quarantined:
    """What must not come back: this tag of the image, or this digest under whatever tag."""

    image: str
    tag: str = ""
    digest: str = ""
    reason: str = ""
    since: str = ""
    commit: str = ""
    """The one that brought it."""


@immutable
class QuarantinedCommit:
    """A commit whose tree must not be admitted again."""

    commit: str
    reason: str = ""
    since: str = ""


QUARANTINE_FILE = ".gitsyncd/quarantine.yaml"
"""From the root of a repository."""


@immutable
class Quarantine:
    """What a repository says must not come back."""

    images: tuple[Quarantined, ...] = ()
    commits: tuple[QuarantinedCommit, ...] = ()


@immutable
class Choice:
    """What a policy has come to: what is selected, if anything, and everything better that is held."""

    selected: Found | None
    stands: Found | None = None
    """In place of it: what stands in Git and may stay there, but has something against it and is written nowhere."""
    held: tuple[Held, ...] = ()


MARK_SIGN = b'"$imagepolicy"'
"""What every mark holds, and so every file that has one."""


@immutable
class Mark:
    """One scalar of a file that is marked for a policy. `start` and `end` count characters of the text."""

    policy: str
    part: str
    """`tag`, `name` or `digest`; empty for the whole reference."""
    value: str
    line: int
    """Of the mark, counted from 1."""
    start: int
    end: int
    style: str
    """`'`, `"`, `|`, `>` or empty for a plain scalar."""


@immutable
class ImageChange:
    """One marked scalar that a commit changes."""

    file: str
    policy: str
    image: str
    before: str
    """The tag, with `@` and the digest where one stood there; empty where none could be told."""
    after: str
    old: str
    """The scalar's value, before and after."""
    new: str
