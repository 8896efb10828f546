"""Two sides of one object compared: whose a live object is, how it moved away, and what others added to it.

Belongs here: single questions with an answer each. Does not belong here: what is done about the answers (`plan`).
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from gitsyncd.core.ignore import is_yielded
from gitsyncd.model.inventory import Entry
from gitsyncd.model.manifest import Apply, Manifest
from gitsyncd.model.observed import Addition, Observed, Writer
from gitsyncd.model.plan import DriftKind
from gitsyncd.model.target import ForeignFields, Policy


class Owner(StrEnum):
    """Whose object a live one is, by its marks and our record."""

    US = "us"
    NOBODY = "nobody"
    OTHER = "another target or agent"


def owner(observed: Observed, entry: Entry | None, target: str, agent: str, *, was: str = "") -> tuple[Owner, str]:
    """Whose live object this is, and the other owner's name where it is somebody else's.

    A mark that names another object is a copy and proves nothing. Without any mark an object is still ours when it is
    the very one that we recorded: somebody took the label off, which is drift and not a change of owner. That is enough
    for restoring it and never for deleting it: see `plan`. `was` is the name that the target had before.
    """
    mark = observed.mark
    if mark is not None and mark.describes_itself:
        if mark.agent != agent:
            return Owner.OTHER, f"agent {mark.agent}"
        ours = mark.target == target or (bool(was) and mark.target == was)
        return (Owner.US, "") if ours else (Owner.OTHER, f"target {mark.target}")
    if entry is not None and entry.uid == observed.uid:
        return Owner.US, ""
    return Owner.NOBODY, ""


def drift(entry: Entry, observed: Observed, policy: Policy, *, merge: bool = False) -> DriftKind | None:
    """How the live object moved away from what we last saw in answer to our own apply; None when it did not.

    With `merge`, what others add is theirs.
    """
    if observed.projection_hash != entry.projection_hash:
        return DriftKind.CHANGED
    if not merge and any(removes(addition, policy) for addition in observed.additions):
        return DriftKind.ADDED
    return DriftKind.OWNERSHIP if observed.entry_hash != entry.entry_hash else None


def left_alone(manifest: Manifest) -> bool:
    """Whether Git itself says not to touch this object."""
    return not manifest.controls.reconcile or manifest.controls.apply is Apply.IGNORE


def removes(addition: Addition, policy: Policy) -> bool:
    """Whether policy has these added fields removed again."""
    if addition.keep:
        return False
    if policy.foreign_fields is ForeignFields.REVERT_INTERACTIVE:
        return addition.writer in {Writer.PERSON, Writer.DELIVERY}
    return policy.foreign_fields is ForeignFields.REVERT_ALL and addition.writer is not Writer.CONTROLLER


def to_tell(manifest: Manifest, observed: Observed, policy: Policy) -> list[Addition]:
    """Fields that others added, that stay, and that a person should hear of: not those that others may own anyway."""
    theirs = manifest.controls.apply in {Apply.MERGE, Apply.IF_NOT_PRESENT} or left_alone(manifest)
    if theirs or observed.reconcile_disabled or policy.foreign_fields is ForeignFields.IGNORE:
        return []
    stays = (
        _beside(addition, manifest.yields)
        for addition in observed.additions
        if addition.writer is not Writer.CONTROLLER and not removes(addition, policy)
    )
    return [addition for addition in stays if addition.fields]


def _beside(addition: Addition, yields: tuple[str, ...]) -> Addition:
    """What of it is not in a field that others may own."""
    if not yields:
        return addition
    left = [pair for pair in zip(addition.fields, addition.keys, strict=True) if not is_yielded(pair[1], yields)]
    return replace(addition, fields=tuple(text for text, _ in left), keys=tuple(path for _, path in left))
