"""A live object as the record that planning works with."""

from typing import Any

import pytest

from gitsyncd.core.observe import identify, observe
from gitsyncd.core.writers import WriterTable
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.observed import Mark, Observed

MANAGER = "gitsyncd/edge"
TABLE = WriterTable.build()
KEY = b"key of the agent"


def live(kind: str = "ConfigMap", **metadata: Any) -> Any:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": "a", "namespace": "web", "uid": "u-1", "resourceVersion": "7", **metadata},
        "data": {"a": "MQ=="},
    }


def applied(kind: str = "ConfigMap", **metadata: Any) -> Any:
    fields: Any = {"f:data": {"f:a": {}}}
    entry = {"manager": MANAGER, "operation": "Apply", "apiVersion": "v1", "fieldsV1": fields}
    return live(kind, managedFields=[entry], **metadata)


def test_an_object_of_nobody_is_little_more_than_its_version() -> None:
    assert observe(live(), manager=MANAGER, table=TABLE) == Observed(uid="u-1", resource_version="7")


def test_an_object_of_ours_has_both_hashes_and_a_mark_that_describes_it() -> None:
    obj = applied(
        labels={"gitsyncd.dev/agent": "edge"},
        annotations={"gitsyncd.dev/target": "web", "gitsyncd.dev/id": "ConfigMap/web/a"},
    )

    found = observe(obj, manager=MANAGER, table=TABLE)

    assert found.mark == Mark(agent="edge", target="web", describes_itself=True)
    assert (len(found.entry_hash), len(found.projection_hash)) == (32, 32)
    assert (found.additions, found.takeover) == ((), False)


@pytest.mark.parametrize(
    ("labels", "annotations", "mark"),
    [
        ({"gitsyncd.dev/agent": "edge"}, {"gitsyncd.dev/target": "web", "gitsyncd.dev/id": "ConfigMap/web/b"}, Mark(agent="edge", target="web", describes_itself=False)),
        ({"gitsyncd.dev/agent": "edge"}, None, Mark(agent="edge", target="", describes_itself=False)),
        ({"gitsyncd.dev/agent": 3}, {"gitsyncd.dev/target": [], "gitsyncd.dev/id": {}}, Mark(agent="", target="", describes_itself=False)),
        ({}, {"gitsyncd.dev/target": "web", "gitsyncd.dev/id": "ConfigMap/web/a"}, None),
        ("odd", "odd", None),
    ],
)  # fmt: skip
def test_a_mark_stands_and_falls_with_its_label_and_a_copy_does_not_describe_itself(
    labels: Any, annotations: Any, mark: Mark | None
) -> None:
    assert observe(live(labels=labels, annotations=annotations), manager=MANAGER, table=TABLE).mark == mark


def test_items_of_lists_are_known_by_the_id_that_the_caller_has() -> None:
    obj = live(labels={"gitsyncd.dev/agent": "edge"}, annotations={"gitsyncd.dev/id": "ConfigMap/web/a"})
    del obj["apiVersion"], obj["kind"]
    known = ObjectId(group="", kind="ConfigMap", namespace="web", name="a")

    unknown_mark = observe(obj, manager=MANAGER, table=TABLE).mark
    known_mark = observe(obj, manager=MANAGER, table=TABLE, object_id=known).mark

    assert (unknown_mark and unknown_mark.describes_itself, known_mark and known_mark.describes_itself) == (False, True)


def test_only_hashes_of_secrets_depend_on_the_key() -> None:
    def hashes(kind: str, api_version: str = "v1") -> set[str]:
        obj = {**applied(kind), "apiVersion": api_version}
        return {observe(obj, manager=MANAGER, table=TABLE, key=key).projection_hash for key in (b"", KEY)}

    assert [len(hashes("ConfigMap")), len(hashes("Secret")), len(hashes("Secret", "vault.example.com/v1"))] == [1, 2, 1]


@pytest.mark.parametrize(
    ("metadata", "facts"),
    [
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, {"deleting"}),
        ({"deletionTimestamp": None}, set()),
        ({"ownerReferences": [{"kind": "ReplicaSet", "controller": True}]}, {"controlled"}),
        ({"ownerReferences": [{"kind": "ReplicaSet"}, 3, {"controller": "true"}]}, set()),
        ({"ownerReferences": {"controller": True}}, set()),
        ({"managedFields": [{"manager": "kubectl", "subresource": "scale"}]}, {"scaled"}),
        ({"managedFields": [{"manager": "kubectl", "subresource": "status"}]}, set()),
        ({"annotations": {"gitsyncd.dev/prune": "disabled"}}, {"prune_disabled"}),
        ({"annotations": {"kustomize.toolkit.fluxcd.io/prune": "disabled"}}, {"prune_disabled"}),
        ({"annotations": {"gitsyncd.dev/reconcile": "disabled"}}, {"reconcile_disabled"}),
        ({"annotations": {"argocd.argoproj.io/sync-options": "Prune=confirm"}}, {"prune_needs_approval"}),
    ],
)
def test_what_forbids_things_is_read_from_the_live_object(metadata: Any, facts: set[str]) -> None:
    found = observe(live(**metadata), manager=MANAGER, table=TABLE)

    names = ("deleting", "controlled", "scaled", "prune_disabled", "reconcile_disabled", "prune_needs_approval")
    assert {name for name in names if getattr(found, name)} == facts


def test_what_others_added_and_left_behind_is_told() -> None:
    obj = applied()
    obj["metadata"]["managedFields"].append(
        {"manager": "kubectl-edit", "operation": "Update", "apiVersion": "v1", "fieldsV1": {"f:data": {"f:b": {}}}}
    )
    obj["data"]["b"] = "2"

    found = observe(obj, manager=MANAGER, table=TABLE)

    assert [(addition.manager, addition.fields) for addition in found.additions] == [("kubectl-edit", (".data.b",))]
    assert found.takeover is True


@pytest.mark.parametrize("odd", [{}, {"metadata": None}, {"metadata": []}, {"apiVersion": 1, "kind": {}}, []])
def test_an_object_without_shape_is_an_object_without_facts(odd: Any) -> None:
    assert observe(odd, manager=MANAGER, table=TABLE) == Observed(uid="", resource_version="")
    assert identify(odd) == ObjectId(group="", kind="", namespace="", name="")


def test_what_others_put_into_an_empty_map_of_ours_leaves_the_projection_as_it_was() -> None:
    def seen(data: Any, *more: Any) -> Observed:
        obj = applied()
        obj["metadata"]["managedFields"][0]["fieldsV1"] = {"f:data": {}}
        obj["metadata"]["managedFields"] += more
        return observe({**obj, "data": data}, manager=MANAGER, table=TABLE)

    theirs = {"manager": "helm", "operation": "Update", "apiVersion": "v1", "fieldsV1": {"f:data": {"f:a": {}}}}

    assert seen({"a": "1"}, theirs).projection_hash == seen({}).projection_hash
    assert [addition.fields for addition in seen({"a": "1"}, theirs).additions] == [(".data.a",)]
