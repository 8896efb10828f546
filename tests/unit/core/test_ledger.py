"""How the inventory follows a turn: wider before the first write, narrower only on confirmation."""

from dataclasses import replace
from typing import Any

import pytest

from gitsyncd.core.ledger import Outcome, intend, rebuilt, settle
from gitsyncd.model.errors import Rejected
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.inventory import Entry, EntryState, Inventory
from gitsyncd.model.manifest import Controls, Manifest, Origin
from gitsyncd.model.observed import Observed
from gitsyncd.model.plan import Change, DriftKind, Operation, Plan

CONFIG = ObjectId(group="", kind="ConfigMap", namespace="shop", name="settings")
OTHER = replace(CONFIG, name="other")
KNOWN = Entry(
    api_version="v1", state=EntryState.LIVE, uid="u1", digest="one", entry_hash="e1", projection_hash="p1", commit="c0"
)  # fmt: skip
WRITES = (Operation.CREATE, Operation.UPDATE, Operation.REVERT, Operation.ADOPT, Operation.RECREATE)
LIVE = Observed(uid="u1", resource_version="7", entry_hash="e1", projection_hash="p1")
ANSWER = Observed(uid="u1", resource_version="8", entry_hash="e2", projection_hash="p2")


def manifest(text: str = "two", **controls: Any) -> Manifest:
    return Manifest(
        id=CONFIG,
        api_version="v1",
        body=b"{}",
        digest=text,
        origin=Origin(file="shop.yaml"),
        controls=Controls(**controls),
    )


def change(operation: Operation, **fields: Any) -> Change:
    return Change(id=CONFIG, operation=operation, reason="because", **fields)


def inventory(*entries: Entry, **fields: Any) -> Inventory:
    """Of CONFIG, with `entries` none or one, and of another object."""
    recorded = {CONFIG: entries[0]} if entries else {}
    known = Inventory(
        target="web@eu", entries={**recorded, OTHER: KNOWN}, serial=4, cluster_uid="cluster", commit="c0"
    )  # fmt: skip
    return replace(known, **fields)


def plan_of(*changes: Change, **fields: Any) -> Plan:
    return Plan(target="web@eu", revision="main@sha1:c1", changes=changes, keep=0, digest="d", **fields)


def intended(before: Inventory, *changes: Change) -> Inventory:
    return intend(before, plan_of(*changes), commit="c0", cluster_uid="cluster")


def settled(before: Inventory, *outcomes: Outcome, **fields: Any) -> Inventory:
    changes = (outcome.change for outcome in outcomes)
    return settle(before, plan_of(*changes, **fields), outcomes, commit="c1")


# --- before the first write ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", WRITES)
def test_every_object_that_will_be_written_is_on_record_before(operation: Operation) -> None:
    ahead = intended(inventory(), change(operation, manifest=manifest(prune=False)))

    assert ahead.entries[CONFIG] == Entry(
        api_version="v1", state=EntryState.PENDING, path="shop.yaml", prune=False
    )  # fmt: skip
    assert ahead.entries[OTHER] == KNOWN


@pytest.mark.parametrize("operation", [Operation.PRUNE, Operation.RELEASE, Operation.BLOCK])
def test_what_is_not_written_is_not_recorded(operation: Operation) -> None:
    before = inventory()

    assert intended(before, change(operation, manifest=manifest())) is before


def test_drift_that_is_only_reported_is_not_recorded() -> None:
    before = inventory()

    assert intended(before, change(Operation.CREATE, manifest=manifest(), report_only=True)) is before


@pytest.mark.parametrize("operation", [Operation.PRUNE, Operation.RELEASE])
def test_nothing_is_forgotten_ahead(operation: Operation) -> None:
    before = inventory(KNOWN)

    assert intended(before, change(operation, entry=KNOWN, observed=LIVE)) is before


@pytest.mark.parametrize("operation", [Operation.UPDATE, Operation.REVERT, Operation.ADOPT])
def test_a_write_to_the_recorded_object_leaves_its_record_alone(operation: Operation) -> None:
    before = inventory(KNOWN)

    assert intended(before, change(operation, manifest=manifest(), entry=KNOWN, observed=LIVE)) is before


@pytest.mark.parametrize("operation", [Operation.UPDATE, Operation.REVERT])
def test_an_object_that_others_created_again_is_not_recorded_before_it_is_written(operation: Operation) -> None:
    before, again = inventory(KNOWN), replace(LIVE, uid="u2")

    assert intended(before, change(operation, manifest=manifest(), entry=KNOWN, observed=again)) is before


@pytest.mark.parametrize(
    ("operation", "observed"),
    [(Operation.CREATE, None), (Operation.ADOPT, replace(LIVE, uid="u2")), (Operation.RECREATE, None)],
)
def test_an_object_that_takes_the_place_of_the_recorded_one_is_found_by_its_marks_after_a_crash(
    operation: Operation, observed: Observed | None
) -> None:
    ahead = intended(inventory(KNOWN), change(operation, manifest=manifest(), entry=KNOWN, observed=observed))

    assert ahead.entries[CONFIG] == replace(KNOWN, state=EntryState.PENDING, uid="")


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (Operation.UPDATE, replace(KNOWN, state=EntryState.PENDING, uid="")),
        (Operation.REVERT, replace(KNOWN, state=EntryState.PENDING, uid="")),
        (Operation.BLOCK, KNOWN),
    ],
)
def test_an_object_that_may_be_recreated_on_the_way_loses_its_uid_unless_it_is_blocked(
    operation: Operation, expected: Entry
) -> None:
    ahead = intended(inventory(KNOWN), change(operation, manifest=manifest(recreate=True), entry=KNOWN, observed=LIVE))

    assert ahead.entries[CONFIG] == expected


@pytest.mark.parametrize(("commit", "cluster_uid"), [("c1", "cluster"), ("c0", "another")])
def test_commit_and_cluster_are_recorded_ahead(commit: str, cluster_uid: str) -> None:
    ahead = intend(inventory(KNOWN), plan_of(), commit=commit, cluster_uid=cluster_uid)

    assert (ahead.commit, ahead.cluster_uid, ahead.entries) == (commit, cluster_uid, inventory(KNOWN).entries)


# --- after the outcomes are known ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", WRITES)
def test_a_confirmed_write_is_recorded_as_the_server_answered(operation: Operation) -> None:
    done = Outcome(change=change(operation, manifest=manifest()), observed=ANSWER)

    assert settled(inventory(), done).entries[CONFIG] == Entry(
        api_version="v1",
        state=EntryState.LIVE,
        uid="u1",
        digest="two",
        entry_hash="e2",
        projection_hash="p2",
        commit="c1",
        path="shop.yaml",
    )


@pytest.mark.parametrize(
    ("done", "commit"),
    [
        pytest.param(change(Operation.UPDATE, manifest=manifest(), entry=KNOWN), "c1", id="Git moved"),
        pytest.param(
            change(Operation.UPDATE, manifest=manifest(), entry=KNOWN, drift=DriftKind.CHANGED), "c1", id="both moved"
        ),
        pytest.param(
            change(Operation.REVERT, manifest=manifest("one"), entry=KNOWN, drift=DriftKind.CHANGED), "c0", id="drift"
        ),
        pytest.param(
            change(Operation.CREATE, manifest=manifest("one"), entry=KNOWN, drift=DriftKind.DELETED), "c0", id="deleted"
        ),
    ],
)
def test_the_recorded_commit_is_the_last_one_that_was_written_for_gits_sake(done: Change, commit: str) -> None:
    assert settled(inventory(KNOWN), Outcome(change=done, observed=ANSWER)).entries[CONFIG].commit == commit


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param(Outcome(change=change(Operation.RELEASE, entry=KNOWN)), id="released"),
        pytest.param(Outcome(change=change(Operation.PRUNE, entry=KNOWN)), id="deleted and gone"),
    ],
)
def test_an_entry_leaves_the_record_on_confirmation(outcome: Outcome) -> None:
    assert settled(inventory(KNOWN), outcome).entries == {OTHER: KNOWN}


REFUSED = Rejected("no")


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param(Outcome(change=change(Operation.PRUNE, entry=KNOWN), error=REFUSED), id="the delete was refused"),
        pytest.param(Outcome(change=change(Operation.PRUNE, entry=KNOWN), skipped=True), id="the turn ended before"),
        pytest.param(Outcome(change=change(Operation.RELEASE, entry=KNOWN), skipped=True), id="release not reached"),
        pytest.param(Outcome(change=change(Operation.BLOCK, entry=KNOWN), error=REFUSED), id="blocked"),
        pytest.param(
            Outcome(change=change(Operation.UPDATE, entry=KNOWN, manifest=manifest()), error=REFUSED),
            id="write refused",
        ),
        pytest.param(
            Outcome(change=change(Operation.REVERT, entry=KNOWN, manifest=manifest()), skipped=True), id="only reported"
        ),
        pytest.param(
            Outcome(change=change(Operation.RECREATE, entry=KNOWN, manifest=manifest()), error=REFUSED),
            id="deleted for being created again, and refused",
        ),
    ],
)
def test_without_confirmation_the_record_stays(outcome: Outcome) -> None:
    before = inventory(KNOWN)

    assert settled(before, outcome) is before


def test_a_delete_that_a_finalizer_holds_stays_on_record_as_deleting() -> None:
    held = Outcome(change=change(Operation.PRUNE, entry=KNOWN, observed=LIVE), observed=LIVE)

    assert settled(inventory(KNOWN), held).entries[CONFIG] == replace(KNOWN, state=EntryState.DELETING)


def test_what_the_plan_noted_without_a_write_is_recorded() -> None:
    noted = replace(KNOWN, state=EntryState.DELETING)

    assert settled(inventory(KNOWN), recorded={CONFIG: noted}).entries[CONFIG] == noted


def test_a_confirmed_write_that_changes_nothing_costs_no_write_of_the_record() -> None:
    before = inventory(replace(KNOWN, path="shop.yaml"))
    same = Outcome(
        change=change(Operation.REVERT, manifest=manifest("one"), entry=KNOWN, drift=DriftKind.CHANGED), observed=LIVE
    )

    assert settled(before, same) is before


# --- lost and rebuilt ----------------------------------------------------------------------------------------------------


def test_a_lost_inventory_is_rebuilt_from_marks_and_not_trusted() -> None:
    found = rebuilt("web@eu", {CONFIG: ("v1", LIVE)}, cluster_uid="cluster")

    assert found == Inventory(
        target="web@eu",
        entries={CONFIG: Entry(api_version="v1", state=EntryState.PENDING, uid="u1")},
        cluster_uid="cluster",
        trusted=False,
    )


def test_a_rebuilt_inventory_is_trusted_after_one_turn() -> None:
    found = rebuilt("web@eu", {CONFIG: ("v1", LIVE)}, cluster_uid="cluster")

    assert settled(found).trusted


def test_a_rebuilt_inventory_is_not_trusted_before_its_turn_is_over() -> None:
    found = rebuilt("web@eu", {CONFIG: ("v1", LIVE)}, cluster_uid="cluster")

    assert not intended(found, change(Operation.UPDATE, manifest=manifest(), observed=LIVE)).trusted
