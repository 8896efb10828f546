"""From documents to manifests: scope, namespace, marks, and what is left out."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gitsyncd.core.desired import Place, desired, digest, scaled_by
from gitsyncd.model.errors import ManifestInvalid
from gitsyncd.model.ids import ObjectId, ObjectType, ResourceType
from gitsyncd.model.manifest import Apply, Controls, Desired, Document, Manifest, Origin
from gitsyncd.model.target import IgnoreRule


def served(api_version: str, kind: str, *, namespaced: bool = True) -> tuple[ObjectType, ResourceType]:
    name = ObjectType(api_version=api_version, kind=kind)
    return name, ResourceType(type=name, plural=f"{kind.lower()}s", namespaced=namespaced)


PLACE = Place(
    agent="edge",
    target="web",
    cluster="eu",
    namespace="shop",
    resources=dict(
        (
            served("v1", "ConfigMap"),
            served("v1", "Secret"),
            served("v1", "Namespace", namespaced=False),
            served("apps/v1", "Deployment"),
            served("autoscaling/v2", "HorizontalPodAutoscaler"),
            served("apiextensions.k8s.io/v1", "CustomResourceDefinition", namespaced=False),
        )
    ),
    autoscaled={},
    key=b"key",
)


def document(
    kind: str = "ConfigMap",
    name: str = "settings",
    *,
    namespace: str = "",
    api_version: str = "v1",
    at: str = "shop.yaml:3",
    metadata: Mapping[str, Any] | None = None,
    **body: Any,
) -> Document:
    file, _, line = at.partition(":")
    named = {"name": name, **({"namespace": namespace} if namespace else {}), **(metadata or {})}
    return Document(
        origin=Origin(file=file, line=int(line)),
        api_version=api_version,
        kind=kind,
        namespace=namespace,
        name=name,
        body=orjson.dumps({"apiVersion": api_version, "kind": kind, "metadata": named, **body}),
    )


def settle(*documents: Document, **changes: Any) -> Desired:
    return desired(documents, replace(PLACE, **changes))


def only(wanted: Desired) -> Manifest:
    (manifest,) = (*wanted.manifests.values(), *wanted.unknown.values())
    return manifest


def body(wanted: Desired) -> Any:
    return orjson.loads(only(wanted).body)


# --- identity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (document(), "ConfigMap/shop/settings"),
        (document(namespace="other"), "ConfigMap/other/settings"),
        (document("Namespace", "shop"), "Namespace/shop"),
        (document("Deployment", "front", api_version="apps/v1"), "Deployment.apps/shop/front"),
    ],
)
def test_the_scope_that_the_server_says_decides_the_namespace(given: Document, expected: str) -> None:
    wanted = settle(given)

    assert [str(object_id) for object_id in wanted.manifests] == [expected]
    assert body(wanted)["metadata"].get("namespace", "") == only(wanted).id.namespace


def test_a_namespace_on_a_cluster_scoped_object_is_an_error_with_its_place() -> None:
    with pytest.raises(ManifestInvalid) as refused:
        settle(document("Namespace", "shop", namespace="other", at="ns.yaml:12"))

    assert str(refused.value) == (
        "ns.yaml:12: Namespace 'shop' is cluster-scoped and cannot have the namespace 'other'"
    )  # fmt: skip
    assert refused.value.hint == "Remove `metadata.namespace`."


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(document(at="b.yaml:1"), id="the same"),
        pytest.param(document(namespace="shop", at="b.yaml:1"), id="with the namespace spelled out"),
    ],
)
def test_the_same_object_twice_names_both_places(second: Document) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        settle(document(at="a.yaml:7"), second)

    assert str(refused.value) == "b.yaml:1: ConfigMap/shop/settings stands twice: here and at a.yaml:7"


def test_the_same_object_in_two_versions_stands_twice() -> None:
    resources = {**PLACE.resources, **dict([served("apps/v1beta1", "Deployment")])}

    with pytest.raises(ManifestInvalid, match="stands twice"):
        settle(
            document("Deployment", "front", api_version="apps/v1"),
            document("Deployment", "front", api_version="apps/v1beta1"),
            resources=resources,
        )


def test_objects_of_two_kinds_may_have_one_name() -> None:
    assert len(settle(document(), document("Secret")).manifests) == 2


# --- kinds that are not served -------------------------------------------------------------------------------------------

CART = document("Cart", "mine", api_version="shop.example/v1")


def definition(scope: str = "Namespaced", **spec: Any) -> Document:
    known = {"group": "shop.example", "names": {"kind": "Cart"}, "scope": scope, "versions": [{"name": "v1"}]}
    return document(
        "CustomResourceDefinition", "carts.shop.example", api_version="apiextensions.k8s.io/v1", spec=known | spec
    )  # fmt: skip


def test_a_kind_that_nobody_serves_or_defines_is_set_apart() -> None:
    wanted = settle(CART, document())

    assert [str(object_id) for object_id in wanted.unknown] == ["Cart.shop.example/mine"]
    assert [str(object_id) for object_id in wanted.manifests] == ["ConfigMap/shop/settings"]


@pytest.mark.parametrize(
    ("scope", "expected"), [("Namespaced", "Cart.shop.example/shop/mine"), ("Cluster", "Cart.shop.example/mine")]
)
def test_a_kind_that_is_defined_in_the_same_set_is_known_and_waits_for_its_definition(
    scope: str, expected: str
) -> None:
    wanted = settle(CART, definition(scope))

    cart = ObjectId.parse(expected)
    assert wanted.unknown == {}
    assert {str(need) for need in wanted.waits[cart]} == {
        "CustomResourceDefinition.apiextensions.k8s.io/carts.shop.example"
    }  # fmt: skip


@pytest.mark.parametrize("spec", [{"versions": None}, {"names": []}, {"versions": ["v1", 7]}, {"versions": [{}]}])
def test_a_definition_of_any_shape_defines_nothing_and_is_no_error(spec: dict[str, Any]) -> None:
    assert [str(object_id) for object_id in settle(CART, definition(**spec)).unknown] == ["Cart.shop.example/mine"]


# --- what is sent --------------------------------------------------------------------------------------------------------


def test_an_object_carries_its_marks_beside_its_own_labels_and_annotations() -> None:
    metadata = body(settle(document(metadata={"labels": {"app": "x"}, "annotations": {"note": "y"}})))["metadata"]

    assert metadata["labels"] == {"app": "x", "gitsyncd.dev/agent": "edge"}
    assert metadata["annotations"] == {
        "note": "y",
        "gitsyncd.dev/target": "web",
        "gitsyncd.dev/id": "ConfigMap/shop/settings",
        "gitsyncd.dev/path": "shop.yaml",
    }


def test_marks_that_git_holds_are_replaced_by_the_true_ones() -> None:
    copied = {
        "labels": {"gitsyncd.dev/agent": "x"},
        "annotations": {"gitsyncd.dev/id": "x", "gitsyncd.dev/target": "x"},
    }

    assert only(settle(document(metadata=copied))).digest == only(settle(document())).digest


def test_no_mark_carries_the_commit_or_the_line() -> None:
    assert only(settle(document(at="shop.yaml:3"))).digest == only(settle(document(at="shop.yaml:80"))).digest


def test_what_only_a_server_writes_is_left_out() -> None:
    exported = document(
        metadata={
            "uid": "u",
            "resourceVersion": "7",
            "generation": 2,
            "creationTimestamp": None,
            "managedFields": [],
            "selfLink": "/x",
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 30,
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
        },
        status={"phase": "x"},
        data={"a": "b"},
    )

    assert body(settle(exported)) == body(settle(document(data={"a": "b"})))


@pytest.mark.parametrize("field", ["labels", "annotations"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"on": True}, "metadata.{field}['on'] must be text"),
        ({"fine": "x", "count": 1}, "metadata.{field}['count'] must be text"),
        (["a"], "metadata.{field} must be text"),
    ],
)
def test_labels_and_annotations_must_be_text(field: str, value: Any, message: str) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        settle(document(metadata={field: value}))

    assert str(refused.value) == f"shop.yaml:3: {message.format(field=field)}"


@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_empty_labels_and_annotations_are_fine(field: str) -> None:
    assert only(settle(document(metadata={field: None}))).digest == only(settle(document())).digest


def test_annotations_become_controls() -> None:
    asked = {"gitsyncd.dev/apply": "if-not-present", "gitsyncd.dev/prune": "disabled", "gitsyncd.dev/wave": "2"}

    manifest = only(settle(document(metadata={"annotations": asked})))

    assert manifest.controls == Controls(apply=Apply.IF_NOT_PRESENT, prune=False, wave=2)


def test_an_annotation_that_makes_no_sense_is_an_error_with_its_place() -> None:
    with pytest.raises(ManifestInvalid) as refused:
        settle(document(metadata={"annotations": {"gitsyncd.dev/apply": "sometimes"}}))

    assert (refused.value.file, refused.value.line) == ("shop.yaml", 3)


# --- Secrets -------------------------------------------------------------------------------------------------------------


def test_string_data_is_folded_into_data_and_wins() -> None:
    secret = document("Secret", data={"a": "b2xk", "b": "a2VwdA=="}, stringData={"a": "new"})

    sent = body(settle(secret))

    assert "stringData" not in sent
    assert {name: base64.b64decode(value) for name, value in sent["data"].items()} == {"a": b"new", "b": b"kept"}


@pytest.mark.parametrize(
    "wrong", [{"stringData": {"a": 1}}, {"stringData": ["a"]}, {"stringData": {"a": "b"}, "data": 1}]
)
def test_a_secret_of_another_shape_is_an_error_that_shows_no_value(wrong: dict[str, Any]) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        settle(document("Secret", **wrong))

    assert str(refused.value) == "shop.yaml:3: stringData of a Secret must map names to text"


@pytest.mark.parametrize(("kind", "depends"), [("Secret", True), ("ConfigMap", False)])
def test_the_digest_of_a_secret_depends_on_a_key(kind: str, depends: bool) -> None:
    one, other = (only(settle(document(kind), key=key)).digest for key in (b"key", b"another"))

    assert (one != other) is depends


def test_a_digest_is_32_hexadecimal_digits() -> None:
    assert len(bytes.fromhex(digest(b"body"))) == 16


# --- fields that others rightly own --------------------------------------------------------------------------------------

FRONT = ObjectId.parse("Deployment.apps/shop/front")
WORKLOAD = document("Deployment", "front", api_version="apps/v1", spec={"replicas": 2, "x": 1})
REFERENCE = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "front"}
SCALER = document(
    "HorizontalPodAutoscaler", "scaler", api_version="autoscaling/v2", spec={"scaleTargetRef": REFERENCE}
)  # fmt: skip


@pytest.mark.parametrize("autoscaler_first", [True, False])
def test_replicas_of_a_workload_that_an_autoscaler_in_git_scales_are_left_out(autoscaler_first: bool) -> None:
    wanted = settle(*((SCALER, WORKLOAD) if autoscaler_first else (WORKLOAD, SCALER)))

    manifest = wanted.manifests[FRONT]
    assert orjson.loads(manifest.body)["spec"] == {"x": 1}
    assert manifest.yields == ("/spec/replicas",)
    assert manifest.left_out == ".spec.replicas is left to HorizontalPodAutoscaler/shop/scaler"


def test_replicas_of_a_workload_that_an_autoscaler_on_the_cluster_scales_are_left_out() -> None:
    manifest = only(settle(WORKLOAD, autoscaled={FRONT: "HorizontalPodAutoscaler/shop/live"}))

    assert manifest.left_out == ".spec.replicas is left to HorizontalPodAutoscaler/shop/live"


def test_an_autoscaler_of_another_namespace_scales_something_else() -> None:
    wanted = settle(WORKLOAD, document(
        "HorizontalPodAutoscaler", "scaler", namespace="other", api_version="autoscaling/v2",
        spec={"scaleTargetRef": REFERENCE},
    ))  # fmt: skip

    assert wanted.manifests[FRONT].left_out == ""


def test_a_workload_whose_replicas_git_does_not_name_leaves_nothing_out() -> None:
    quiet = document("Deployment", "front", api_version="apps/v1", spec={"x": 1})

    assert only(settle(quiet, autoscaled={FRONT: "x"})).yields == ()


@pytest.mark.parametrize(
    "autoscaler", [{}, {"spec": None}, {"spec": {}}, {"spec": {"scaleTargetRef": {}}, "metadata": {}}, {"metadata": {}}]
)
def test_an_autoscaler_of_any_shape_is_no_error(autoscaler: dict[str, Any]) -> None:
    assert scaled_by(autoscaler, "shop") == {}


def test_ignored_fields_are_named_for_the_objects_that_match() -> None:
    rules = (
        IgnoreRule(kind="Deployment", group="apps", namespace="", name="", paths=("/spec/x",)),
        IgnoreRule(kind="ConfigMap", namespace="", name="", paths=("/data",)),
        IgnoreRule(kind="", namespace="shop", name="front", paths=("/metadata/labels/y",)),
    )

    manifest = only(settle(WORKLOAD, ignore=rules))

    assert manifest.yields == ("/spec/x", "/metadata/labels/y")
