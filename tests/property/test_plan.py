"""Promises of the plan and its guard that hold for every scene."""

from dataclasses import replace
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from gitsyncd.core.guard import NEEDS_APPROVAL, NEVER_TOO_MANY, guard
from gitsyncd.core.ledger import Outcome, intend, settle
from gitsyncd.core.plan import TABLE, Scene, plan
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.inventory import Entry, EntryState, Inventory
from gitsyncd.model.manifest import Apply, Controls, Desired, Manifest, Origin
from gitsyncd.model.observed import Addition, Mark, Observed, Writer
from gitsyncd.model.plan import Change, Operation, Plan
from gitsyncd.model.target import Adopt, DriftAction, ForeignFields, Policy, PrunePolicy

IDS = (
    *(ObjectId(group="", kind="ConfigMap", namespace="shop", name=f"c{number}") for number in range(8)),
    ObjectId(group="", kind="PersistentVolumeClaim", namespace="shop", name="data"),
    ObjectId(group="", kind="Namespace", namespace="", name="shop"),
    ObjectId(group="", kind="Namespace", namespace="", name="kube-system"),
    ObjectId(group="", kind="ConfigMap", namespace="gitsyncd", name="gitsyncd.edge.web.0"),
)
ids = st.sampled_from(IDS)
texts = st.sampled_from(["one", "two"])
uids = st.sampled_from(["u1", "u2"])

controls = st.builds(
    Controls,
    reconcile=st.sampled_from([True, True, False]),
    apply=st.sampled_from(Apply),
    recreate=st.booleans(),
    wave=st.integers(-1, 1),
)
additions = st.builds(
    Addition,
    manager=st.just("m"),
    writer=st.sampled_from([Writer.PERSON, Writer.CONTROLLER, Writer.UNKNOWN]),
    operation=st.just("Update"),
    at=st.none(),
    fields=st.just((".data.x",)),
    keep=st.booleans(),
)
marks = st.builds(
    Mark,
    agent=st.sampled_from(["edge", "edge", "another"]),
    target=st.sampled_from(["web", "web", "api"]),
    describes_itself=st.sampled_from([True, True, False]),
)
observations = st.builds(
    Observed,
    uid=uids,
    resource_version=st.just("1"),
    mark=st.none() | marks,
    entry_hash=texts | st.just(""),
    projection_hash=texts,
    additions=st.lists(additions, max_size=1).map(tuple),
    reconcile_disabled=st.sampled_from([False, False, True]),
    prune_disabled=st.sampled_from([False, False, True]),
    prune_needs_approval=st.booleans(),
    controlled=st.sampled_from([False, False, True]),
    deleting=st.sampled_from([False, False, True]),
)
entries = st.builds(
    Entry,
    api_version=st.just("v1"),
    state=st.sampled_from(EntryState),
    uid=uids | st.just(""),
    digest=texts,
    entry_hash=texts,
    projection_hash=texts,
    prune=st.booleans(),
)
policies = st.builds(
    Policy,
    prune=st.builds(
        PrunePolicy,
        enabled=st.sampled_from([True, True, False]),
        max_objects=st.integers(0, 12),
        max_percent=st.integers(0, 100),
        allow_empty=st.booleans(),
    ),
    drift=st.sampled_from(DriftAction),
    foreign_fields=st.sampled_from(ForeignFields),
    adopt=st.sampled_from(Adopt),
)


MARK = Mark(agent="edge", target="web", describes_itself=True)
LIVE = Observed(uid="u1", resource_version="1", mark=MARK, entry_hash="one", projection_hash="one")
RECORDED = Entry(
    api_version="v1", state=EntryState.LIVE, uid="u1", digest="one", entry_hash="one", projection_hash="one"
)  # fmt: skip
asked = st.just(("one", Controls())) | st.tuples(texts, controls)
situations = st.sampled_from(
    [
        (None, None, None),
        (None, RECORDED, LIVE),  # to be deleted
        (None, replace(RECORDED, state=EntryState.PENDING, uid=""), LIVE),  # the same after a crash
        (("one", Controls()), RECORDED, LIVE),
    ]
) | st.tuples(st.none() | asked, st.none() | st.just(RECORDED) | entries, st.none() | st.just(LIVE) | observations)
"""Of one object: what Git says, what is recorded, what is live. UIDs are made unique to the object below."""
often = st.integers(0, 9).map(lambda number: number != 5)


@st.composite
def scenes(draw: st.DrawFn, *, empty: bool = False) -> Scene:
    wanted: dict[ObjectId, Manifest] = {}
    recorded: dict[ObjectId, Entry] = {}
    observed: dict[ObjectId, Observed] = {}
    for object_id in IDS:
        git, entry, live = draw(situations)
        if git is not None and not empty:
            wanted[object_id] = Manifest(
                id=object_id, api_version="v1", body=b"{}", digest=git[0], origin=Origin(file="f"), controls=git[1]
            )  # fmt: skip
        if entry is not None:
            recorded[object_id] = replace(entry, uid=entry.uid and f"{object_id} {entry.uid}")
        if live is not None:
            observed[object_id] = replace(live, uid=f"{object_id} {live.uid}")
    return Scene(
        target="web",
        target_id="web@eu",
        agent="edge",
        revision="main@sha1:c1",
        commit="c1",
        desired=Desired(manifests=wanted),
        inventory=Inventory(target="web@eu", entries=recorded, trusted=draw(often)),
        observed=observed,
        policy=draw(policies),
        claims=dict.fromkeys(draw(st.sets(ids, max_size=2)), "api"),
        claims_complete=draw(often),
        unseen=draw(st.sets(ids, max_size=1)),
        calm=draw(st.sets(ids, max_size=2)),
        scope=None if draw(often) else draw(st.sets(ids)),
    )


def prunes(of: Plan) -> list[Change]:
    return [change for change in of.changes if change.operation is Operation.PRUNE]


def guarded(scene: Scene, **approval: Any) -> Plan:
    return guard(
        plan(scene), desired=scene.desired, inventory=scene.inventory, policy=scene.policy.prune, **approval
    )  # fmt: skip


def shuffled(mapping: Any, draw: st.DataObject) -> Any:
    return dict(draw.draw(st.permutations(list(mapping.items()))))


@given(scenes(), st.data())
def test_the_order_of_the_input_does_not_matter(scene: Scene, data: st.DataObject) -> None:
    other = replace(
        scene,
        desired=Desired(manifests=shuffled(scene.desired.manifests, data)),
        inventory=replace(scene.inventory, entries=shuffled(scene.inventory.entries, data)),
        observed=shuffled(scene.observed, data),
    )

    assert (plan(other).changes, plan(other).digest) == (plan(scene).changes, plan(scene).digest)


@given(scenes())
def test_every_object_stands_in_a_plan_at_most_once(scene: Scene) -> None:
    changed = [change.id for change in plan(scene).changes]

    assert len(changed) == len({*changed})


@given(scenes())
def test_every_object_is_decided_by_a_row_of_the_table(scene: Scene) -> None:
    operations = {change.operation for change in plan(scene).changes}

    named = " ".join(row.operation for row in TABLE)
    assert all(operation.value in named or operation is Operation.REVERT for operation in operations)


@given(scenes())
def test_nothing_that_git_wants_is_deleted_or_forgotten(scene: Scene) -> None:
    lost = {
        change.id for change in plan(scene).changes if change.operation in {Operation.PRUNE, Operation.RELEASE}
    }  # fmt: skip

    assert not lost & scene.desired.manifests.keys()


@given(scenes())
def test_a_delete_is_claimed_by_record_mark_and_uid(scene: Scene) -> None:
    deletes = prunes(plan(scene))
    event(f"{min(len(deletes), 6)} deletes or more")
    for change in deletes:
        entry, observed = scene.inventory.entries[change.id], scene.observed[change.id]
        assert observed.mark == MARK
        assert entry.uid in {"", observed.uid}


@given(scenes())
def test_a_delete_respects_everything_that_forbids_it(scene: Scene) -> None:
    for change in prunes(plan(scene)):
        entry, observed = scene.inventory.entries[change.id], scene.observed[change.id]
        assert scene.policy.prune.enabled
        assert entry.prune
        assert not (observed.prune_disabled or observed.reconcile_disabled or observed.controlled or observed.deleting)
        assert scene.inventory.trusted
        assert scene.claims_complete
        assert scene.scope is None
        assert change.id not in scene.claims
        assert change.id.name not in {"kube-system", "gitsyncd.edge.web.0"}


@given(scenes())
def test_a_namespace_with_wanted_objects_is_not_deleted(scene: Scene) -> None:
    wanted = {*scene.desired.manifests, *scene.unseen, *scene.claims}
    used = {object_id.namespace for object_id in wanted}

    deleted = {change.id.name for change in prunes(plan(scene)) if change.id.kind == "Namespace"}

    assert not deleted & used


@given(scenes())
def test_what_is_not_to_be_reconciled_is_not_written(scene: Scene) -> None:
    for change in plan(scene).changes:
        if change.manifest is not None:
            asked = change.manifest.controls
            assert asked.reconcile and asked.apply is not Apply.IGNORE
            assert change.observed is None or not change.observed.reconcile_disabled
            assert change.observed is None or asked.apply is not Apply.IF_NOT_PRESENT


@given(scenes(empty=True))
def test_an_empty_revision_never_deletes_unless_that_is_allowed(scene: Scene) -> None:
    result = guarded(scene)

    event("refused" if result.refused else "nothing to delete, or allowed")
    assert prunes(result) == [] or scene.policy.prune.allow_empty


@given(scenes())
def test_no_more_is_deleted_than_the_budget(scene: Scene) -> None:
    result = guarded(scene)

    count, policy = len(prunes(result)), scene.policy.prune
    within = count <= policy.max_objects and count * 100 <= policy.max_percent * len(scene.inventory.entries)
    assert count <= NEVER_TOO_MANY or within


@given(scenes())
def test_nothing_that_takes_data_along_is_deleted_without_approval(scene: Scene) -> None:
    for change in prunes(guarded(scene)):
        assert (change.id.group, change.id.kind) not in NEEDS_APPROVAL
        assert change.observed is not None
        assert not change.observed.prune_needs_approval


@given(scenes())
def test_a_guard_takes_out_all_deletes_or_none_and_nothing_else(scene: Scene) -> None:
    whole, result = plan(scene), guarded(scene)

    kept = [change for change in whole.changes if change.operation is not Operation.PRUNE]
    assert [*result.withheld] == (prunes(whole) if result.refused else [])
    assert [*result.changes] == (kept if result.refused else [*whole.changes])
    assert result.digest == whole.digest


@given(scenes())
def test_the_approved_digest_lets_exactly_this_plan_through(scene: Scene) -> None:
    whole = plan(scene)

    assert guarded(scene, approved={whole.digest}) == whole


def carried_out(change: Change) -> Outcome:
    """As an API server that does what it is told answers."""
    if change.operation is Operation.BLOCK or change.report_only:
        return Outcome(change=change, skipped=True)
    if change.operation in {Operation.PRUNE, Operation.RELEASE}:
        return Outcome(change=change)
    assert change.manifest is not None
    answer = Observed(
        uid=change.observed.uid if change.observed else "new",
        resource_version="2",
        mark=MARK,
        entry_hash="ours",
        projection_hash=f"applied {change.manifest.digest}",
    )
    return Outcome(change=change, observed=answer)


@given(scenes())
def test_after_a_plan_was_carried_out_nothing_is_left_but_what_waits_for_others(scene: Scene) -> None:
    todo = guarded(scene)
    outcomes = [carried_out(change) for change in todo.changes]
    ahead = intend(scene.inventory, todo, commit="c1", cluster_uid="c")
    inventory = settle(ahead, todo, outcomes, commit="c1")
    gone = {change.id for change in todo.changes if change.operation is Operation.PRUNE}
    answers = {outcome.change.id: outcome.observed for outcome in outcomes if outcome.observed is not None}
    observed = {i: live for i, live in {**scene.observed, **answers}.items() if i not in gone}

    again = guarded(replace(scene, inventory=replace(inventory, trusted=scene.inventory.trusted), observed=observed))

    event("something was written" if answers or gone else "nothing was written")
    left = [change for change in again.changes if change.operation is not Operation.BLOCK and not change.report_only]
    assert left == []


@given(scenes())
def test_the_record_is_wide_enough_before_the_first_write(scene: Scene) -> None:
    todo = guarded(scene)

    ahead = intend(scene.inventory, todo, commit="c1", cluster_uid="c")

    written = {
        change.id
        for change in todo.changes
        if change.operation not in {Operation.BLOCK, Operation.RELEASE} and not change.report_only
    }
    assert ahead.entries.keys() >= scene.inventory.entries.keys() | written


@given(scenes(), st.sets(ids))
def test_nothing_leaves_the_record_without_confirmation(scene: Scene, confirmed: set[ObjectId]) -> None:
    todo = guarded(scene)
    outcomes = [
        carried_out(change) if change.id in confirmed else Outcome(change=change, skipped=True)
        for change in todo.changes
    ]

    settled = settle(scene.inventory, todo, outcomes, commit="c1")

    over = {
        change.id
        for change in todo.changes
        if change.operation in {Operation.PRUNE, Operation.RELEASE} and change.id in confirmed
    }
    assert scene.inventory.entries.keys() - settled.entries.keys() == scene.inventory.entries.keys() & over
