"""The decision table, row by row, and every refinement inside a row."""

from dataclasses import replace
from typing import Any

import pytest

from gitsyncd.core.compare import Owner
from gitsyncd.core.plan import TABLE, Fact, Row, Scene, digest, plan
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.inventory import Entry, EntryState, Inventory
from gitsyncd.model.manifest import Apply, Controls, Desired, Manifest, Origin
from gitsyncd.model.observed import Addition, Mark, Observed, Writer
from gitsyncd.model.plan import Change, DriftKind, Operation, Plan
from gitsyncd.model.target import Adopt, DriftAction, ForeignFields, Policy, PrunePolicy

CONFIG = ObjectId(group="", kind="ConfigMap", namespace="shop", name="settings")
WORKLOAD = ObjectId(group="apps", kind="Deployment", namespace="shop", name="front")
ROLE = ObjectId(group="rbac.authorization.k8s.io", kind="Role", namespace="shop", name="front")
SHOP = ObjectId(group="", kind="Namespace", namespace="", name="shop")
WEBHOOK = ObjectId(group="admissionregistration.k8s.io", kind="ValidatingWebhookConfiguration", namespace="", name="v")

MARK = Mark(agent="edge", target="web", describes_itself=True)
API_MARK = replace(MARK, target="api")
STRANGERS_MARK = replace(MARK, agent="another")
COPIED_MARK = replace(MARK, describes_itself=False)


def manifest(object_id: ObjectId = CONFIG, text: str = "one", **controls: Any) -> Manifest:
    return Manifest(
        id=object_id,
        api_version="v1",
        body=b"{}",
        digest=text,
        origin=Origin(file="shop.yaml"),
        controls=Controls(**controls),
    )


def entry(**changes: Any) -> Entry:
    known = Entry(
        api_version="v1",
        state=EntryState.LIVE,
        uid="u1",
        digest="one",
        entry_hash="ours",
        projection_hash="as applied",
        commit="c0",
    )
    return replace(known, **changes)


def live(**changes: Any) -> Observed:
    known = Observed(uid="u1", resource_version="7", mark=MARK, entry_hash="ours", projection_hash="as applied")
    return replace(known, **changes)


PENDING = entry(state=EntryState.PENDING, uid="", digest="", entry_hash="", projection_hash="")
NOBODYS = live(uid="u2", mark=None, entry_hash="", projection_hash="")


def scene(
    git: Manifest | None = None,
    recorded: Entry | None = None,
    there: Observed | None = None,
    object_id: ObjectId = CONFIG,
    **changes: Any,
) -> Scene:
    """One object and what is known of it, for target `web` of agent `edge`; `changes` are fields of the scene."""
    known = Scene(
        target="web",
        target_id="web@eu",
        agent="edge",
        revision="main@sha1:c1",
        commit="c1",
        desired=Desired(manifests={object_id: git} if git else {}),
        inventory=Inventory(target="web@eu", entries={object_id: recorded} if recorded else {}),
        observed={object_id: there} if there else {},
    )
    return replace(known, **changes)


def the_change(of: Scene) -> Change | None:
    changes = plan(of).changes
    assert len(changes) <= 1
    return changes[0] if changes else None


def decided(of: Scene) -> tuple[Operation | None, str]:
    """Operation and reason for the one object; no operation when it is left alone."""
    change = the_change(of)
    return (change.operation, change.reason) if change else (None, "")


# --- the table ---------------------------------------------------------------------------------------------------------

LIVE_OF = {Owner.US: live(), Owner.NOBODY: NOBODYS, Owner.OTHER: live(mark=STRANGERS_MARK)}
OPERATIONS: dict[str, set[Operation | None]] = {
    "create": {Operation.CREATE},
    "keep, or update": {None, Operation.UPDATE, Operation.REVERT},
    "adopt, or block by policy": {Operation.ADOPT},
    "block": {Operation.BLOCK},
    "prune, or orphan by policy": {Operation.PRUNE},
    "release: forget, never delete": {Operation.RELEASE},
    "release": {Operation.RELEASE},
    "not in any plan": {None},
}
"""What each row says, for objects and policies that say nothing special."""
EVERY_CASE = [
    (in_git, recorded, owner)
    for in_git in (True, False)
    for recorded in (True, False)
    for owner in (None, *Owner)
]  # fmt: skip


def scene_of(*, in_git: bool, recorded: bool, owner: Owner | None) -> Scene:
    return scene(manifest() if in_git else None, entry() if recorded else None, LIVE_OF[owner] if owner else None)


def matches(row: Row, *, in_git: bool, recorded: bool, owner: Owner | None) -> bool:
    """The table read as a person reads it, without the code that walks it."""
    cells = ((row.git, in_git), (row.recorded, recorded), (row.live, owner is not None))
    return all(cell is Fact.ANY or (cell is Fact.YES) is is_so for cell, is_so in cells) and (
        owner is None or owner in row.owner
    )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.reason}, {row.operation}")
def test_every_row_decides_as_it_says(row: Row) -> None:
    cases = [case for case in EVERY_CASE if matches(row, in_git=case[0], recorded=case[1], owner=case[2])]

    operations = {
        decided(scene_of(in_git=in_git, recorded=recorded, owner=owner))[0] for in_git, recorded, owner in cases
    }

    assert cases
    assert operations <= OPERATIONS[row.operation]


@pytest.mark.parametrize(("in_git", "recorded", "owner"), EVERY_CASE)
def test_exactly_one_row_matches_every_case(in_git: bool, recorded: bool, owner: Owner | None) -> None:
    matching = [row for row in TABLE if matches(row, in_git=in_git, recorded=recorded, owner=owner)]

    assert len(matching) == 1


def test_the_table_has_nine_rows_in_the_order_of_the_reference() -> None:
    rows = [(row.git.value, row.recorded.value, row.live.value, row.operation) for row in TABLE]

    assert rows == [
        ("yes", "no", "no", "create"),
        ("yes", "yes", "no", "create"),
        ("yes", "any", "yes", "keep, or update"),
        ("yes", "any", "yes", "adopt, or block by policy"),
        ("yes", "any", "yes", "block"),
        ("no", "yes", "yes", "prune, or orphan by policy"),
        ("no", "yes", "yes", "release: forget, never delete"),
        ("no", "yes", "no", "release"),
        ("no", "no", "any", "not in any plan"),
    ]


# --- in Git, not live ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "reason", "drift"),
    [
        (None, "new in revision", None),
        (PENDING, "new in revision", None),
        (entry(), "drift: deleted on the cluster", DriftKind.DELETED),
        (entry(digest="zero"), "changed in revision and deleted on the cluster", DriftKind.DELETED),
        (entry(state=EntryState.DELETING), "new in revision, after its deletion", None),
    ],
)
def test_an_object_that_is_not_there_is_created(recorded: Entry | None, reason: str, drift: DriftKind | None) -> None:
    change = the_change(scene(manifest(), recorded))

    assert change is not None
    assert (change.operation, change.reason, change.drift, change.report_only) == (
        Operation.CREATE, reason, drift, False,
    )  # fmt: skip


REPORT = Policy(drift=DriftAction.REPORT)


@pytest.mark.parametrize(
    ("recorded", "report_only"),
    [
        (None, False),
        (PENDING, False),
        (entry(), True),
        (entry(digest="zero"), False),
        (entry(state=EntryState.DELETING), False),
    ],
)
def test_policy_report_leaves_deleted_objects_deleted_and_still_creates_what_git_asks_for(
    recorded: Entry | None, report_only: bool
) -> None:
    change = the_change(scene(manifest(), recorded, policy=REPORT))

    assert change is not None
    assert (change.operation, change.report_only) == (Operation.CREATE, report_only)


def test_what_another_target_wants_too_is_not_created_twice() -> None:
    blocked = decided(scene(manifest(), claims={CONFIG: "api"}))

    assert blocked == (Operation.BLOCK, "wanted by target api, too")


def test_of_two_targets_that_begin_to_want_one_object_the_first_by_name_creates_it() -> None:
    created = decided(scene(manifest(), claims={CONFIG: "zoo"}))

    assert created == (Operation.CREATE, "new in revision")


def test_the_first_owner_goes_on_creating_what_another_target_wants_too() -> None:
    first = decided(scene(manifest(), entry(), claims={CONFIG: "api"}))

    assert first == (Operation.CREATE, "drift: deleted on the cluster")


def test_an_object_of_a_kind_that_nobody_serves_is_planned_and_fails_alone_later() -> None:
    unknown = scene(desired=Desired(manifests={}, unknown={CONFIG: manifest()}))

    assert decided(unknown) == (Operation.CREATE, "new in revision")


# --- in Git, live, ours --------------------------------------------------------------------------------------------------

PERSON = Addition(manager="kubectl-edit", writer=Writer.PERSON, operation="Update", at=None, fields=(".data.x",))


@pytest.mark.parametrize(
    ("recorded", "observed", "operation", "reason", "drift"),
    [
        pytest.param(entry(), live(), None, "", None, id="nothing moved"),
        pytest.param(entry(digest="zero"), live(), Operation.UPDATE, "changed in revision", None, id="Git moved"),
        pytest.param(
            entry(), live(projection_hash="edited"),
            Operation.REVERT, "drift: changed on the cluster", DriftKind.CHANGED, id="the cluster moved",
        ),
        pytest.param(
            entry(digest="zero"), live(projection_hash="edited"),
            Operation.UPDATE, "changed in revision and on the cluster", DriftKind.CHANGED, id="both moved",
        ),
        pytest.param(
            entry(), live(additions=(PERSON,)),
            Operation.REVERT, "drift: fields added on the cluster", DriftKind.ADDED, id="a person added fields",
        ),
        pytest.param(
            entry(), live(entry_hash="less"),
            Operation.REVERT, "drift: ownership of fields lost on the cluster", DriftKind.OWNERSHIP,
            id="another manager owns fields of ours",
        ),
        pytest.param(
            entry(), live(entry_hash="", projection_hash=""),
            Operation.REVERT, "drift: changed on the cluster", DriftKind.CHANGED, id="our manager is gone altogether",
        ),
        pytest.param(
            entry(), live(mark=None),
            Operation.REVERT, "drift: our label removed on the cluster", DriftKind.CHANGED, id="the label is gone",
        ),
        pytest.param(
            entry(), live(mark=None, entry_hash="", projection_hash=""),
            Operation.REVERT, "drift: changed on the cluster", DriftKind.CHANGED, id="every trace of us is gone",
        ),
        pytest.param(
            entry(), live(uid="u2"),
            Operation.REVERT, "drift: deleted and created again on the cluster", DriftKind.CHANGED,
            id="created again with our marks",
        ),
        pytest.param(
            entry(digest="zero"), live(uid="u2"),
            Operation.UPDATE, "changed in revision and on the cluster", DriftKind.CHANGED,
            id="created again, and Git moved",
        ),
        pytest.param(None, live(), Operation.UPDATE, "not confirmed by an earlier turn", None, id="never recorded"),
        pytest.param(PENDING, live(), Operation.UPDATE, "not confirmed by an earlier turn", None, id="crashed"),
        pytest.param(
            entry(state=EntryState.DELETING), live(), Operation.UPDATE, "changed in revision", None,
            id="wanted again after a delete that did not happen",
        ),
        pytest.param(
            entry(), live(deleting=True),
            Operation.BLOCK, "being deleted on the cluster: created again when it is gone", None, id="being deleted",
        ),
    ],
)  # fmt: skip
def test_an_object_of_ours_is_kept_updated_or_reverted(
    recorded: Entry | None, observed: Observed, operation: Operation | None, reason: str, drift: DriftKind | None
) -> None:
    change = the_change(scene(manifest(), recorded, observed))

    found = (change.operation, change.reason, change.drift) if change else (None, "", None)
    assert found == (operation, reason, drift)


@pytest.mark.parametrize(
    ("git", "observed", "report_only"),
    [
        (manifest(), live(projection_hash="edited"), True),
        (manifest(), live(additions=(PERSON,)), True),
        (manifest(), live(mark=None), True),
        (manifest(), live(uid="u2"), True),
        (manifest(text="two"), live(projection_hash="edited"), False),
    ],
)
def test_policy_report_reports_drift_and_writes_for_git_alone(
    git: Manifest, observed: Observed, report_only: bool
) -> None:
    change = the_change(scene(git, entry(), observed, policy=REPORT))

    assert change is not None
    assert change.report_only is report_only


def test_a_kept_object_is_counted() -> None:
    kept = plan(scene(manifest(), entry(), live()))

    assert (kept.keep, kept.changes) == (1, ())


@pytest.mark.parametrize(
    ("of", "kept"),
    [
        (scene(manifest(reconcile=False), entry(), live()), 1),
        (scene(manifest(reconcile=False), entry(), None), 0),
        (scene(None, entry(), live(deleting=True)), 0),
        (scene(manifest(text="two"), entry(), live()), 0),
    ],
)
def test_only_what_git_wants_and_is_there_counts_as_kept(of: Scene, kept: int) -> None:
    assert plan(of).keep == kept


# --- controls that people write in Git or on the object ------------------------------------------------------------------

SITUATIONS = {
    "not there": (None, None),
    "recorded and deleted": (entry(), None),
    "changed in Git": (entry(digest="zero"), live()),
    "changed on the cluster": (entry(), live(projection_hash="edited")),
    "not confirmed": (PENDING, live()),
    "being deleted": (entry(), live(deleting=True)),
    "nobody's": (None, NOBODYS),
    "another agent's": (None, live(mark=STRANGERS_MARK)),
    "another target's": (None, live(mark=API_MARK)),
}


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS.keys())
@pytest.mark.parametrize("controls", [{"reconcile": False}, {"apply": Apply.IGNORE}], ids=["disabled", "ignore"])
def test_what_is_not_to_be_reconciled_is_never_touched(
    controls: dict[str, Any], situation: tuple[Entry | None, Observed | None]
) -> None:
    assert decided(scene(manifest(**controls), *situation)) == (None, "")


@pytest.mark.parametrize(
    "situation", [pytest.param(known, id=name) for name, known in SITUATIONS.items() if known[1] is not None]
)
def test_a_live_object_that_says_reconcile_disabled_is_never_touched(situation: tuple[Entry | None, Observed]) -> None:
    recorded, observed = situation

    assert decided(scene(manifest(), recorded, replace(observed, reconcile_disabled=True))) == (None, "")


@pytest.mark.parametrize(
    "situation", [pytest.param(known, id=name) for name, known in SITUATIONS.items() if known[1] is not None]
)
def test_if_not_present_leaves_alone_what_is_there_whoever_made_it(situation: tuple[Entry | None, Observed]) -> None:
    assert decided(scene(manifest(apply=Apply.IF_NOT_PRESENT), *situation)) == (None, "")


@pytest.mark.parametrize("recorded", [None, entry()])
def test_if_not_present_creates_what_is_not_there(recorded: Entry | None) -> None:
    operation, _ = decided(scene(manifest(apply=Apply.IF_NOT_PRESENT), recorded))

    assert operation is Operation.CREATE


def test_if_not_present_is_recorded_without_a_write_when_a_crash_came_before() -> None:
    made = plan(scene(manifest(apply=Apply.IF_NOT_PRESENT), PENDING, live()))

    recorded = made.recorded[CONFIG]
    assert made.changes == ()
    assert (recorded.state, recorded.uid, recorded.digest) == (EntryState.LIVE, "u1", "one")


def test_if_not_present_does_not_record_what_somebody_else_made() -> None:
    assert plan(scene(manifest(apply=Apply.IF_NOT_PRESENT), PENDING, NOBODYS)).recorded == {}


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(scene(manifest(apply=Apply.IF_NOT_PRESENT), entry(), live()), id="recorded already"),
        pytest.param(scene(manifest(apply=Apply.IF_NOT_PRESENT, reconcile=False), PENDING, live()), id="left alone"),
        pytest.param(scene(manifest(apply=Apply.IGNORE), PENDING, live()), id="ignored"),
        pytest.param(scene(manifest(), entry(), live(reconcile_disabled=True)), id="disabled on the cluster"),
        pytest.param(scene(None, entry(), live(), claims={CONFIG: "api"}), id="waiting for a hand-over"),
    ],
)
def test_nothing_is_noted_of_what_is_only_left_alone(of: Scene) -> None:
    assert plan(of).recorded == {}


def test_if_not_present_is_pruned_when_it_is_removed_from_git() -> None:
    assert decided(scene(None, entry(), live())) == (Operation.PRUNE, "removed in revision")


def test_merge_leaves_to_others_what_they_added() -> None:
    assert decided(scene(manifest(apply=Apply.MERGE), entry(), live(additions=(PERSON,)))) == (None, "")


def test_merge_reverts_what_git_names() -> None:
    operation, _ = decided(scene(manifest(apply=Apply.MERGE), entry(), live(projection_hash="edited")))

    assert operation is Operation.REVERT


# --- fields that others added --------------------------------------------------------------------------------------------

REMOVED, TOLD, SILENT = "removed", "told", "silent"
WRITERS = (Writer.PERSON, Writer.DELIVERY, Writer.UNKNOWN, Writer.CONTROLLER)
FOREIGN = {
    ForeignFields.REVERT_INTERACTIVE: (REMOVED, REMOVED, TOLD, SILENT),
    ForeignFields.REVERT_ALL: (REMOVED, REMOVED, REMOVED, SILENT),
    ForeignFields.REPORT: (TOLD, TOLD, TOLD, SILENT),
    ForeignFields.IGNORE: (SILENT, SILENT, SILENT, SILENT),
}


def what_becomes_of(addition: Addition, policy: Policy, **controls: Any) -> str:
    made = plan(scene(manifest(**controls), entry(), live(additions=(addition,)), policy=policy))
    if any(change.drift is DriftKind.ADDED for change in made.changes):
        return REMOVED
    return TOLD if made.foreign == ((CONFIG, addition),) else SILENT


@pytest.mark.parametrize(
    ("policy", "writer", "expected"),
    [(policy, *pair) for policy, row in FOREIGN.items() for pair in zip(WRITERS, row, strict=True)],
)
def test_added_fields_are_removed_told_or_left_by_class_of_writer(
    policy: ForeignFields, writer: Writer, expected: str
) -> None:
    addition = replace(PERSON, writer=writer)

    assert what_becomes_of(addition, Policy(foreign_fields=policy)) == expected


def test_a_restart_by_hand_is_kept_and_told() -> None:
    restarted = replace(PERSON, keep=True)

    assert what_becomes_of(restarted, Policy()) == TOLD


@pytest.mark.parametrize("controls", [{"apply": Apply.MERGE}, {"reconcile": False}])
def test_nobody_hears_of_additions_to_objects_that_are_shared_or_left_alone(controls: dict[str, Any]) -> None:
    unknown = replace(PERSON, writer=Writer.UNKNOWN)

    assert what_becomes_of(unknown, Policy(), **controls) == SILENT


def test_nobody_hears_of_additions_to_an_object_that_says_reconcile_disabled() -> None:
    unknown = replace(PERSON, writer=Writer.UNKNOWN)

    made = plan(scene(manifest(), entry(), live(additions=(unknown,), reconcile_disabled=True)))

    assert made.foreign == ()


def test_nobody_hears_of_additions_that_are_removed() -> None:
    made = plan(scene(manifest(), entry(), live(additions=(PERSON,))))

    assert made.foreign == ()


def test_nobody_hears_of_additions_that_others_may_own() -> None:
    replicas, image = ("f:spec", "f:replicas"), ("f:spec", "f:template", "f:spec")
    unknown = replace(
        PERSON, writer=Writer.UNKNOWN, keys=(replicas, image), fields=(".spec.replicas", ".spec.template.spec")
    )
    git = replace(manifest(), yields=("/spec/replicas", "/spec/template/spec/hostname"))

    made = plan(
        scene(git, entry(), live(additions=(unknown, replace(unknown, keys=(replicas,), fields=unknown.fields[:1]))))
    )

    assert made.foreign == ((CONFIG, replace(unknown, keys=(image,), fields=(".spec.template.spec",))),)


def test_additions_are_not_told_while_fields_of_ours_are_in_other_hands() -> None:
    unknown = replace(PERSON, writer=Writer.UNKNOWN)

    made = plan(scene(manifest(), entry(), live(additions=(unknown,), entry_hash="less")))

    assert made.foreign == ()


def test_nobody_hears_of_additions_to_other_peoples_objects() -> None:
    made = plan(scene(manifest(), None, live(mark=STRANGERS_MARK, additions=(PERSON,))))

    assert made.foreign == ()


# --- fights ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("observed", [None, live(projection_hash="edited"), live(mark=None)])
def test_the_drift_of_a_calmed_object_waits(observed: Observed | None) -> None:
    made = plan(scene(manifest(), entry(), observed, calm={CONFIG}))

    assert (made.changes, made.calmed) == ((), (CONFIG,))


@pytest.mark.parametrize("observed", [None, live(), live(projection_hash="edited")])
def test_a_new_revision_is_applied_to_a_calmed_object(observed: Observed | None) -> None:
    made = plan(scene(manifest(text="two"), entry(), observed, calm={CONFIG}))

    assert [change.id for change in made.changes] == [CONFIG]


# --- in Git, live, nobody's ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adopt", "recorded", "observed", "operation"),
    [
        pytest.param(Adopt.UNOWNED, None, NOBODYS, Operation.ADOPT, id="unowned"),
        pytest.param(Adopt.ALWAYS, None, NOBODYS, Operation.ADOPT, id="always"),
        pytest.param(Adopt.NEVER, None, NOBODYS, Operation.BLOCK, id="never"),
        pytest.param(Adopt.UNOWNED, PENDING, NOBODYS, Operation.ADOPT, id="unowned, after a crash"),
        pytest.param(Adopt.NEVER, PENDING, NOBODYS, Operation.BLOCK, id="never, after a crash"),
        pytest.param(Adopt.UNOWNED, entry(), NOBODYS, Operation.ADOPT, id="unowned, in place of ours"),
        pytest.param(Adopt.NEVER, entry(), NOBODYS, Operation.BLOCK, id="never, in place of ours"),
        pytest.param(
            Adopt.UNOWNED, None, live(uid="u2", mark=COPIED_MARK), Operation.ADOPT, id="unowned, a copy with our marks"
        ),
        pytest.param(
            Adopt.NEVER, None, live(uid="u2", mark=COPIED_MARK), Operation.BLOCK, id="never, a copy with our marks"
        ),
        pytest.param(
            Adopt.UNOWNED, None, replace(NOBODYS, deleting=True), Operation.BLOCK, id="unowned, being deleted"
        ),
    ],
)
def test_an_object_that_nobody_owns_is_adopted_by_policy(
    adopt: Adopt, recorded: Entry | None, observed: Observed, operation: Operation
) -> None:
    found, _ = decided(scene(manifest(), recorded, observed, policy=Policy(adopt=adopt)))

    assert found is operation


# --- in Git, live, somebody else's ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observed", "changes", "operation", "reason"),
    [
        pytest.param(
            live(mark=STRANGERS_MARK), {}, Operation.BLOCK, "owned by agent another", id="another agent"
        ),
        pytest.param(
            live(mark=STRANGERS_MARK), {"policy": Policy(adopt=Adopt.ALWAYS)},
            Operation.ADOPT, "taken over from agent another: `adopt: always`", id="another agent, adopt always",
        ),
        pytest.param(
            live(mark=API_MARK), {"claims": {CONFIG: "api"}},
            Operation.BLOCK, "owned by target api", id="another target wants it, too",
        ),
        pytest.param(
            live(mark=API_MARK), {"claims": {CONFIG: "api"}, "policy": Policy(adopt=Adopt.ALWAYS)},
            Operation.BLOCK, "owned by target api", id="another target wants it, adopt always",
        ),
        pytest.param(
            live(mark=API_MARK), {}, Operation.ADOPT, "handed over by target api", id="another target lets go of it"
        ),
        pytest.param(
            live(mark=API_MARK), {"policy": Policy(adopt=Adopt.NEVER)},
            Operation.ADOPT, "handed over by target api", id="another target lets go of it, adopt never",
        ),
        pytest.param(
            live(mark=API_MARK), {"claims_complete": False},
            Operation.BLOCK, "owned by target api", id="another target has not said what it wants",
        ),
        pytest.param(
            live(mark=API_MARK, deleting=True), {},
            Operation.BLOCK, "being deleted on the cluster: created again when it is gone", id="being deleted",
        ),
    ],
)  # fmt: skip
def test_an_object_of_somebody_else_is_blocked_unless_it_is_handed_over(
    observed: Observed, changes: dict[str, Any], operation: Operation, reason: str
) -> None:
    assert decided(scene(manifest(), None, observed, **changes)) == (operation, reason)


# --- not in Git, live, ours ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "observed", "changes", "reason"),
    [
        pytest.param(
            entry(), live(uid="u2"), {}, "another object of that name took its place on the cluster", id="another UID"
        ),
        pytest.param(entry(), live(mark=None), {}, "ownership changed on the cluster", id="no label"),
        pytest.param(entry(), live(mark=COPIED_MARK), {}, "ownership changed on the cluster", id="marks of another object"),
        pytest.param(PENDING, NOBODYS, {}, "ownership changed on the cluster", id="a stranger's, after a crash"),
        pytest.param(
            PENDING, live(uid="u2", mark=COPIED_MARK), {}, "ownership changed on the cluster", id="a copy, after a crash"
        ),
        pytest.param(entry(), live(mark=STRANGERS_MARK), {}, "ownership changed on the cluster", id="another agent's"),
        pytest.param(entry(), live(mark=API_MARK), {}, "handed over to target api", id="another target's"),
        pytest.param(
            entry(), live(controlled=True), {}, "controlled by another object on the cluster", id="a controller's"
        ),
        pytest.param(
            entry(), live(), {"policy": Policy(prune=PrunePolicy(enabled=False))},
            "removed in revision, and pruning is off for this target", id="pruning is off",
        ),
        pytest.param(
            entry(), live(prune_disabled=True), {}, "removed in revision, and annotated not to be pruned",
            id="annotated on the live object",
        ),
        pytest.param(
            entry(prune=False), live(), {}, "removed in revision, and annotated not to be pruned",
            id="annotated when it was last applied",
        ),
        pytest.param(
            entry(), live(reconcile_disabled=True), {}, "removed in revision, and annotated not to be reconciled",
            id="reconcile disabled on the live object",
        ),
        pytest.param(
            entry(), live(), {"claims": {CONFIG: "api"}, "final": True}, "handed over to target api",
            id="another target wants it, and no turn follows",
        ),
    ],
)  # fmt: skip
def test_an_object_is_forgotten_and_not_deleted(
    recorded: Entry, observed: Observed, changes: dict[str, Any], reason: str
) -> None:
    assert decided(scene(None, recorded, observed, **changes)) == (Operation.RELEASE, reason)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"claims": {CONFIG: "api"}}, id="handed over, not yet taken over"),
        pytest.param({"claims_complete": False}, id="another target has not said what it wants"),
        pytest.param({"inventory": Inventory(target="web@eu", entries={CONFIG: entry()}, trusted=False)}, id="rebuilt"),
        pytest.param({"scope": {CONFIG}}, id="only some objects are looked at"),
        pytest.param({"observed": {CONFIG: live(deleting=True)}}, id="being deleted"),
    ],
)
def test_a_delete_waits_with_the_object_on_record(changes: dict[str, Any]) -> None:
    assert decided(scene(None, entry(), live(), **changes)) == (None, "")


def test_what_a_crash_left_behind_is_pruned_by_its_marks() -> None:
    assert decided(scene(None, PENDING, live())) == (Operation.PRUNE, "removed in revision")


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public", "kube-node-lease", "gitsyncd"])
def test_these_namespaces_are_never_deleted(name: str) -> None:
    namespace = replace(SHOP, name=name)

    assert decided(scene(None, entry(), live(), namespace)) == (Operation.RELEASE, "never deleted by gitsyncd")


@pytest.mark.parametrize(
    ("kind", "name"), [("ConfigMap", "gitsyncd.edge.web.0"), ("Secret", "gitsyncd.edge.key"), ("Lease", "gitsyncd.edge")]
)  # fmt: skip
def test_the_agents_own_objects_are_never_deleted(kind: str, name: str) -> None:
    own = ObjectId(group="", kind=kind, namespace="gitsyncd", name=name)

    assert decided(scene(None, entry(), live(), own)) == (Operation.RELEASE, "never deleted by gitsyncd")


def test_other_objects_beside_the_agents_own_are_pruned() -> None:
    other = ObjectId(group="", kind="ConfigMap", namespace="gitsyncd", name="settings")

    assert decided(scene(None, entry(), live(), other))[0] is Operation.PRUNE


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"desired": Desired(manifests={CONFIG: manifest()})}, id="this target"),
        pytest.param({"desired": Desired(manifests={}, unknown={CONFIG: manifest()})}, id="this target, unknown kind"),
        pytest.param({"unseen": {CONFIG}}, id="this target, could not be looked at"),
        pytest.param({"claims": {CONFIG: "api"}}, id="another target"),
    ],
)
def test_a_namespace_in_which_git_still_wants_an_object_is_not_deleted(changes: dict[str, Any]) -> None:
    made = plan(scene(None, entry(), live(), SHOP, **changes))

    of_namespace = [(change.operation, change.reason) for change in made.changes if change.id == SHOP]
    assert of_namespace == [
        (Operation.BLOCK, "removed in revision, but Git still wants objects in this namespace")
    ]  # fmt: skip


def test_an_object_that_is_named_like_a_namespace_in_use_is_pruned() -> None:
    namesake = replace(CONFIG, namespace="other", name="shop")

    made = plan(scene(None, entry(), live(), namesake, desired=Desired(manifests={ROLE: manifest(ROLE)})))

    assert [change.operation for change in made.changes if change.id == namesake] == [Operation.PRUNE]


def test_an_object_elsewhere_that_is_named_like_the_agents_own_is_pruned() -> None:
    namesake = replace(CONFIG, name="gitsyncd.edge.web.0")

    assert decided(scene(None, entry(), live(), namesake))[0] is Operation.PRUNE


def test_an_empty_namespace_is_pruned() -> None:
    assert decided(scene(None, entry(), live(), SHOP)) == (Operation.PRUNE, "removed in revision")


def test_an_object_that_two_groups_serve_is_not_deleted_under_the_name_that_git_dropped() -> None:
    old = ObjectId(group="extensions", kind="Ingress", namespace="shop", name="front")
    new = replace(old, group="networking.k8s.io")
    the_one = live()

    made = plan(
        scene(
            manifest(new),
            None,
            replace(the_one, mark=COPIED_MARK),
            new,
            inventory=Inventory(target="web@eu", entries={old: entry()}),
            observed={old: the_one, new: replace(the_one, mark=COPIED_MARK)},
            policy=Policy(adopt=Adopt.NEVER),
        )
    )

    assert [(change.id, change.operation) for change in made.changes] == [
        (new, Operation.ADOPT), (old, Operation.RELEASE),
    ]  # fmt: skip


def test_a_version_change_in_git_is_an_update() -> None:
    newer = replace(manifest(text="two"), api_version="v2")

    assert decided(scene(newer, entry(), live()))[0] is Operation.UPDATE


def test_an_object_that_others_are_deleting_is_recorded_as_such() -> None:
    made = plan(scene(None, entry(), live(deleting=True)))

    assert made.recorded == {CONFIG: entry(state=EntryState.DELETING)}


# --- a hand-over between targets, in either order ------------------------------------------------------------------------


def test_a_hand_over_where_the_old_target_looks_first() -> None:
    waiting = scene(None, entry(), live(), claims={CONFIG: "api"})
    taking = scene(manifest(), None, live(), target="api", target_id="api@eu")
    letting_go = scene(None, entry(), live(mark=API_MARK), claims={CONFIG: "api"})

    assert [decided(step) for step in (waiting, taking, letting_go)] == [
        (None, ""),
        (Operation.ADOPT, "handed over by target web"),
        (Operation.RELEASE, "handed over to target api"),
    ]


def test_a_hand_over_that_git_takes_back_before_it_happened_is_a_prune() -> None:
    waiting = scene(None, entry(), live(), claims={CONFIG: "api"})
    taken_back = scene(None, entry(), live())

    assert [decided(step)[0] for step in (waiting, taken_back)] == [None, Operation.PRUNE]


# --- not in Git, not live ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "reason"),
    [
        (entry(), "gone already"),
        (PENDING, "gone already"),
        (entry(state=EntryState.DELETING), "deleted at last"),
    ],
)
def test_what_is_gone_is_forgotten(recorded: Entry, reason: str) -> None:
    assert decided(scene(None, recorded)) == (Operation.RELEASE, reason)


def test_our_mark_without_a_record_is_in_no_plan() -> None:
    assert decided(scene(None, None, live())) == (None, "")


# --- scope -----------------------------------------------------------------------------------------------------------------


def test_within_a_scope_nothing_else_is_looked_at() -> None:
    both = Desired(manifests={CONFIG: manifest(), ROLE: manifest(ROLE)})

    made = plan(scene(desired=both, scope={ROLE}))

    assert [change.id for change in made.changes] == [ROLE]


def test_an_object_in_scope_that_nobody_knows_is_in_no_plan() -> None:
    assert decided(scene(scope={ROLE})) == (None, "")


@pytest.mark.parametrize("observed", [None, live(mark=API_MARK)])
def test_within_a_scope_what_is_gone_or_taken_over_is_forgotten(observed: Observed | None) -> None:
    assert decided(scene(None, entry(), observed, scope={CONFIG}))[0] is Operation.RELEASE


# --- order and digest ------------------------------------------------------------------------------------------------------


def test_deletes_come_after_everything_else_and_in_reverse_order() -> None:
    old = {object_id: entry() for object_id in (WORKLOAD, ROLE)}
    wanted = {object_id: manifest(object_id) for object_id in (WEBHOOK, CONFIG)}

    made = plan(
        scene(
            desired=Desired(manifests=wanted),
            inventory=Inventory(target="web@eu", entries=old),
            observed={object_id: live() for object_id in old},
        )
    )

    assert [change.id for change in made.changes] == [CONFIG, WEBHOOK, WORKLOAD, ROLE]


def test_a_wave_comes_before_its_stage() -> None:
    wanted = {WORKLOAD: manifest(WORKLOAD, wave=-1), CONFIG: manifest(CONFIG), ROLE: manifest(ROLE, wave=1)}

    made = plan(scene(desired=Desired(manifests=wanted)))

    assert [change.id for change in made.changes] == [WORKLOAD, CONFIG, ROLE]


def deleting_plan(**changes: Any) -> Plan:
    """A revision that removes CONFIG and adds ROLE."""
    known = scene(
        manifest(ROLE), None, None, ROLE, inventory=Inventory(target="web@eu", entries={CONFIG: entry()}),
        observed={CONFIG: live()},
    )  # fmt: skip
    return plan(replace(known, **changes))


def test_the_digest_of_a_delete_stays_while_creates_are_carried_out() -> None:
    before = deleting_plan()

    after = deleting_plan(
        inventory=Inventory(target="web@eu", entries={CONFIG: entry(), ROLE: entry(uid="u9")}),
        observed={CONFIG: live(), ROLE: live(uid="u9")},
    )

    assert [change.operation for change in before.changes].count(Operation.CREATE) == 1
    assert Operation.CREATE not in {change.operation for change in after.changes}
    assert after.digest == before.digest


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"commit": "c2"}, id="another commit"),
        pytest.param({"target_id": "web@us"}, id="another cluster"),
        pytest.param(
            {
                "inventory": Inventory(target="web@eu", entries={CONFIG: entry(uid="u2")}),
                "observed": {CONFIG: live(uid="u2")},
            },
            id="another object of that name",
        ),
        pytest.param(
            {
                "inventory": Inventory(target="web@eu", entries={CONFIG: entry(), WORKLOAD: entry(uid="u3")}),
                "observed": {CONFIG: live(), WORKLOAD: live(uid="u3")},
            },
            id="one more delete",
        ),
    ],
)
def test_the_digest_changes_with_the_commit_and_with_the_deletes(changes: dict[str, Any]) -> None:
    assert deleting_plan(**changes).digest != deleting_plan().digest


def test_without_deletes_the_digest_is_about_every_change() -> None:
    one, other = (plan(scene(manifest(text=text))) for text in ("one", "two"))

    assert one.digest != other.digest


def test_what_is_in_a_secret_is_no_part_of_the_digest_since_its_key_may_be_yet_to_be_made() -> None:
    secret = ObjectId(group="", kind="Secret", namespace="shop", name="password")
    one, other = (plan(scene(manifest(secret, text=text), object_id=secret)) for text in ("one", "two"))

    assert one.digest == other.digest


def test_the_digest_is_32_hexadecimal_digits() -> None:
    assert len(bytes.fromhex(digest("web@eu", "c1", []))) == 16


def test_a_namespace_that_holds_an_object_annotated_to_stay_is_released_and_not_deleted() -> None:
    kept = ObjectId(group="", kind="ConfigMap", namespace="web", name="kept")
    namespace = ObjectId(group="", kind="Namespace", namespace="", name="web")
    both = Scene(
        target="web",
        target_id="web@c1",
        agent="edge",
        revision="main@sha1:x",
        commit="x",
        desired=Desired(manifests={}),
        inventory=Inventory(target="web@c1", entries={kept: entry(prune=False), namespace: entry()}),
        observed={kept: live(), namespace: live()},
    )

    changes = {change.id: change.operation for change in plan(both).changes}

    assert changes == {kept: Operation.RELEASE, namespace: Operation.RELEASE}
