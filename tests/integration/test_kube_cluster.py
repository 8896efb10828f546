"""The API server's edge on a real API server: requests, preconditions, refusals, and whom they are told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.edges.kube.cluster import KubeCluster
from gitsyncd.model.answers import ApplyOptions
from gitsyncd.model.errors import (
    AdmissionUnavailable,
    Changed,
    ClusterDenied,
    ClusterError,
    ConfigError,
    Conflict,
    Expired,
    Immutable,
    KindUnknown,
    NotFound,
    Rejected,
)
from gitsyncd.model.ids import ObjectId, ObjectType, ResourceType
from gitsyncd.model.target import Agent, Kubeconfig, Server
from gitsyncd.model.target import Cluster as ClusterFacts
from tests.sandbox import Cluster

pytestmark = pytest.mark.real

CONFIG_MAP = ObjectType(api_version="v1", kind="ConfigMap")
DEPLOYMENT = ObjectType(api_version="apps/v1", kind="Deployment")
SECRET = ObjectType(api_version="v1", kind="Secret")
CONFIG_MAPS = ResourceType(type=CONFIG_MAP, plural="configmaps", namespaced=True)
DEPLOYMENTS = ResourceType(type=DEPLOYMENT, plural="deployments", namespaced=True)
SECRETS = ResourceType(type=SECRET, plural="secrets", namespaced=True)
NAMESPACES = ResourceType(type=ObjectType(api_version="v1", kind="Namespace"), plural="namespaces", namespaced=False)

Connect = Callable[..., KubeCluster]


def agent(name: str = "edge", namespace: str = "gitsyncd") -> Agent:
    return Agent(name=name, state_dir=Path("/nowhere"), cluster_namespace=namespace, socket=Path("/nowhere/socket"))


@pytest.fixture
async def connect(bare_cluster: Cluster) -> AsyncIterator[Connect]:
    """An edge for a user of the shared cluster."""
    made: list[KubeCluster] = []

    def by_kubeconfig(user: str = "admin", *, name: str = "edge", namespace: str = "gitsyncd") -> KubeCluster:
        file = bare_cluster.kubeconfig if user == "admin" else bare_cluster.kubeconfig_for(user)
        facts = ClusterFacts(name="eu", connection=Kubeconfig(file=file))
        made.append(KubeCluster(facts, agent(name, namespace)))
        made[-1].allow_writes(float("inf"))
        return made[-1]

    yield by_kubeconfig
    for edge in made:
        await edge.close()


@pytest.fixture
def kube(connect: Connect) -> KubeCluster:
    return connect()


@pytest.fixture
def space(bare_cluster: Cluster, namespace: str) -> str:
    bare_cluster.create_namespace(namespace)
    return namespace


def config_map(space: str, name: str = "a", **data: str) -> tuple[ObjectId, bytes]:
    object_id = ObjectId(group="", kind="ConfigMap", namespace=space, name=name)
    metadata = {"name": name, "namespace": space, "labels": {"gitsyncd.dev/agent": "edge"}}
    return object_id, json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}).encode()


def deployment(space: str, **spec: Any) -> tuple[ObjectId, bytes]:
    object_id = ObjectId(group="apps", kind="Deployment", namespace=space, name="front")
    labels = {"app": "front"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "front", "namespace": space},
        "spec": {"selector": {"matchLabels": labels}, "template": template} | spec,
    }
    return object_id, json.dumps(body).encode()


# --- Facts --------------------------------------------------------------------------------------------------------------


async def test_a_cluster_is_known_by_the_uid_of_kube_system(kube: KubeCluster, bare_cluster: Cluster) -> None:
    identity = await kube.identity()

    assert identity.uid == bare_cluster.request("GET", "/api/v1/namespaces/kube-system")["metadata"]["uid"]
    assert identity.version.startswith("v1.")


async def test_a_client_certificate_serves_as_well_as_a_token(bare_cluster: Cluster) -> None:
    cert, key = bare_cluster.admin_certificate
    connection = Server(
        url=bare_cluster.server, ca_file=bare_cluster.ca_file, client_cert_file=cert, client_key_file=key
    )
    edge = KubeCluster(ClusterFacts(name="eu", connection=connection), agent())

    identity = await edge.identity()
    await edge.close()

    assert identity.uid


async def test_kinds_are_found_with_their_addresses(kube: KubeCluster) -> None:
    found = await kube.discover()
    kinds = found.resources

    assert found.stale == frozenset()

    assert kinds[DEPLOYMENT].plural == "deployments"
    assert kinds[DEPLOYMENT].namespaced is True
    assert kinds[DEPLOYMENT].preferred is True
    assert {"get", "list", "watch", "patch", "delete"} <= kinds[DEPLOYMENT].verbs
    assert kinds[ObjectType(api_version="rbac.authorization.k8s.io/v1", kind="ClusterRole")].namespaced is False
    assert ObjectType(api_version="authentication.k8s.io/v1", kind="TokenReview") not in kinds


async def test_what_is_written_is_known_by_manager_and_user_agent(kube: KubeCluster, space: str) -> None:
    answer = await kube.apply(CONFIG_MAPS, *config_map(space, k="v"), ApplyOptions())

    assert [(entry["manager"], entry["operation"]) for entry in answer["metadata"]["managedFields"]] == [
        ("gitsyncd/edge", "Apply")
    ]


# --- Apply --------------------------------------------------------------------------------------------------------------


async def test_applying_twice_changes_nothing(kube: KubeCluster, space: str) -> None:
    first = await kube.apply(CONFIG_MAPS, *config_map(space, k="v"), ApplyOptions())
    second = await kube.apply(CONFIG_MAPS, *config_map(space, k="v"), ApplyOptions())

    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_a_dry_run_answers_and_leaves_no_trace(kube: KubeCluster, space: str) -> None:
    object_id, body = config_map(space, k="v")

    answer = await kube.apply(CONFIG_MAPS, object_id, body, ApplyOptions(dry_run=True))

    assert answer["data"] == {"k": "v"}
    assert await kube.read(CONFIG_MAPS, object_id) is None


async def test_a_bound_apply_succeeds_on_the_version_that_was_seen_and_does_not_own_it(
    kube: KubeCluster, space: str
) -> None:
    object_id, body = config_map(space, k="v")
    seen = (await kube.apply(CONFIG_MAPS, object_id, body, ApplyOptions()))["metadata"]
    bound = ApplyOptions(resource_version=seen["resourceVersion"], uid=seen["uid"])

    answer = await kube.apply(CONFIG_MAPS, *config_map(space, k="w"), bound)

    assert answer["data"] == {"k": "w"}
    (entry,) = answer["metadata"]["managedFields"]
    assert set(entry["fieldsV1"]["f:metadata"]) == {"f:labels"}


@pytest.mark.parametrize("value", ["v", "w"], ids=["nothing to change", "something to change"])
async def test_a_bound_apply_fails_when_the_object_moved_on(kube: KubeCluster, space: str, value: str) -> None:
    object_id, body = config_map(space, k="v")
    seen = (await kube.apply(CONFIG_MAPS, object_id, body, ApplyOptions()))["metadata"]
    await kube.apply(CONFIG_MAPS, *config_map(space, k="moved"), ApplyOptions())

    with pytest.raises(Changed):
        await kube.apply(
            CONFIG_MAPS, *config_map(space, k=value), ApplyOptions(resource_version=seen["resourceVersion"])
        )

    live = await kube.read(CONFIG_MAPS, object_id)
    assert live is not None
    assert live["data"] == {"k": "moved"}


async def test_an_apply_bound_to_a_uid_does_not_create_what_is_gone(kube: KubeCluster, space: str) -> None:
    object_id, body = config_map(space, k="v")
    seen = (await kube.apply(CONFIG_MAPS, object_id, body, ApplyOptions()))["metadata"]
    await kube.delete(CONFIG_MAPS, object_id, uid=seen["uid"])

    with pytest.raises(Changed):
        await kube.apply(
            CONFIG_MAPS, object_id, body, ApplyOptions(resource_version=seen["resourceVersion"], uid=seen["uid"])
        )

    assert await kube.read(CONFIG_MAPS, object_id) is None


async def test_an_apply_bound_to_a_uid_leaves_another_object_of_that_name_alone(kube: KubeCluster, space: str) -> None:
    object_id, body = config_map(space, k="v")
    seen = (await kube.apply(CONFIG_MAPS, object_id, body, ApplyOptions()))["metadata"]
    await kube.delete(CONFIG_MAPS, object_id, uid=seen["uid"])
    again = (await kube.apply(CONFIG_MAPS, object_id, body, ApplyOptions()))["metadata"]

    with pytest.raises(Changed):
        await kube.apply(CONFIG_MAPS, *config_map(space, k="w"), ApplyOptions(uid=seen["uid"]))

    assert again["uid"] != seen["uid"]


async def test_a_field_of_another_manager_is_a_conflict_without_force(
    kube: KubeCluster, connect: Connect, space: str
) -> None:
    await connect(name="other").apply(CONFIG_MAPS, *config_map(space, k="theirs"), ApplyOptions())

    with pytest.raises(Conflict) as caught:
        await kube.apply(CONFIG_MAPS, *config_map(space, k="ours"), ApplyOptions(force=False))
    forced = await kube.apply(CONFIG_MAPS, *config_map(space, k="ours"), ApplyOptions())

    assert caught.value.message == "'gitsyncd/other' owns .data.k"
    assert forced["data"] == {"k": "ours"}


# --- Refusals -----------------------------------------------------------------------------------------------------------


async def test_an_unknown_field_is_refused_by_name(kube: KubeCluster, space: str) -> None:
    with pytest.raises(Rejected) as caught:
        await kube.apply(DEPLOYMENTS, *deployment(space, replica=3), ApplyOptions())

    assert caught.value.fields == (".spec.replica",)
    assert str(caught.value).startswith(f"Deployment.apps/{space}/front: ")


async def test_an_unknown_field_of_a_custom_resource_is_refused_by_name(
    kube: KubeCluster, bare_cluster: Cluster, space: str
) -> None:
    group = f"{space}.example.com"
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    bare_cluster.request(
        "POST",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        {
            "metadata": {"name": f"foos.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
            },
        },
    )
    kind = ObjectType(api_version=f"{group}/v1", kind="Foo")
    while kind not in (kinds := (await kube.discover()).resources):  # noqa: ASYNC110 - a new kind rings no bell
        await asyncio.sleep(0.05)
    object_id = ObjectId(group=group, kind="Foo", namespace=space, name="f")
    body = {"apiVersion": f"{group}/v1", "kind": "Foo", "metadata": {"name": "f", "namespace": space}}

    with pytest.raises(Rejected) as caught:
        await kube.apply(kinds[kind], object_id, json.dumps(body | {"spec": {"sise": 1}}).encode(), ApplyOptions())

    assert "sise" in "".join(caught.value.fields)


async def test_a_kind_that_nobody_serves_is_unknown(kube: KubeCluster, space: str) -> None:
    foos = ResourceType(type=ObjectType(api_version="example.com/v1", kind="Foo"), plural="foos", namespaced=True)
    object_id = ObjectId(group="example.com", kind="Foo", namespace=space, name="f")

    for step in (
        kube.read(foos, object_id),
        kube.list(foos),
        kube.apply(
            foos, object_id, b'{"apiVersion":"example.com/v1","kind":"Foo","metadata":{"name":"f"}}', ApplyOptions()
        ),
        kube.delete(foos, object_id, uid="u"),
    ):
        with pytest.raises(KindUnknown):
            await step


async def test_a_namespace_that_is_missing_is_named(kube: KubeCluster) -> None:
    with pytest.raises(NotFound) as caught:
        await kube.apply(CONFIG_MAPS, *config_map("nowhere", k="v"), ApplyOptions())

    assert str(caught.value) == "ConfigMap/nowhere/a: namespace 'nowhere' does not exist"


async def test_a_namespace_being_deleted_is_waited_for(kube: KubeCluster, bare_cluster: Cluster, space: str) -> None:
    # Nothing empties a namespace of this cluster: it stays as it is between the two.
    bare_cluster.request("DELETE", f"/api/v1/namespaces/{space}")

    with pytest.raises(NotFound) as caught:
        await kube.apply(CONFIG_MAPS, *config_map(space, k="v"), ApplyOptions())

    assert caught.value.message == "its namespace is being deleted"


async def test_an_immutable_field_is_told_from_a_wrong_value(kube: KubeCluster, space: str) -> None:
    object_id, body = deployment(space)
    await kube.apply(DEPLOYMENTS, object_id, body, ApplyOptions())
    labels = {"app": "other"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}

    with pytest.raises(Immutable) as immutable:
        await kube.apply(
            DEPLOYMENTS, *deployment(space, selector={"matchLabels": labels}, template=template), ApplyOptions()
        )
    with pytest.raises(Rejected) as wrong:
        await kube.apply(DEPLOYMENTS, *deployment(space, replicas=-1), ApplyOptions())

    assert immutable.value.fields == ("spec.selector",)
    assert type(wrong.value) is Rejected
    assert wrong.value.fields == ("spec.replicas",)


async def test_what_the_server_says_about_a_secret_stays_with_it(kube: KubeCluster, space: str) -> None:
    object_id = ObjectId(group="", kind="Secret", namespace=space, name="s")
    bodies: list[dict[str, Any]] = [
        {"data": {"k": "hunter2 is no base64"}},
        {"stringData": {"k!": "hunter2"}},
        {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "hunter2"}},
        {"stringData": {"k": ["hunter2"]}},
        {"hunter2": 1},
    ]
    said = []

    for content in bodies:
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": space}} | content
        with pytest.raises(ClusterError) as caught:
            await kube.apply(SECRETS, object_id, json.dumps(body).encode(), ApplyOptions())
        said.append(f"{caught.value} {caught.value.hint}")

    # A key is a name and may be shown; values may not.
    assert [text for text in said[:-1] if "hunter2" in text] == []
    assert ".hunter2" in said[-1]


async def test_an_object_refused_by_an_admission_policy_is_refused_in_its_words(
    kube: KubeCluster, bare_cluster: Cluster, space: str
) -> None:
    api = "/apis/admissionregistration.k8s.io/v1"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": space}}
    bare_cluster.request("POST", f"{api}/validatingadmissionpolicies", {"metadata": {"name": space}, "spec": {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "false", "message": "no config maps today"}]}})  # fmt: skip
    bare_cluster.request("POST", f"{api}/validatingadmissionpolicybindings", {"metadata": {"name": space}, "spec": {"policyName": space, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": selector}}})  # fmt: skip

    async def refused() -> Rejected:
        while True:  # the policy takes effect in a moment
            try:
                await kube.apply(CONFIG_MAPS, *config_map(space, k="v"), ApplyOptions(dry_run=True))
            except Rejected as error:
                return error

    error = await asyncio.wait_for(refused(), 30)

    assert "no config maps today" in error.message
    assert error.remedy.value == "fix-repo"


async def test_a_webhook_that_is_away_is_named_as_the_thing_to_repair(
    kube: KubeCluster, bare_cluster: Cluster, space: str
) -> None:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    hook = {
        "name": "policy.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space}},
    }
    bare_cluster.request("POST", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", {"metadata": {"name": space}, "webhooks": [hook]})  # fmt: skip

    async def refused() -> AdmissionUnavailable:
        while True:  # the webhook is asked from some moment on
            try:
                await kube.apply(CONFIG_MAPS, *config_map(space, k="v"), ApplyOptions(dry_run=True))
            except AdmissionUnavailable as error:
                return error

    error = await asyncio.wait_for(refused(), 30)

    assert "'policy.example.com' did not answer" in error.message
    assert error.remedy.value == "fix-cluster"


async def test_an_object_that_is_too_large_is_refused(kube: KubeCluster, space: str) -> None:
    for size in (1_200_000, 4_000_000):
        with pytest.raises(Rejected):
            await kube.apply(CONFIG_MAPS, *config_map(space, k="x" * size), ApplyOptions())


# --- Rights -------------------------------------------------------------------------------------------------------------


async def test_a_missing_permission_is_told_with_the_rule_to_add(
    connect: Connect, bare_cluster: Cluster, space: str
) -> None:
    alice = connect("alice")
    bare_cluster.grant("alice", "view", namespace=space)

    assert (await alice.list(CONFIG_MAPS, namespace=space)).items is not None
    with pytest.raises(ClusterDenied) as writing:
        await alice.apply(DEPLOYMENTS, *deployment(space), ApplyOptions())
    with pytest.raises(ClusterDenied) as listing:
        await alice.list(DEPLOYMENTS)

    assert (
        str(writing.value)
        == f"Deployment.apps/{space}/front: 'alice' may not patch deployments.apps in namespace '{space}'"
    )
    assert '- {apiGroups: ["apps"], resources: ["deployments"], verbs: ["patch"]}' in writing.value.hint
    assert str(listing.value) == "eu: 'alice' may not list deployments.apps in the whole cluster"
    assert "a ClusterRole bound to it" in listing.value.hint
    assert (writing.value.expired, listing.value.expired) == (False, False)


async def test_the_rule_that_is_proposed_is_the_one_that_helps(
    connect: Connect, bare_cluster: Cluster, space: str
) -> None:
    bob = connect("bob")

    async def apply() -> str:
        try:
            await bob.apply(DEPLOYMENTS, *deployment(space), ApplyOptions())
        except ClusterDenied as denied:
            return denied.hint
        return ""

    rules: list[str] = []
    hint = await apply()
    while hint:
        assert len(rules) < 3, hint
        rules.append(hint.rpartition(" bound to it: ")[2])
        role = (
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: bob, namespace: %s}\nrules:\n%s\n"
        )
        bare_cluster.kubectl("apply", "-f", "-", input=role % (space, "\n".join(rules)))
        bare_cluster.kubectl("create", "rolebinding", "bob", "--role=bob", "--user=bob", "-n", space, check=False)
        before = hint
        deadline = asyncio.get_running_loop().time() + 10
        while (hint := await apply()) == before:  # RBAC takes a moment
            assert asyncio.get_running_loop().time() < deadline

    assert rules == [
        '- {apiGroups: ["apps"], resources: ["deployments"], verbs: ["patch"]}',
        '- {apiGroups: ["apps"], resources: ["deployments"], verbs: ["create"]}',
    ]


async def test_a_wrong_token_is_expired_credentials(bare_cluster: Cluster, tmp_path: Path) -> None:
    file = bare_cluster.kubeconfig_for("nobody", token="nonsense")
    edge = KubeCluster(ClusterFacts(name="eu", connection=Kubeconfig(file=file)), agent())

    with pytest.raises(ClusterDenied) as caught:
        await edge.list(CONFIG_MAPS)
    await edge.close()

    assert caught.value.expired is True


async def test_a_token_replaced_in_a_kubeconfig_is_used_without_a_restart(bare_cluster: Cluster) -> None:
    file = bare_cluster.kubeconfig_for("rotated", token="nonsense")
    edge = KubeCluster(ClusterFacts(name="eu", connection=Kubeconfig(file=file)), agent())
    with pytest.raises(ClusterDenied):
        await edge.list(CONFIG_MAPS)

    bare_cluster.kubeconfig_for("rotated", token=bare_cluster.admin_token)
    listing = await edge.list(CONFIG_MAPS)
    await edge.close()

    assert listing.resource_version


async def test_a_context_that_is_missing_is_an_error_of_configuration(bare_cluster: Cluster) -> None:
    connection = Kubeconfig(file=bare_cluster.kubeconfig, context="elsewhere")
    edge = KubeCluster(ClusterFacts(name="eu", connection=connection), agent())

    with pytest.raises(ConfigError) as caught:
        await edge.identity()

    assert caught.value.hint == f"It has: {bare_cluster.context}."


# --- Lists --------------------------------------------------------------------------------------------------------------


async def test_a_list_of_many_pages_is_whole_and_self_contained(kube: KubeCluster, space: str) -> None:
    names = [f"m{number:04}" for number in range(1100)]
    await asyncio.gather(*(kube.apply(CONFIG_MAPS, *config_map(space, name, k="v"), ApplyOptions()) for name in names))

    listing = await kube.list(CONFIG_MAPS, selector="gitsyncd.dev/agent=edge", namespace=space)
    metadata = await kube.list_metadata(CONFIG_MAPS, namespace=space)

    assert [item["metadata"]["name"] for item in listing.items] == names
    assert {(item["apiVersion"], item["kind"]) for item in listing.items} == {("v1", "ConfigMap")}
    assert [item["metadata"]["name"] for item in metadata.items] == names
    assert {frozenset(item) for item in metadata.items} == {frozenset({"apiVersion", "kind", "metadata"})}
    assert not [item for item in metadata.items if "managedFields" in item["metadata"]]


# --- Taking over, deleting ----------------------------------------------------------------------------------------------


async def test_ownership_is_taken_over_with_the_annotation_of_kubectl(
    kube: KubeCluster, bare_cluster: Cluster, space: str
) -> None:
    object_id, body = config_map(space, k="v", old="field")
    bare_cluster.kubectl("apply", "-f", "-", input=body.decode())
    live = await kube.read(CONFIG_MAPS, object_id)
    assert live is not None
    annotation = "kubectl.kubernetes.io/last-applied-configuration"
    assert annotation in live["metadata"]["annotations"]
    ours = [{**entry, "manager": "gitsyncd/edge", "operation": "Apply"} for entry in live["metadata"]["managedFields"]]

    taken = await kube.patch_managed_fields(CONFIG_MAPS, object_id, ours, live["metadata"]["resourceVersion"], {annotation: None})  # fmt: skip
    applied = await kube.apply(CONFIG_MAPS, *config_map(space, k="v"), ApplyOptions())
    with pytest.raises(Changed):
        await kube.patch_managed_fields(CONFIG_MAPS, object_id, ours, live["metadata"]["resourceVersion"], {})

    assert annotation not in taken["metadata"].get("annotations", {})
    assert applied["data"] == {"k": "v"}


async def test_deleting_is_bound_to_the_object_that_was_meant(kube: KubeCluster, space: str) -> None:
    object_id, body = config_map(space, k="v")
    live = (await kube.apply(CONFIG_MAPS, object_id, body, ApplyOptions()))["metadata"]

    with pytest.raises(Changed):
        await kube.delete(CONFIG_MAPS, object_id, uid="another")
    with pytest.raises(Changed):
        await kube.delete(CONFIG_MAPS, object_id, uid=live["uid"], resource_version="1")
    gone = await kube.delete(CONFIG_MAPS, object_id, uid=live["uid"], resource_version=live["resourceVersion"])
    again = await kube.delete(CONFIG_MAPS, object_id, uid=live["uid"])

    assert (gone, again) == (True, True)
    assert await kube.read(CONFIG_MAPS, object_id) is None


async def test_an_object_held_by_a_finalizer_is_not_gone(kube: KubeCluster, bare_cluster: Cluster, space: str) -> None:
    object_id, body = config_map(space, k="v")
    live = (await kube.apply(CONFIG_MAPS, object_id, body, ApplyOptions()))["metadata"]
    path = f"/api/v1/namespaces/{space}/configmaps/a"
    merge = "application/merge-patch+json"
    bare_cluster.request("PATCH", path, {"metadata": {"finalizers": ["example.com/hold"]}}, content_type=merge)

    held = await kube.delete(CONFIG_MAPS, object_id, uid=live["uid"])
    bare_cluster.request("PATCH", path, {"metadata": {"finalizers": None}}, content_type=merge)
    released = await kube.delete(CONFIG_MAPS, object_id, uid=live["uid"])

    assert (held, released) == (False, True)


async def test_a_namespace_that_is_still_there_is_not_gone(kube: KubeCluster, space: str) -> None:
    object_id = ObjectId(group="", kind="Namespace", namespace="", name=space)
    live = await kube.read(NAMESPACES, object_id)
    assert live is not None

    gone = await kube.delete(NAMESPACES, object_id, uid=live["metadata"]["uid"])

    assert gone is False


# --- Watch, the short way -----------------------------------------------------------------------------------------------


async def test_a_watch_sees_what_happens_after_the_list(kube: KubeCluster, space: str) -> None:
    object_id, body = config_map(space, k="v")
    listing = await kube.list(CONFIG_MAPS, selector="gitsyncd.dev/agent=edge", namespace=space)
    feed = kube.watch(CONFIG_MAPS, selector="gitsyncd.dev/agent=edge", resource_version=listing.resource_version, namespace=space)  # fmt: skip

    live = (await kube.apply(CONFIG_MAPS, object_id, body, ApplyOptions()))["metadata"]
    await kube.apply(CONFIG_MAPS, *config_map(space, k="w"), ApplyOptions())
    await kube.delete(CONFIG_MAPS, object_id, uid=live["uid"])
    events = []
    async for event in feed:
        if event.kind != "BOOKMARK":
            events.append(event)
        if event.kind == "DELETED":
            break
    await feed.aclose()

    assert [event.kind for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert {(event.namespace, event.name, event.uid) for event in events} == {(space, "a", live["uid"])}
    assert [json.loads(event.object)["data"]["k"] for event in events] == ["v", "w", "w"]


async def test_a_version_that_the_server_forgot_is_expired(make_cluster: Any) -> None:
    # Without its watch cache the server asks etcd, and etcd has been compacted.
    cluster = make_cluster(apiserver_flags=("--watch-cache=false", "--etcd-compaction-interval=1s"))
    edge = KubeCluster(ClusterFacts(name="eu", connection=Kubeconfig(file=cluster.kubeconfig)), agent())
    edge.allow_writes(float("inf"))

    async def expired() -> None:
        while True:
            object_id, body = config_map("default", k=str(asyncio.get_running_loop().time()))
            await edge.apply(CONFIG_MAPS, object_id, body, ApplyOptions())
            feed = edge.watch(CONFIG_MAPS, selector="", resource_version="2")
            try:
                async for _ in feed:
                    break
            except Expired:
                return
            finally:
                await feed.aclose()

    await asyncio.wait_for(expired(), 60)
    await edge.close()
