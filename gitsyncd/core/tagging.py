"""What is written at a marked scalar, and what the commit that writes it says.

Which tag of a policy is wanted is `core.images`; how a scalar is written into a file is the business of its edge.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from gitsyncd.core.images import would_go_back
from gitsyncd.core.reference import Reference, is_digest, is_tag, reference
from gitsyncd.model.image import Found, ImageChange, ImagePolicy, Mark, PinDigest, Rule
from gitsyncd.model.immutable import immutable

POLICY_TRAILER: Final = "Gitsyncd-Policy"
IMAGE_TRAILER: Final = "Gitsyncd-Image"
_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}", re.ASCII)
_MOST_LINES: Final = 200
"""Of changes or files in one message. Trailers name every image whatever the number of files."""
_MOST_NAMED: Final = 3
"""Policies in a subject."""


@immutable
class Standing:
    """What a file has for a policy: at one mark, or at a pair of marks for the tag and the digest."""

    tag: str = ""
    digest: str = ""


def standing(mark: Mark) -> Standing:
    """Nothing for what cannot be told: a value that is no reference, a template."""
    match mark.part:
        case "":
            try:
                found = reference(mark.value)
            except ValueError:
                return Standing()
            return Standing(tag=found.tag, digest=found.digest)
        case "tag":
            tag, _, digest = mark.value.partition("@")
            return Standing(tag=tag if is_tag(tag) else "", digest=digest if is_digest(digest) else "")
        case "digest":
            return Standing(digest=mark.value if is_digest(mark.value) else "")
        case _:
            return Standing()


def standings(marked: Iterable[tuple[Hashable, Mark]]) -> dict[str, str]:
    """Given marks and what tells their files apart, the tags that stand there: by tag, the digest beside it, in the
    same scalar or in one of its own; empty where there is none or more than one.
    """
    files: dict[Hashable, list[Standing]] = {}
    for file, mark in marked:
        files.setdefault(file, []).append(standing(mark))
    digests: dict[str, set[str]] = {}
    for found in files.values():
        apart = {each.digest for each in found if not each.tag} - {""}
        for each in found:
            if each.tag:
                digests.setdefault(each.tag, set()).update({each.digest} if each.digest else apart)
    return {tag: next(iter(beside)) if len(beside) == 1 else "" for tag, beside in digests.items()}


def new_values(policy: ImagePolicy, selected: Found, marks: Sequence[Mark]) -> dict[Mark, str]:
    """What the marks of one file that name this policy should hold, where that is not what they hold.

    Nothing where the file is ahead of the choice and the policy may not go backwards. Where a file has a mark of its
    own for the digest, a mark for the tag gets the tag alone; else a digest that is wanted follows the tag there too.
    """
    apart = any(mark.part == "digest" for mark in marks)
    held = {standing(mark).tag for mark in marks} - {""}
    if any(would_go_back(policy, selected, tag) for tag in held):
        return {}
    moved = held != {selected.tag}
    values = {}
    for mark in marks:
        value = _value(policy, selected, mark, apart=apart, moved=moved)
        if value is not None and value != mark.value:
            values[mark] = value
    return values


def _value(policy: ImagePolicy, selected: Found, mark: Mark, *, apart: bool, moved: bool) -> str | None:
    held = standing(mark)
    if held.tag:
        moved = held.tag != selected.tag
    digest = _digest(policy, selected, held, moved=moved)
    match mark.part:
        case "":
            return str(Reference(name=policy.image, tag=selected.tag, digest=digest))
        case "tag":
            return f"{selected.tag}@{digest}" if digest and not apart else selected.tag
        case "name":
            return policy.image
        case _:
            # A mark for the digest asks for one whatever the policy says of tags.
            return digest or (selected.digest if moved or policy.pin_digest is PinDigest.NEVER else mark.value)


def _digest(policy: ImagePolicy, selected: Found, held: Standing, *, moved: bool) -> str:
    """The digest that is written beside the tag; empty for none."""
    if policy.pin_digest is PinDigest.ALWAYS or policy.select.rule is Rule.DIGEST:
        return selected.digest
    if policy.pin_digest is PinDigest.NEVER:
        return ""
    return selected.digest if moved or not held.digest else held.digest


def move(file: str, policy: ImagePolicy, mark: Mark, value: str) -> ImageChange:
    """What writing this value at this mark is, in words for people."""
    before, after = standing(mark), standing(replace(mark, value=value))
    return ImageChange(
        file=file,
        policy=policy.name,
        image=policy.image,
        before=_shown(before),
        after=_shown(after),
        old=mark.value,
        new=value,
    )


def _shown(found: Standing) -> str:
    return found.tag + (f"@{found.digest}" if found.digest else "")


# --- The commit ------------------------------------------------------------------------------------------------------
def message(template: str, changes: Sequence[ImageChange], *, agent: str) -> str:
    """The whole message: the template filled in, and a trailer for each policy and each image that moves."""
    policies = _distinct(change.policy for change in changes)
    moves = _distinct(_move(change) for change in changes if change.after)
    parts = {
        "summary": summary(changes),
        "policies": ", ".join(policies),
        "changes": _lines(f"- {change.file}: {change.old} -> {change.new}" for change in changes),
        "files": _lines(f"- {file}" for file in _distinct(change.file for change in changes)),
        "agent": agent,
    }
    text = _PLACEHOLDER.sub(lambda found: parts.get(found[1], found[0]), template)
    trailers = [f"{POLICY_TRAILER}: {policy}" for policy in policies] + [f"{IMAGE_TRAILER}: {move}" for move in moves]
    return f"{text.strip()}\n\n" + "\n".join(trailers) + "\n"


def _move(change: ImageChange) -> str:
    if not change.before:
        return f"{change.image} -> {change.after}"
    if change.before.startswith("@"):
        return f"{change.image}{change.before} -> {change.after.removeprefix('@')}"
    return f"{change.image}:{change.before} -> {change.after}"


def summary(changes: Sequence[ImageChange]) -> str:
    """One line."""
    policies = _distinct(change.policy for change in changes)
    if len(policies) == 1:
        tags = [tag for change in changes if (tag := change.after.partition("@")[0])]
        return f"Update {policies[0]} to {tags[0]}" if tags else f"Update {policies[0]}"
    named = f": {', '.join(policies)}" if len(policies) <= _MOST_NAMED else ""
    return f"Update {len(policies)} images{named}"


def _lines(lines: Iterable[str]) -> str:
    every = list(lines)
    left = len(every) - _MOST_LINES
    return "\n".join(every[:_MOST_LINES] + ([f"- and {left} more"] if left > 0 else []))


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
