"""What a turn would do: one pure function over what Git wants, what is recorded and what is live.

The decision table `TABLE` is the whole of it: its rows are tried from the top, the first that matches decides. A row
either names its operation or hands the pair over to one small function that looks at the two sides more closely. The
printed reference and the tests walk the same table.

Belongs here: what is done with which object and why. Does not belong here: how many deletes are too many (`guard`), in
what order things are done (`order`), and carrying anything out (engine).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field, replace
from enum import Enum

from gitsyncd.core.compare import Owner, drift, left_alone, owner, to_tell
from gitsyncd.core.desired import SECRET
from gitsyncd.core.order import NAMESPACE, stage
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.immutable import immutable
from gitsyncd.model.inventory import Entry, EntryState, Inventory
from gitsyncd.model.manifest import Apply, Desired, Manifest
from gitsyncd.model.observed import Addition, Observed
from gitsyncd.model.plan import Change, DriftKind, Operation, Plan
from gitsyncd.model.target import Adopt, DriftAction, Policy

DELETED_ON_CLUSTER = "drift: deleted on the cluster"
PROTECTED_NAMESPACES = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})


@immutable
class Scene:
    """Everything that one plan looks at. Nothing else is known to it."""

    target: str
    """The target's name, without the cluster."""
    target_id: str
    agent: str
    revision: str
    """As shown: `main@sha1:<hex>`."""
    commit: str
    desired: Desired
    inventory: Inventory
    observed: Mapping[ObjectId, Observed]
    """Live objects. An id that is absent here was looked for and is not there."""
    policy: Policy = Policy()
    agent_namespace: str = "gitsyncd"
    claims: Mapping[ObjectId, str] = field(default_factory=dict)
    """What other targets of this agent want on this cluster, and their names."""
    claims_complete: bool = True
    """False while some other target of this cluster could not say what it wants: then nothing is pruned."""
    unseen: Collection[ObjectId] = frozenset()
    """Objects of this target that could not be looked at. Nothing is decided about them, nor over their heads."""
    calm: Collection[ObjectId] = frozenset()
    """Objects in a fight whose drift is left alone for now."""
    scope: Collection[ObjectId] | None = None
    """Look at these only. None means everything, and only then is anything pruned."""
    was: str = ""
    """The name that the target had before."""
    final: bool = False
    """No further turn of this target follows: what another target wants is left to it now, taken over or not."""


@immutable
class Case:
    """One object and all that is known of it."""

    id: ObjectId
    manifest: Manifest | None
    entry: Entry | None
    observed: Observed | None
    owner: Owner | None
    """None when nothing is live."""
    owned_by: str = ""


class Fact(Enum):
    """A cell of the decision table. `ANY` matches both."""

    YES = "yes"
    NO = "no"
    ANY = "any"

    def holds(self, value: bool) -> bool:
        return self is Fact.ANY or (self is Fact.YES) is value


@immutable
class Row:
    """One row: what it matches, and what follows."""

    git: Fact
    recorded: Fact
    live: Fact
    owner: frozenset[Owner] = frozenset(Owner)
    operation: str
    """As the reference prints it; what `decide` may answer."""
    reason: str
    decide: Callable[[Case, Scene], Change | None]

    def matches(self, case: Case) -> bool:
        return (
            self.git.holds(case.manifest is not None)
            and self.recorded.holds(case.entry is not None)
            and self.live.holds(case.observed is not None)
            and (case.owner is None or case.owner in self.owner)
        )


def plan(scene: Scene) -> Plan:
    """The changes that make the cluster what Git says, in order, before any guard has looked at the deletes."""
    wanted: Mapping[ObjectId, Manifest] = scene.desired.manifests
    if scene.desired.unknown:
        wanted = {**wanted, **scene.desired.unknown}
    ids: Iterable[ObjectId] = wanted.keys() | scene.inventory.entries.keys() if scene.scope is None else scene.scope
    changes: list[Change] = []
    recorded: dict[ObjectId, Entry] = {}
    foreign: list[tuple[ObjectId, Addition]] = []
    calmed: list[ObjectId] = []
    keep = 0
    for object_id in ids:
        manifest, entry, observed = (
            wanted.get(object_id),
            scene.inventory.entries.get(object_id),
            scene.observed.get(object_id),
        )
        if (
            manifest is not None
            and entry is not None
            and observed is not None
            and _untouched(manifest, entry, observed, scene)
        ):
            keep += 1
            continue
        case = _case(object_id, manifest, entry, observed, scene)
        change = _decide(case, scene)
        if change is not None and object_id in scene.calm and _drift_only(change):
            calmed.append(object_id)
        elif change is not None:
            changes.append(change)
        elif manifest is not None and observed is not None:
            keep += 1
        noted = _noted(case, scene.commit) if change is None else None
        if noted is not None:
            recorded[object_id] = noted
        # While some of our fields are somebody else's, they look like additions of his; that is drift and said as such.
        if case.owner is Owner.US and manifest and entry and observed and observed.entry_hash == entry.entry_hash:
            foreign += [(object_id, addition) for addition in to_tell(manifest, observed, scene.policy)]
    changes = _spare_twins(changes, wanted, scene)
    changes.sort(key=_position)
    ordered = tuple(changes)
    return Plan(
        target=scene.target_id,
        revision=scene.revision,
        changes=ordered,
        keep=keep,
        recorded=recorded,
        foreign=tuple(foreign),
        calmed=tuple(calmed),
        digest=digest(scene.target_id, scene.commit, ordered),
    )


def digest(target: str, commit: str, changes: Iterable[Change]) -> str:
    """What an approval names: target, commit and the exact deletes; all changes where nothing is deleted.

    Creates and updates go on while deletes wait for approval, so a digest over everything would be out of date before
    anybody could approve it. What is in a Secret does not count: its digest has a key, which may be yet to be made.
    """
    listed = tuple(changes)
    prunes = [change for change in listed if change.operation is Operation.PRUNE]
    named = sorted(
        f"{change.operation} {change.id} {change.observed.uid if change.observed and prunes else ''}"
        f" {change.manifest.digest if change.manifest and (change.id.group, change.id.kind) != SECRET else ''}"
        for change in prunes or listed
    )
    return hashlib.blake2b("\n".join([target, commit, *named]).encode(), digest_size=16).hexdigest()


def _untouched(manifest: Manifest, entry: Entry, observed: Observed, scene: Scene) -> bool:
    """The short way for nearly every object of nearly every turn: the same in Git, the same on the cluster."""
    return (
        entry.digest == manifest.digest
        and entry.state is EntryState.LIVE
        and entry.uid == observed.uid
        and entry.projection_hash == observed.projection_hash
        and entry.entry_hash == observed.entry_hash
        and not observed.additions
        and not observed.deleting
        and observed.mark is not None
        and observed.mark.describes_itself
        and observed.mark.target == scene.target
        and observed.mark.agent == scene.agent
    )


def _case(
    object_id: ObjectId, manifest: Manifest | None, entry: Entry | None, observed: Observed | None, scene: Scene
) -> Case:
    whose, name = (None, "") if observed is None else owner(observed, entry, scene.target, scene.agent, was=scene.was)
    return Case(id=object_id, manifest=manifest, entry=entry, observed=observed, owner=whose, owned_by=name)


def _decide(case: Case, scene: Scene) -> Change | None:
    row = next(row for row in TABLE if row.matches(case))
    return row.decide(case, scene)


def _drift_only(change: Change) -> bool:
    """Whether only the cluster moved: what Git asks for is carried out in a fight, too."""
    return change.operation is Operation.REVERT or change.reason == DELETED_ON_CLUSTER


def _change(
    case: Case, scene: Scene, operation: Operation, reason: str, kind: DriftKind | None = None, *, report: bool = False
) -> Change:
    when = scene.desired.stages.get(case.id) or stage(case.id, case.manifest.controls.wave if case.manifest else 0)
    return Change(
        id=case.id,
        operation=operation,
        reason=reason,
        drift=kind,
        manifest=case.manifest,
        entry=case.entry,
        observed=case.observed,
        stage=when,
        report_only=report,
    )


def _position(change: Change) -> tuple[bool, tuple[int, int], ObjectId]:
    """Applies in the order of their stages, then deletes in the reverse order."""
    last = change.operation in {Operation.PRUNE, Operation.RELEASE}
    wave, rank = change.stage
    return last, (-wave, -rank) if last else change.stage, change.id


def _create(case: Case, scene: Scene) -> Change | None:
    assert case.manifest is not None
    if left_alone(case.manifest):
        return None
    elsewhere = scene.claims.get(case.id)
    # Two targets that both begin to want it: the first by name makes it, so that one of them does.
    if elsewhere and case.entry is None and elsewhere < scene.target:
        return _change(case, scene, Operation.BLOCK, f"wanted by target {elsewhere}, too")
    if case.entry is None or case.entry.state is EntryState.PENDING:
        return _change(case, scene, Operation.CREATE, "new in revision")
    if case.entry.state is EntryState.DELETING:
        # We deleted it ourselves, before Git wanted it again: no drift, and nothing that policy could only report.
        return _change(case, scene, Operation.CREATE, "new in revision, after its deletion")
    if case.manifest.digest != case.entry.digest:
        return _change(
            case, scene, Operation.CREATE, "changed in revision and deleted on the cluster", DriftKind.DELETED
        )
    report = scene.policy.drift is DriftAction.REPORT
    return _change(case, scene, Operation.CREATE, DELETED_ON_CLUSTER, DriftKind.DELETED, report=report)


def _compare(case: Case, scene: Scene) -> Change | None:
    """Ours, and live: keep, update or revert. Did Git move, did the cluster move?"""
    manifest, entry, observed = case.manifest, case.entry, case.observed
    assert manifest is not None and observed is not None
    if left_alone(manifest) or observed.reconcile_disabled:
        return None
    if manifest.controls.apply is Apply.IF_NOT_PRESENT:
        return None
    if observed.deleting:
        return _change(case, scene, Operation.BLOCK, "being deleted on the cluster: created again when it is gone")
    if entry is None or entry.state is EntryState.PENDING:
        return _change(case, scene, Operation.UPDATE, "not confirmed by an earlier turn")
    moved = drift(entry, observed, scene.policy, merge=manifest.controls.apply is Apply.MERGE)
    words = _DRIFT_WORDS[moved] if moved else ""
    if entry.uid != observed.uid:
        moved, words = DriftKind.CHANGED, "deleted and created again on the cluster"
    elif moved is None and observed.mark is None:
        moved, words = DriftKind.CHANGED, "our label removed on the cluster"
    if manifest.digest != entry.digest or entry.state is EntryState.DELETING:
        reason = "changed in revision" if moved is None else "changed in revision and on the cluster"
        return _change(case, scene, Operation.UPDATE, reason, moved)
    if moved is None:
        return None
    report = scene.policy.drift is DriftAction.REPORT
    return _change(case, scene, Operation.REVERT, f"drift: {words}", moved, report=report)


_DRIFT_WORDS = {
    DriftKind.CHANGED: "changed on the cluster",
    DriftKind.ADDED: "fields added on the cluster",
    DriftKind.OWNERSHIP: "ownership of fields lost on the cluster",
}


def _adopt(case: Case, scene: Scene) -> Change | None:
    manifest = case.manifest
    assert manifest is not None and case.observed is not None
    if left_alone(manifest) or manifest.controls.apply is Apply.IF_NOT_PRESENT or case.observed.reconcile_disabled:
        return None
    if case.observed.deleting:
        return _change(case, scene, Operation.BLOCK, "being deleted on the cluster: created again when it is gone")
    if scene.policy.adopt is Adopt.NEVER and not _recorded(case.observed.uid, scene):
        return _change(case, scene, Operation.BLOCK, "exists already, and `adopt: never` leaves it to whoever made it")
    return _change(case, scene, Operation.ADOPT, "exists already")


def _contested(case: Case, scene: Scene) -> Change | None:
    """Marked by somebody else. A target of our own that no longer wants it hands it over; nobody else does."""
    manifest, observed = case.manifest, case.observed
    assert manifest is not None and observed is not None
    if left_alone(manifest) or manifest.controls.apply is Apply.IF_NOT_PRESENT or observed.reconcile_disabled:
        return None
    if observed.deleting:
        return _change(case, scene, Operation.BLOCK, "being deleted on the cluster: created again when it is gone")
    mark = observed.mark
    ours = mark is not None and mark.agent == scene.agent
    if ours and mark is not None and scene.claims_complete and scene.claims.get(case.id) != mark.target:
        return _change(case, scene, Operation.ADOPT, f"handed over by target {mark.target}")
    if scene.policy.adopt is Adopt.ALWAYS and not ours:
        return _change(case, scene, Operation.ADOPT, f"taken over from {case.owned_by}: `adopt: always`")
    return _change(case, scene, Operation.BLOCK, f"owned by {case.owned_by}")


def _prune(case: Case, scene: Scene) -> Change | None:
    entry, observed = case.entry, case.observed
    assert entry is not None and observed is not None
    if scene.scope is not None:
        return None
    if case.id in scene.claims and not scene.final:
        # Handed over. It stays on record until the other target has put its mark on it: released before, it would
        # belong to nobody if Git changed its mind in between.
        return None
    kept = _why_kept(case, scene)
    if kept:
        return _change(case, scene, Operation.RELEASE, kept)
    if observed.deleting or not scene.claims_complete or not scene.inventory.trusted:
        return None
    if (case.id.group, case.id.kind) == NAMESPACE and _still_wanted_in(case.id.name, scene):
        return _change(
            case, scene, Operation.BLOCK, "removed in revision, but Git still wants objects in this namespace"
        )
    return _change(case, scene, Operation.PRUNE, "removed in revision")


def _why_kept(case: Case, scene: Scene) -> str:
    """Why a live object that Git no longer names is forgotten and not deleted; empty when it may be deleted."""
    entry, observed, object_id = case.entry, case.observed, case.id
    assert entry is not None and observed is not None
    if object_id in scene.claims:
        return f"handed over to target {scene.claims[object_id]}"
    if observed.mark is None or not observed.mark.describes_itself:
        return "ownership changed on the cluster"
    if entry.uid and entry.uid != observed.uid:
        return "another object of that name took its place on the cluster"
    if observed.controlled:
        return "controlled by another object on the cluster"
    if _protected(object_id, scene):
        return "never deleted by gitsyncd"
    if (object_id.group, object_id.kind) == NAMESPACE and (exempt := _exempt_in(object_id.name, scene)):
        return f"removed in revision, but it holds {exempt}, which is annotated to stay"
    if not scene.policy.prune.enabled:
        return "removed in revision, and pruning is off for this target"
    if observed.prune_disabled or not entry.prune:
        return "removed in revision, and annotated not to be pruned"
    return "removed in revision, and annotated not to be reconciled" if observed.reconcile_disabled else ""


def _exempt_in(namespace: str, scene: Scene) -> str:
    """The first object by name recorded in this namespace and never to be deleted; empty without one."""
    exempt = (
        str(object_id)
        for object_id, entry in scene.inventory.entries.items()
        if object_id.namespace == namespace
        and (observed := scene.observed.get(object_id)) is not None
        and (not entry.prune or observed.prune_disabled or observed.reconcile_disabled)
    )
    return min(exempt, default="")


def _protected(object_id: ObjectId, scene: Scene) -> bool:
    if (object_id.group, object_id.kind) == NAMESPACE:
        return object_id.name in PROTECTED_NAMESPACES or object_id.name == scene.agent_namespace
    return object_id.namespace == scene.agent_namespace and object_id.name.startswith("gitsyncd.")


def _still_wanted_in(namespace: str, scene: Scene) -> bool:
    everything = (scene.desired.manifests, scene.desired.unknown, scene.unseen, scene.claims)
    return any(object_id.namespace == namespace for ids in everything for object_id in ids)


def _recorded(uid: str, scene: Scene) -> bool:
    """Whether we recorded this very object, be it under the name of another group that serves it, too."""
    return any(entry.uid == uid for entry in scene.inventory.entries.values())


def _spare_twins(changes: list[Change], wanted: Collection[ObjectId], scene: Scene) -> list[Change]:
    """Two groups may serve one object: what Git wants under one name is not deleted under the other."""
    if not any(change.operation is Operation.PRUNE for change in changes):
        return changes
    uids = {scene.observed[object_id].uid for object_id in wanted if object_id in scene.observed}
    return [
        replace(change, operation=Operation.RELEASE, reason="wanted under another group that serves the same object")
        if change.operation is Operation.PRUNE and change.observed is not None and change.observed.uid in uids
        else change
        for change in changes
    ]


def _noted(case: Case, commit: str) -> Entry | None:
    """What has to be recorded of an object to which nothing is written; None nearly always."""
    manifest, entry, observed = case.manifest, case.entry, case.observed
    if observed is None:
        return None
    if manifest is None:
        return replace(entry, state=EntryState.DELETING) if entry is not None and observed.deleting else None
    unconfirmed = entry is None or entry.state is EntryState.PENDING
    once = manifest.controls.apply is Apply.IF_NOT_PRESENT and manifest.controls.reconcile
    if not (once and unconfirmed and case.owner is Owner.US):
        return None
    # Made by a turn that did not live to record it. It is left alone all the same.
    return Entry(
        api_version=manifest.api_version,
        state=EntryState.LIVE,
        uid=observed.uid,
        digest=manifest.digest,
        entry_hash=observed.entry_hash,
        projection_hash=observed.projection_hash,
        commit=commit,
        path=manifest.origin.file,
        prune=manifest.controls.prune,
    )


def _release_foreign(case: Case, scene: Scene) -> Change | None:
    mark = case.observed.mark if case.observed else None
    if mark is not None and mark.describes_itself and mark.agent == scene.agent:
        return _change(case, scene, Operation.RELEASE, f"handed over to target {mark.target}")
    return _change(case, scene, Operation.RELEASE, "ownership changed on the cluster")


def _release_gone(case: Case, scene: Scene) -> Change | None:
    deleting = case.entry is not None and case.entry.state is EntryState.DELETING
    return _change(case, scene, Operation.RELEASE, "deleted at last" if deleting else "gone already")


def _not_ours(case: Case, scene: Scene) -> Change | None:  # noqa: ARG001 - the shape of every decision
    return None


_US, _NOBODY, _OTHER = frozenset({Owner.US}), frozenset({Owner.NOBODY}), frozenset({Owner.OTHER})
_YES, _NO, _ANY = Fact.YES, Fact.NO, Fact.ANY
TABLE: tuple[Row, ...] = (
    Row(git=_YES, recorded=_NO, live=_NO, operation="create", reason="new in revision", decide=_create),
    Row(git=_YES, recorded=_YES, live=_NO, operation="create", reason=DELETED_ON_CLUSTER, decide=_create),
    Row(
        git=_YES,
        recorded=_ANY,
        live=_YES,
        owner=_US,
        operation="keep, or update",
        reason="nothing / revision / drift / both",
        decide=_compare,
    ),
    Row(
        git=_YES,
        recorded=_ANY,
        live=_YES,
        owner=_NOBODY,
        operation="adopt, or block by policy",
        reason="exists already",
        decide=_adopt,
    ),
    Row(git=_YES, recorded=_ANY, live=_YES, owner=_OTHER, operation="block", reason="owned by …", decide=_contested),
    Row(
        git=_NO,
        recorded=_YES,
        live=_YES,
        owner=_US,
        operation="prune, or orphan by policy",
        reason="removed in revision",
        decide=_prune,
    ),
    Row(
        git=_NO,
        recorded=_YES,
        live=_YES,
        owner=_NOBODY | _OTHER,
        operation="release: forget, never delete",
        reason="ownership changed on the cluster",
        decide=_release_foreign,
    ),
    Row(git=_NO, recorded=_YES, live=_NO, operation="release", reason="gone already", decide=_release_gone),
    Row(git=_NO, recorded=_NO, live=_ANY, operation="not in any plan", reason="not ours", decide=_not_ours),
)
