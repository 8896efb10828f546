"""What a turn would do, as a value: shown, limited, approved and only then carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from gitsyncd.model.ids import ObjectId
from gitsyncd.model.immutable import immutable
from gitsyncd.model.inventory import Entry
from gitsyncd.model.manifest import Manifest
from gitsyncd.model.observed import Addition, Observed


class Operation(StrEnum):
    """The operations of the decision table, `core.plan.TABLE`. `keep` is only counted, never listed."""

    KEEP = "keep"
    CREATE = "create"
    UPDATE = "update"
    REVERT = "revert"
    ADOPT = "adopt"
    RECREATE = "recreate"
    PRUNE = "prune"
    RELEASE = "release"
    BLOCK = "block"


class DriftKind(StrEnum):
    """The key `kind` of `drift reverted`."""

    CHANGED = "changed"
    DELETED = "deleted"
    ADDED = "added"
    OWNERSHIP = "ownership"


@immutable
class Change:
    """One object and what is to be done with it. What stands on both sides is kept for whoever carries it out."""

    id: ObjectId
    operation: Operation
    reason: str
    drift: DriftKind | None = None
    """Set when the cluster moved, alone or together with Git."""
    manifest: Manifest | None = None
    entry: Entry | None = None
    observed: Observed | None = None
    stage: tuple[int, int] = (0, 0)
    """Wave, then stage within it. Prunes run after all applies, in reverse."""
    report_only: bool = False
    """Drift that policy says to report and leave alone: nothing is written."""


class Guarded(StrEnum):
    """What a guard keeps from happening unasked. The values are those of the label `reason` of a metric."""

    EMPTY = "empty"
    """A revision without any object for the target."""
    BUDGET = "budget"
    """More deletes than the target allows at once."""
    APPROVAL_NEEDED = "approval-needed"
    """The delete of an object, or of a kind, that takes data along."""


@immutable
class Refusal:
    """Why a guard stopped the deletes of a plan."""

    guarded: Guarded
    reason: str
    prune: int
    """Deletes that the plan wanted."""
    limit: int
    """Deletes that would have been let through."""


@immutable
class Plan:
    """The changes of one turn, in order. A plan without changes is an object in sync."""

    target: str
    revision: str
    changes: tuple[Change, ...]
    keep: int
    digest: str
    """Names what an approval is about: target, commit and the exact deletes, or all changes where nothing is deleted.
    """
    refused: Refusal | None = None
    """Set when a guard took the deletes out of `changes`; they stand in `withheld`."""
    withheld: tuple[Change, ...] = ()
    recorded: Mapping[ObjectId, Entry] = field(default_factory=dict)
    """Entries to be recorded though nothing is written to their object: a delete by somebody else that is under way."""
    calmed: tuple[ObjectId, ...] = ()
    """Objects in a fight: they have drifted, and are left alone for now."""
    foreign: tuple[tuple[ObjectId, Addition], ...] = ()
    """Fields added by others that policy leaves alone and that a person should hear about once."""
