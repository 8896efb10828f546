"""The order of applying and pruning, and what waits for what."""

import orjson
import pytest

from gitsyncd.core.order import stage, stages, waits_for
from gitsyncd.model.errors import ManifestInvalid
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.manifest import Controls, Manifest, Origin


def object_id(text: str) -> ObjectId:
    return ObjectId.parse(text)


def manifest(text: str, *needs: str, wave: int = 0, api_version: str = "v1", spec: object = None) -> Manifest:
    return Manifest(
        id=object_id(text),
        api_version=api_version,
        body=orjson.dumps({"spec": spec}),
        digest="",
        origin=Origin(file=f"{text.rpartition('/')[2]}.yaml", line=3),
        controls=Controls(wave=wave, depends_on=tuple(map(object_id, needs))),
    )


def by_id(*manifests: Manifest) -> dict[ObjectId, Manifest]:
    return {one.id: one for one in manifests}


STAGES = [
    ("CustomResourceDefinition.apiextensions.k8s.io/widgets.example.com", 1),
    ("Namespace/web", 1),
    ("ClusterRole.rbac.authorization.k8s.io/reader", 1),
    ("StorageClass.storage.k8s.io/fast", 2),
    ("IngressClass.networking.k8s.io/public", 2),
    ("ClusterClass.cluster.x-k8s.io/web/small", 2),
    ("ServiceAccount/web/front", 3),
    ("Role.rbac.authorization.k8s.io/web/reader", 3),
    ("RoleBinding.rbac.authorization.k8s.io/web/reader", 3),
    ("ClusterRoleBinding.rbac.authorization.k8s.io/reader", 3),
    ("ConfigMap/web/settings", 3),
    ("Secret/web/password", 3),
    ("ResourceQuota/web/quota", 3),
    ("LimitRange/web/limits", 3),
    ("Service/web/front", 3),
    ("PersistentVolumeClaim/web/data", 3),
    ("NetworkPolicy.networking.k8s.io/web/deny", 3),
    ("Deployment.apps/web/front", 4),
    ("Service.serving.knative.dev/web/front", 4),
    ("Namespace.example.com/web/mine", 4),
    ("Widget.example.com/web/one", 4),
    ("MutatingWebhookConfiguration.admissionregistration.k8s.io/inject", 5),
    ("ValidatingWebhookConfiguration.admissionregistration.k8s.io/policy", 5),
    ("APIService.apiregistration.k8s.io/v1.metrics", 5),
]


@pytest.mark.parametrize(("text", "expected"), STAGES)
def test_a_kind_belongs_to_one_stage(text: str, expected: int) -> None:
    assert stage(object_id(text), 0) == (0, expected)


def test_waves_come_before_stages() -> None:
    late, early = (object_id("Namespace/web"), 1), (object_id("APIService.apiregistration.k8s.io/v1.metrics"), -1)

    assert sorted([late, early], key=lambda one: stage(*one)) == [early, late]


def test_an_object_waits_for_its_namespace_its_definition_and_what_it_names() -> None:
    namespace = manifest("Namespace/web")
    names = {"group": "example.com", "names": {"kind": "Widget"}}
    crd = manifest("CustomResourceDefinition.apiextensions.k8s.io/widgets.example.com", spec=names)
    settings = manifest("ConfigMap/web/settings")
    widget = manifest("Widget.example.com/web/one", "ConfigMap/web/settings")
    elsewhere = manifest("ConfigMap/other/settings")

    waits = waits_for(by_id(namespace, crd, settings, widget, elsewhere))

    assert waits == {
        settings.id: frozenset({namespace.id}),
        widget.id: frozenset({namespace.id, crd.id, settings.id}),
    }


@pytest.mark.parametrize("spec", [None, "text", [], {"group": 5}, {"names": []}, {"names": {"kind": ["Widget"]}}])
def test_a_definition_without_names_defines_nothing(spec: object) -> None:
    crd = manifest("CustomResourceDefinition.apiextensions.k8s.io/widgets.example.com", spec=spec)

    assert waits_for(by_id(crd, manifest("Widget.example.com/one"))) == {}


def test_a_cycle_is_named_in_full_with_the_place_to_open() -> None:
    a = manifest("ConfigMap/web/a", "ConfigMap/web/b")
    b = manifest("ConfigMap/web/b", "ConfigMap/web/c")
    c = manifest("ConfigMap/web/c", "ConfigMap/web/b")

    with pytest.raises(ManifestInvalid) as caught:
        waits_for(by_id(c, b, a))

    assert str(caught.value) == (
        "b.yaml:3: these objects wait for each other: ConfigMap/web/b → ConfigMap/web/c → ConfigMap/web/b"
    )


def test_an_object_that_waits_for_itself_is_a_cycle() -> None:
    alone = manifest("ConfigMap/web/a", "ConfigMap/web/a")

    with pytest.raises(ManifestInvalid, match="ConfigMap/web/a → ConfigMap/web/a"):
        waits_for(by_id(alone))


def test_two_ways_to_the_same_object_are_no_cycle() -> None:
    top = manifest("ConfigMap/web/top", "ConfigMap/web/left", "ConfigMap/web/right")
    left = manifest("ConfigMap/web/left", "ConfigMap/web/bottom")
    right = manifest("ConfigMap/web/right", "ConfigMap/web/bottom")
    bottom = manifest("ConfigMap/web/bottom")

    waits = waits_for(by_id(top, left, right, bottom))

    assert waits[top.id] == {left.id, right.id}


def test_a_dependency_that_is_not_there_is_refused_with_the_one_that_was_meant() -> None:
    front = manifest("Deployment.apps/web/front", "StatefulSet.apps/db")
    database = manifest("StatefulSet.apps/web/db")

    with pytest.raises(ManifestInvalid) as caught:
        waits_for(by_id(front, database))

    expected = "front.yaml:3: Deployment.apps/web/front depends on StatefulSet.apps/db, which this target does not hold"
    assert (str(caught.value), caught.value.hint) == (expected, "Did you mean StatefulSet.apps/web/db?")


def test_nothing_is_staged_before_what_it_waits_for() -> None:
    settings = manifest("ConfigMap/web/settings", "Job.batch/web/migrate")
    migrate = manifest("Job.batch/web/migrate", "Deployment.apps/web/database")
    database = manifest("Deployment.apps/web/database", wave=3)
    free = manifest("ConfigMap/web/free")
    manifests = by_id(settings, migrate, database, free)

    staged = stages(manifests, waits_for(manifests))

    assert staged == {settings.id: (3, 4), migrate.id: (3, 4), database.id: (3, 4), free.id: (0, 3)}


def test_a_chain_of_thousands_is_ordered() -> None:
    chain = [manifest("ConfigMap/web/n0", wave=7)]
    chain += [manifest(f"ConfigMap/web/n{n}", f"ConfigMap/web/n{n - 1}") for n in range(1, 5000)]
    manifests = by_id(*reversed(chain))

    staged = stages(manifests, waits_for(manifests))

    assert set(staged.values()) == {(7, 3)}


@pytest.mark.parametrize(
    ("binding", "reference", "role"),
    [
        ("RoleBinding.{}/web/b", {"kind": "Role", "name": "reader"}, "Role.{}/web/reader"),
        ("RoleBinding.{}/web/b", {"kind": "ClusterRole", "name": "reader"}, "ClusterRole.{}/reader"),
        ("ClusterRoleBinding.{}/b", {"kind": "ClusterRole", "name": "reader"}, "ClusterRole.{}/reader"),
        ("RoleBinding.{}/web/b", {"kind": "Role", "name": "another"}, None),
        ("RoleBinding.{}/web/b", {"kind": "Group", "name": "reader"}, None),
        ("RoleBinding.{}/web/b", "reader", None),
        ("RoleBinding.example.com/web/b", {"kind": "Role", "name": "reader"}, None),
    ],
)
def test_a_binding_waits_for_the_role_that_it_binds(binding: str, reference: object, role: str | None) -> None:
    group = "rbac.authorization.k8s.io"
    one = manifest(binding.format(group))
    body = orjson.dumps({"roleRef": reference})
    bound = Manifest(id=one.id, api_version=f"{group}/v1", body=body, digest="", origin=one.origin)
    roles = [manifest(f"Role.{group}/web/reader"), manifest(f"ClusterRole.{group}/reader")]

    waits = waits_for(by_id(bound, *roles))

    assert waits == ({bound.id: frozenset({object_id(role.format(group))})} if role else {})
