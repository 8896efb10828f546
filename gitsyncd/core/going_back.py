"""Which commits are no place to go back to, and which images must not come back once one has gone.

Pure. Where the facts come from, and how one goes back, is `engine.rollback`; what a quarantine does to the choice of a
tag is `core.images`, and to a head `core.admission`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import field

from gitsyncd.core.images import same_image
from gitsyncd.core.reference import ImageName, Reference, image_name, reference
from gitsyncd.model.history import History
from gitsyncd.model.image import ImagePolicy, Quarantined, QuarantinedCommit, Rule
from gitsyncd.model.immutable import immutable


@immutable
class Barred:
    """What is quarantined, as far as it is about one target: a listed commit, and whatever wants the same as one."""

    commits: Mapping[str, QuarantinedCommit] = field(default_factory=dict)
    contents: Collection[str] = ()
    """What listed commits wanted, by the target's own history."""
    trees: Collection[str] = ()
    """What is below the target's path in listed commits that changed it. The others only had what was there."""

    images: Collection[Quarantined] = ()
    """What must not run again."""

    def against(self, commit: str, content: str, tree: str, images: Iterable[str]) -> str:
        """Why this commit, which wants these images, is no place to go back to; empty where nothing speaks against
        it.
        """
        if (entry := self.commits.get(commit)) is not None:
            return f"is quarantined{f' ({entry.reason})' if entry.reason else ''}"
        if (content and content in self.contents) or tree in self.trees:
            return "wants the same as a commit that is quarantined"
        for name, named in _named(images):
            if any(_is_of(entry, name, named) for entry in self.images):
                return f"runs {named}, which is quarantined"
        return ""


def _is_of(entry: Quarantined, name: ImageName, named: Reference) -> bool:
    """Whether an entry speaks of this image, however it is written there."""
    is_meant = (entry.tag and entry.tag == named.tag) or (entry.digest and entry.digest == named.digest)
    return bool(is_meant) and same_image(entry.image, str(name))


def contents_of(history: History, commits: Collection[str]) -> set[str]:
    """What these commits wanted, where the history has them."""
    return {passage.content for passage in history.passages if passage.commit in commits and passage.content}


def kept_out(
    before: Iterable[str],
    after: Iterable[str],
    policies: Iterable[ImagePolicy],
    digest: Callable[[Reference], str] = lambda _: "",
) -> tuple[Quarantined, ...]:
    """What is to be listed when `before` gives way to `after`, both being images as manifests name them; `digest` is
    what is known of an image that is named without.

    Nothing that `after` has. An image may have other tags, so that its digest is listed beside its tag where it is
    known. Where a policy follows the digest of a tag, the tag is not what was bad: the next image
    under it has to pass, so that the digest is listed alone.
    """
    stay = _named(after)
    tags = {(name, named.tag) for name, named in stay} | {
        (image_name(policy.image), policy.select.wanted) for policy in policies if policy.select.rule is Rule.DIGEST
    }
    digests = {(name, named.digest or digest(named)) for name, named in stay}
    entries = (
        Quarantined(
            image=named.name,
            tag="" if (name, named.tag) in tags else named.tag,
            digest="" if (name, found) in digests else found,
        )
        for name, named in _named(before)
        for found in [named.digest or digest(named)]
    )
    return tuple(dict.fromkeys(entry for entry in entries if entry.tag or entry.digest))


def _named(images: Iterable[str]) -> list[tuple[ImageName, Reference]]:
    """In order. Text that names no image is left out: nobody can select it either."""
    found = []
    for image in sorted(images):
        with suppress(ValueError):
            named = reference(image)
            found.append((image_name(named.name), named))
    return found
