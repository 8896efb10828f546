"""Whether a plan may delete what it wants to delete."""

from dataclasses import replace
from typing import Any

import pytest

from gitsyncd.core.guard import NEEDS_APPROVAL, budget, guard
from gitsyncd.core.plan import digest
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.inventory import Entry, EntryState, Inventory
from gitsyncd.model.manifest import Desired, Manifest, Origin
from gitsyncd.model.observed import Observed
from gitsyncd.model.plan import Change, Operation, Plan
from gitsyncd.model.target import PrunePolicy

GRAVE = [
    ObjectId(group="", kind="Namespace", namespace="", name="shop"),
    ObjectId(group="", kind="PersistentVolume", namespace="", name="disk"),
    ObjectId(group="", kind="PersistentVolumeClaim", namespace="shop", name="data"),
    ObjectId(group="apiextensions.k8s.io", kind="CustomResourceDefinition", namespace="", name="carts.shop.example"),
]
KEPT = ObjectId(group="", kind="ConfigMap", namespace="shop", name="kept")
RECORDED = Entry(api_version="v1", state=EntryState.LIVE, uid="u")
WANTED = Manifest(id=KEPT, api_version="v1", body=b"{}", digest="d", origin=Origin(file="kept.yaml"))


def config(number: int) -> ObjectId:
    return ObjectId(group="", kind="ConfigMap", namespace="shop", name=f"c{number:03}")


def prune(object_id: ObjectId, **observed: Any) -> Change:
    live = Observed(uid=f"uid of {object_id}", resource_version="1", **observed)
    return Change(id=object_id, operation=Operation.PRUNE, reason="removed in revision", observed=live)


def plan_of(*changes: Change, commit: str = "c1") -> Plan:
    return Plan(
        target="web@eu",
        revision=f"main@sha1:{commit}",
        changes=changes,
        keep=0,
        digest=digest("web@eu", commit, changes),
    )


def guarded(
    plan: Plan,
    *,
    recorded: int = 100,
    policy: PrunePolicy = PrunePolicy(),
    empty: bool = False,
    **approval: Any,
) -> Plan:
    return guard(
        plan,
        desired=Desired(manifests={} if empty else {KEPT: WANTED}),
        inventory=Inventory(target="web@eu", entries={config(number): RECORDED for number in range(recorded)}),
        policy=policy,
        **approval,
    )


def deletes(count: int) -> Plan:
    return plan_of(*(prune(config(number)) for number in range(count)))


@pytest.mark.parametrize(
    ("max_objects", "max_percent", "recorded", "expected"),
    [
        pytest.param(50, 50, 1000, 50, id="objects decide"),
        pytest.param(50, 50, 40, 20, id="percent decides"),
        pytest.param(50, 50, 13, 6, id="half of thirteen is six: seven would be more than half"),
        pytest.param(50, 50, 6, 5, id="five are never too many"),
        pytest.param(50, 50, 0, 5, id="nothing recorded"),
        pytest.param(0, 50, 1000, 5, id="no objects"),
        pytest.param(50, 0, 1000, 5, id="no percent"),
        pytest.param(1000, 100, 70, 70, id="everything"),
    ],
)
def test_the_budget(max_objects: int, max_percent: int, recorded: int, expected: int) -> None:
    assert budget(PrunePolicy(max_objects=max_objects, max_percent=max_percent), recorded) == expected


@pytest.mark.parametrize("count", [0, 1, 5, 6, 20])
def test_deletes_within_the_budget_pass_untouched(count: int) -> None:
    todo = deletes(count)

    assert guarded(todo, recorded=40) is todo


def test_one_delete_too_many_withholds_them_all_and_nothing_else() -> None:
    create = Change(id=KEPT, operation=Operation.CREATE, reason="new in revision")
    release = Change(id=config(90), operation=Operation.RELEASE, reason="gone already")
    prunes = deletes(21).changes

    result = guarded(plan_of(create, *prunes, release), recorded=40)

    assert (result.changes, result.withheld) == ((create, release), prunes)
    assert result.refused is not None
    assert (result.refused.reason, result.refused.prune, result.refused.limit) == (
        "21 of 40 objects would be deleted, at most 20 may be", 21, 20,
    )  # fmt: skip


def test_a_refused_plan_keeps_its_digest() -> None:
    todo = deletes(21)

    assert guarded(todo, recorded=40).digest == todo.digest


@pytest.mark.parametrize("count", [1, 5, 60])
def test_an_empty_revision_deletes_nothing(count: int) -> None:
    result = guarded(deletes(count), empty=True)

    assert result.changes == ()
    assert result.refused is not None
    assert (result.refused.reason, result.refused.prune, result.refused.limit) == (
        "the revision has no object at all for this target", count, 0,
    )  # fmt: skip


def test_an_empty_revision_with_nothing_to_delete_is_not_refused() -> None:
    todo = deletes(0)

    assert guarded(todo, empty=True) is todo


def test_an_empty_revision_passes_where_that_is_allowed() -> None:
    todo = deletes(5)

    assert guarded(todo, empty=True, policy=PrunePolicy(allow_empty=True)) is todo


def test_allowing_empty_revisions_leaves_the_budget_in_force() -> None:
    result = guarded(deletes(60), empty=True, policy=PrunePolicy(allow_empty=True))

    assert result.refused is not None
    assert result.refused.limit == 50


def test_a_revision_of_unknown_kinds_only_is_not_empty() -> None:
    todo = deletes(5)

    result = guard(
        todo,
        desired=Desired(manifests={}, unknown={KEPT: WANTED}),
        inventory=Inventory(target="web@eu"),
        policy=PrunePolicy(),
    )

    assert result is todo


@pytest.mark.parametrize("object_id", GRAVE, ids=lambda object_id: object_id.kind)
def test_what_takes_data_along_needs_approval_even_alone(object_id: ObjectId) -> None:
    result = guarded(plan_of(prune(object_id)))

    assert result.changes == ()
    assert result.refused is not None
    assert (result.refused.reason, result.refused.limit) == (f"deleting {object_id} needs approval", 0)


def test_the_kinds_that_need_approval_are_these() -> None:
    assert {(object_id.group, object_id.kind) for object_id in GRAVE} == NEEDS_APPROVAL


def test_the_refusal_names_the_first_and_counts_the_rest() -> None:
    result = guarded(plan_of(*(prune(object_id) for object_id in GRAVE), prune(config(1))))

    assert result.refused is not None
    assert (result.refused.reason, result.refused.prune) == ("deleting Namespace/shop and 3 more needs approval", 5)


def test_an_object_may_ask_for_approval_itself() -> None:
    result = guarded(plan_of(prune(config(1), prune_needs_approval=True)))

    assert result.refused is not None
    assert result.refused.reason == "deleting ConfigMap/shop/c001 needs approval"


# --- approval ----------------------------------------------------------------------------------------------------------

TOO_MANY = deletes(21)


def test_the_approved_digest_passes() -> None:
    assert guarded(TOO_MANY, recorded=40, approved={"other", TOO_MANY.digest}) is TOO_MANY


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(deletes(22), id="one more delete"),
        pytest.param(deletes(20), id="one delete less"),
        pytest.param(plan_of(*TOO_MANY.changes, commit="c2"), id="another commit"),
        pytest.param(
            plan_of(*TOO_MANY.changes[:-1], replace(TOO_MANY.changes[-1], observed=Observed(uid="x", resource_version="1"))),
            id="another object of that name",
        ),
    ],
)  # fmt: skip
def test_an_approval_is_for_exactly_these_deletes(other: Plan) -> None:
    result = guarded(other, recorded=39, approved={TOO_MANY.digest})

    assert result.refused is not None


@pytest.mark.parametrize(
    ("trailer", "passes"),
    [
        ("web@eu prune=21", True),
        ("web prune=21", True),
        ("  web   prune=21 ", True),
        ("web prune=20", False),
        ("web prune=22", False),
        ("web prune=210", False),
        ("web@us prune=21", False),
        ("api prune=21", False),
        ("we prune=21", False),
        ("web", False),
        ("prune=21", False),
        ("web prune=", False),
        ("web prune=-21", False),
        ("web prune=21 and more", False),
        ("web@eu", False),
        ("", False),
    ],
)
def test_a_commit_approves_by_target_and_exact_count(trailer: str, passes: bool) -> None:
    result = guarded(TOO_MANY, recorded=40, trailers=[trailer])

    assert (result.refused is None) is passes


def test_one_matching_trailer_among_others_is_enough() -> None:
    result = guarded(TOO_MANY, recorded=40, trailers=["api prune=3", "web@eu prune=21"])

    assert result is TOO_MANY


@pytest.mark.parametrize("approval", [{"approved": {TOO_MANY.digest}}, {"trailers": ["web prune=21"]}])
def test_a_person_may_approve_the_deletes_of_an_empty_revision(approval: dict[str, Any]) -> None:
    assert guarded(TOO_MANY, empty=True, **approval) is TOO_MANY


@pytest.mark.parametrize("count", ["9" * 5000, "٢١", "²¹"])
def test_a_count_that_is_no_number_approves_nothing_and_harms_nothing(count: str) -> None:
    result = guarded(TOO_MANY, recorded=40, trailers=[f"web prune={count}"])

    assert result.refused is not None
