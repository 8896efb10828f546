"""How the inventory follows a turn. Two rules make it safe:

1. `intend`: before the first write the record already names everything that the turn may create or take over.
2. `settle`: an entry leaves the record only on a confirmed delete, a confirmed absence, or a release.

Without the first a crash leaves an orphan that nobody ever prunes; without the second a delete that a finalizer holds,
or that admission refuses, is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from gitsyncd.model.errors import GitsyncdError
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.immutable import immutable
from gitsyncd.model.inventory import Entry, EntryState, Inventory
from gitsyncd.model.observed import Blame, Observed
from gitsyncd.model.plan import Change, Operation, Plan

_NEVER_APPLIED = frozenset({Operation.PRUNE, Operation.RELEASE, Operation.BLOCK})
_GIVES_NEW_UID = frozenset({Operation.CREATE, Operation.ADOPT, Operation.RECREATE})


@immutable
class Outcome:
    """What became of one change. Exactly one of the three: an error, an object as it is now, or confirmed absence."""

    change: Change
    error: GitsyncdError | None = None
    observed: Observed | None = None
    """The live object in the server's answer to our write; still there after a delete that finalizers hold."""
    skipped: bool = False
    """Not carried out: drift only reported, or the turn ended early."""
    fields: tuple[str, ...] = ()
    """Paths that the write changed back, for `drift reverted`."""
    blame: Blame | None = None
    """Who had changed them."""
    took_s: float = 0.0


def intend(inventory: Inventory, plan: Plan, *, commit: str, cluster_uid: str) -> Inventory:
    """The inventory to be written before the first write of this plan. The same object when nothing has to be."""
    changed: dict[ObjectId, Entry] = {}
    for change in plan.changes:
        if change.operation in _NEVER_APPLIED or change.report_only or change.manifest is None:
            continue
        known = inventory.entries.get(change.id)
        if known is None:
            changed[change.id] = _pending(change)
        elif _may_get_new_uid(change, known):
            changed[change.id] = replace(known, state=EntryState.PENDING, uid="")
    if not _differ(inventory, changed) and inventory.commit == commit and inventory.cluster_uid == cluster_uid:
        return inventory
    return replace(inventory, entries={**inventory.entries, **changed}, commit=commit, cluster_uid=cluster_uid)


def settle(inventory: Inventory, plan: Plan, outcomes: Iterable[Outcome], *, commit: str) -> Inventory:
    """The inventory after the outcomes are known. The same object when it already says so.

    An inventory that was rebuilt from marks is trusted from here on: one turn has gone by without a delete.
    """
    changed: dict[ObjectId, Entry | None] = dict(plan.recorded)
    for outcome in outcomes:
        _settle_one(changed, inventory, outcome, commit)
    if not _differ(inventory, changed) and inventory.trusted:
        return inventory
    entries = {object_id: entry for object_id, entry in {**inventory.entries, **changed}.items() if entry is not None}
    return replace(inventory, entries=entries, trusted=True)


def _differ(inventory: Inventory, changed: Mapping[ObjectId, Entry | None]) -> bool:
    """Whether any of these (None: gone) is not what the inventory says."""
    return any(inventory.entries.get(object_id) != entry for object_id, entry in changed.items())


def inherited(own: Inventory, old: Inventory) -> Inventory:
    """The record of a target that was renamed, widened by the one of its old name."""
    return replace(
        own,
        entries={**old.entries, **own.entries},
        cluster_uid=own.cluster_uid or old.cluster_uid,
        commit=own.commit or old.commit,
        trusted=own.trusted and old.trusted,
    )


def rebuilt(target: str, marked: Mapping[ObjectId, tuple[str, Observed]], *, cluster_uid: str) -> Inventory:
    """An inventory from the marks on live objects (id → served version, object), for one that was lost.

    It is not trusted: a turn that starts from it prunes nothing. Everything in it is pending, so that Git's
    objects are applied once more and confirmed.
    """
    entries = {
        object_id: Entry(api_version=version, state=EntryState.PENDING, uid=observed.uid)
        for object_id, (version, observed) in marked.items()
    }
    return Inventory(target=target, entries=entries, cluster_uid=cluster_uid, trusted=False)


def _may_get_new_uid(change: Change, known: Entry) -> bool:
    """Whether this change may leave an object that is not the recorded one, to be found by its marks after a crash."""
    if change.manifest is not None and change.manifest.controls.recreate:
        return True
    return (
        change.operation in _GIVES_NEW_UID
        and bool(known.uid)
        and (change.observed is None or change.observed.uid != known.uid)
    )


def _pending(change: Change) -> Entry:
    assert change.manifest is not None
    return Entry(
        api_version=change.manifest.api_version,
        state=EntryState.PENDING,
        path=change.manifest.origin.file,
        prune=change.manifest.controls.prune,
    )


def _settle_one(changed: dict[ObjectId, Entry | None], inventory: Inventory, outcome: Outcome, commit: str) -> None:
    change = outcome.change
    if outcome.skipped or outcome.error is not None or change.operation is Operation.BLOCK:
        return
    known = inventory.entries.get(change.id)
    if change.operation is Operation.RELEASE:
        changed[change.id] = None
    elif change.operation is Operation.PRUNE:
        deleting = outcome.observed is not None and known is not None
        changed[change.id] = replace(known, state=EntryState.DELETING) if deleting and known else None
    elif outcome.observed is not None and change.manifest is not None:
        changed[change.id] = live_entry(change, outcome.observed, commit)


def live_entry(change: Change, observed: Observed, commit: str) -> Entry:
    """The record of an object that the server has just confirmed."""
    manifest = change.manifest
    assert manifest is not None
    for_git = change.operation is not Operation.REVERT and not (
        change.drift and change.entry and change.entry.digest == manifest.digest
    )
    return Entry(
        api_version=manifest.api_version,
        state=EntryState.LIVE,
        uid=observed.uid,
        digest=manifest.digest,
        entry_hash=observed.entry_hash,
        projection_hash=observed.projection_hash,
        commit=commit if for_git or change.entry is None else change.entry.commit,
        path=manifest.origin.file,
        prune=manifest.controls.prune,
    )
