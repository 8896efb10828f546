"""What a real API server writes into managedFields, and what our reading of it is worth: each kind of edit, each verdict."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pytest

from gitsyncd.core.fields import changed_paths, entry_hash, our_entry, paths
from gitsyncd.core.marks import LAST_APPLIED
from gitsyncd.core.observe import observe
from gitsyncd.core.ownership import Take, additions, blame, take_over
from gitsyncd.core.writers import WriterTable, is_client_side_tool
from gitsyncd.model.observed import Observed, Writer
from tests.sandbox.cluster import ApiError, Cluster

pytestmark = pytest.mark.real

MANAGER = "gitsyncd/edge"
TABLE = WriterTable.build()
JSON_PATCH, MERGE, STRATEGIC = "json-patch", "merge-patch", "strategic-merge-patch"
WEB = '.spec.template.spec.containers[name="web"]'


class Live:
    """One object on a real API server: ours by server-side apply, and edited by others in every way there is."""

    def __init__(self, cluster: Cluster, path: str, manifest: Mapping[str, Any]) -> None:
        self.cluster = cluster
        self.path = path
        self.manifest = manifest

    def apply(self, manifest: Mapping[str, Any] | None = None, manager: str = MANAGER) -> Any:
        return self.cluster.request(
            "PATCH",
            f"{self.path}?fieldManager={quote(manager, safe='')}&force=true",
            manifest or self.manifest,
            content_type="application/apply-patch+yaml",
        )

    def get(self) -> Any:
        return self.cluster.request("GET", self.path)

    def patch(self, body: Any, manager: str, kind: str = STRATEGIC, subresource: str = "") -> Any:
        return self.cluster.request(
            "PATCH",
            f"{self.path}{subresource}?fieldManager={quote(manager, safe='')}",
            body,
            content_type=f"application/{kind}+json",
        )

    def put(self, edit: Callable[[Any], None], manager: str) -> Any:
        obj = self.get()
        edit(obj)
        return self.cluster.request("PUT", f"{self.path}?fieldManager={quote(manager, safe='')}", obj)

    def web(self, manager: str, **fields: Any) -> Any:
        """Strategic merge patch of the container `web`."""
        return self.patch({"spec": {"template": {"spec": {"containers": [{"name": "web", **fields}]}}}}, manager)

    def take_over(self, take: Take) -> bool:
        """As `edges/kube` sends it: the new entries, bound to the version that they were made from."""
        obj = self.get()
        entries = take_over(obj, MANAGER, take)
        if entries is not None:
            metadata = {
                "managedFields": list(entries),
                "resourceVersion": obj["metadata"]["resourceVersion"],
                "annotations": {LAST_APPLIED: None},
            }
            self.patch({"metadata": metadata}, MANAGER, MERGE)
        return entries is not None

    def revert(self) -> tuple[tuple[str, ...], bool]:
        """Apply; the paths that this changed, and whether anything was written."""
        before = self.get()
        after = self.apply()
        written = before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"]
        return changed_paths(before, after, MANAGER, include_removed=True), written


def seen(obj: Any) -> Observed:
    return observe(obj, manager=MANAGER, table=TABLE)


def deployment(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "front",
            "namespace": namespace,
            "labels": {"app": "front", "gitsyncd.dev/agent": "edge"},
            "annotations": {
                "gitsyncd.dev/target": "web",
                "gitsyncd.dev/id": f"Deployment.apps/{namespace}/front",
                "note": "ours",
            },
        },
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "front"}},
            "template": {
                "metadata": {"labels": {"app": "front"}},
                "spec": {
                    "containers": [
                        {
                            "name": "web",
                            "image": "nginx:1",
                            "args": ["-a", "-b"],
                            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)"}],
                            "ports": [{"containerPort": 80}],
                            "resources": {"limits": {"cpu": "2000m"}},
                        },
                        {"name": "log", "image": "busybox"},
                    ],
                    "volumes": [{"name": "scratch", "emptyDir": {}}],
                },
            },
        },
    }


@pytest.fixture
def front(bare_cluster: Cluster, namespace: str) -> Live:
    bare_cluster.create_namespace(namespace)
    return Live(bare_cluster, f"/apis/apps/v1/namespaces/{namespace}/deployments/front", deployment(namespace))


def _drop_log_and_change_env(obj: Any) -> None:
    containers = obj["spec"]["template"]["spec"]["containers"]
    containers[0]["env"][0]["value"] = "9"
    del containers[1]


def _reverse_env(obj: Any) -> None:
    obj["spec"]["template"]["spec"]["containers"][0]["env"].reverse()


def _there_and_back(live: Live) -> None:
    live.web("curl", image="nginx:2")
    live.web("curl", image="nginx:1")


def _apply_as_us(live: Live) -> None:
    manifest = copy.deepcopy(dict(live.manifest))
    manifest["spec"]["replicas"] = 9
    live.apply(manifest)


def _only(live: Live, spec: Any, manager: str) -> None:
    metadata = {key: live.manifest["metadata"][key] for key in ("name", "namespace")}
    live.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}, manager)


P, D, C, US = Writer.PERSON, Writer.DELIVERY, Writer.CONTROLLER, Writer.US
DRIFT: dict[str, tuple[Callable[[Live], Any], tuple[str, ...], str | None, Writer | None]] = {
    "strategic merge patch": (lambda live: live.web("kubectl-edit", image="x"), (f"{WEB}.image",), "kubectl-edit", P),
    "merge patch": (
        lambda live: live.patch({"metadata": {"labels": {"app": "x"}}}, "kubectl-label", MERGE),
        (".metadata.labels.app",),
        "kubectl-label",
        P,
    ),
    "JSON patch": (
        lambda live: live.patch([{"op": "replace", "path": "/spec/replicas", "value": 5}], "curl", JSON_PATCH),
        (".spec.replicas",),
        "curl",
        P,
    ),
    "a field removed": (
        lambda live: live.patch({"metadata": {"annotations": {"note": None}}}, "kubectl-annotate", MERGE),
        (".metadata.annotations.note",),
        None,  # whoever only removes leaves no entry
        None,
    ),
    "PUT": (
        lambda live: live.put(_drop_log_and_change_env, "Mozilla"),
        (f'{WEB}.env[name="A"].value', '.spec.template.spec.containers[name="log"]'),
        "Mozilla",
        P,
    ),
    "scale subresource": (
        lambda live: live.patch({"spec": {"replicas": 5}}, "kube-controller-manager", MERGE, "/scale"),
        (".spec.replicas",),
        "kube-controller-manager",
        C,
    ),
    "forced apply by another": (
        lambda live: _only(live, {"replicas": 7}, "argocd-controller"),
        (".spec.replicas",),
        "argocd-controller",
        D,
    ),
    "an atomic list": (lambda live: live.web("k9s", args=["-z"]), (f"{WEB}.args",), "k9s", P),
    "an update under our name": (lambda live: live.web(MANAGER, image="x"), (f"{WEB}.image",), MANAGER, D),
    "an apply under our name": (_apply_as_us, (".spec.replicas",), MANAGER, US),
    "the order of a list": (lambda live: live.put(_reverse_env, "Mozilla"), (f"{WEB}.env",), None, None),
    "changed and changed back": (_there_and_back, (), "curl", P),
    "managedFields stripped": (
        lambda live: live.patch({"metadata": {"managedFields": [{}]}}, "curl", MERGE),
        (),
        None,
        None,
    ),
}


@pytest.mark.parametrize("edit", DRIFT)
def test_every_edit_of_a_field_of_ours_is_seen_named_and_undone(front: Live, edit: str) -> None:
    do, expected_paths, manager, writer = DRIFT[edit]
    applied = front.apply()

    do(front)
    live = front.get()
    changed, written = front.revert()
    culprit = blame(live, changed, MANAGER, TABLE)
    after = front.get()

    assert seen(live).projection_hash != seen(applied).projection_hash
    assert changed == expected_paths
    assert written
    assert seen(after).projection_hash == seen(applied).projection_hash
    assert seen(after).entry_hash == seen(applied).entry_hash
    assert (culprit.manager, culprit.writer) == (manager, writer)


def test_only_an_apply_under_our_own_name_leaves_our_entry_as_it_was(front: Live) -> None:
    unchanged = []
    for edit, (do, *_) in DRIFT.items():
        applied = front.apply()
        do(front)
        if entry_hash(front.get(), MANAGER) == entry_hash(applied, MANAGER):
            unchanged.append(edit)

    assert unchanged == ["an apply under our name", "the order of a list"]


def _sidecar(live: Live) -> None:
    live.patch({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s"}]}}}}, "kubectl-edit")


NO_DRIFT: dict[str, tuple[Callable[[Live], Any], list[tuple[str, Writer, tuple[str, ...], bool]]]] = {
    "another owner of the same value": (lambda live: _only(live, {"replicas": 2}, "other"), []),
    "status": (
        lambda live: live.patch({"status": {"replicas": 3}}, "kube-controller-manager", MERGE, "/status"),
        [],
    ),
    "an annotation of a known controller": (
        lambda live: live.patch(
            {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "3"}}}, "kube-controller-manager", MERGE
        ),
        [],
    ),
    "a foreign annotation": (
        lambda live: live.patch({"metadata": {"annotations": {"theirs": "1"}}}, "my-tool", MERGE),
        [("my-tool", Writer.UNKNOWN, (".metadata.annotations.theirs",), False)],
    ),
    "a sidecar": (_sidecar, [("kubectl-edit", P, ('.spec.template.spec.containers[name="side"]',), False)]),
    "a variable in a container of ours": (
        lambda live: live.web("kubectl-set", env=[{"name": "X", "value": "y"}]),
        [("kubectl-set", P, (f'{WEB}.env[name="X"]',), False)],
    ),
    "a field in an empty map of ours": (
        lambda live: live.patch(
            {"spec": {"template": {"spec": {"volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory"}}]}}}},
            "helm",
        ),
        [("helm", D, ('.spec.template.spec.volumes[name="scratch"].emptyDir.medium',), False)],
    ),
    "kubectl rollout restart": (
        lambda live: live.cluster.kubectl(
            "-n", live.manifest["metadata"]["namespace"], "rollout", "restart", "deployment/front"
        ),
        [
            ("kubectl-rollout", P, (".spec.template.metadata.annotations.kubectl.kubernetes.io/restartedAt",), True),
        ],
    ),
    "a finalizer": (
        lambda live: live.patch({"metadata": {"finalizers": ["example.com/hold"]}}, "kubectl-patch", MERGE),
        [],
    ),
}


@pytest.mark.parametrize("edit", NO_DRIFT)
def test_what_others_add_is_no_drift_and_is_told_apart(front: Live, edit: str) -> None:
    do, expected = NO_DRIFT[edit]
    applied = front.apply()

    do(front)
    live = seen(front.get())
    changed, written = front.revert()

    assert (live.entry_hash, live.projection_hash) == (seen(applied).entry_hash, seen(applied).projection_hash)
    assert [(added.manager, added.writer, added.fields, added.keep) for added in live.additions] == expected
    assert (changed, written) == ((), False)


def test_additions_go_with_a_take_over_and_what_is_never_removed_stays(front: Live) -> None:
    applied = front.apply()
    for do, _ in NO_DRIFT.values():
        do(front)

    taken = front.take_over(lambda manager, _: manager.startswith("kubectl") or manager == "helm")
    changed, _ = front.revert()
    after = front.get()

    assert taken
    assert set(changed) == {
        '.spec.template.spec.containers[name="side"]',
        f'{WEB}.env[name="X"]',
        '.spec.template.spec.volumes[name="scratch"].emptyDir.medium',
    }
    assert [added.manager for added in additions(after, MANAGER, TABLE) if not added.keep] == ["my-tool"]
    assert after["metadata"]["finalizers"] == ["example.com/hold"]
    assert list(after["spec"]["template"]["metadata"]["annotations"]) == ["kubectl.kubernetes.io/restartedAt"]
    assert seen(after).projection_hash == seen(applied).projection_hash
    assert seen(after).takeover is False
    assert not front.take_over(is_client_side_tool)


def test_after_client_side_apply_fields_that_git_does_not_name_disappear(front: Live) -> None:
    theirs = copy.deepcopy(dict(front.manifest))
    del theirs["metadata"]["annotations"], theirs["metadata"]["labels"]["gitsyncd.dev/agent"]
    theirs["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "OLD", "value": "1"})
    front.cluster.kubectl("apply", "-f", "-", input=json.dumps(theirs))
    before = front.get()

    taken = front.take_over(is_client_side_tool)
    front.apply()
    after = front.get()

    assert seen(before).takeover
    assert taken
    assert set(changed_paths(before, after, MANAGER, include_removed=True, limit=100)) == {
        ".metadata.annotations.gitsyncd.dev/id",
        ".metadata.annotations.gitsyncd.dev/target",
        ".metadata.annotations.note",
        f".metadata.annotations.{LAST_APPLIED}",
        ".metadata.labels.gitsyncd.dev/agent",
        f'{WEB}.env[name="OLD"]',
    }
    assert [entry["manager"] for entry in after["metadata"]["managedFields"]] == [MANAGER]
    assert seen(after).additions == ()


def test_without_a_take_over_the_same_fields_stay(front: Live) -> None:
    theirs = copy.deepcopy(dict(front.manifest))
    theirs["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "OLD", "value": "1"})
    front.cluster.kubectl("apply", "-f", "-", input=json.dumps(theirs))

    front.apply()

    env = front.get()["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [variable["name"] for variable in env] == ["A", "B", "OLD"]


def test_a_take_over_made_from_an_old_version_is_refused(front: Live) -> None:
    front.apply()
    _sidecar(front)
    old = front.get()
    front.web("curl", image="x")
    metadata = {
        "managedFields": list(take_over(old, MANAGER, is_client_side_tool) or ()),
        "resourceVersion": old["metadata"]["resourceVersion"],
    }

    with pytest.raises(ApiError) as refused:
        front.patch({"metadata": metadata}, MANAGER, MERGE)

    assert refused.value.status == 409


def test_after_managed_fields_were_stripped_one_take_over_cleans_up(front: Live) -> None:
    applied = front.apply()
    front.patch({"metadata": {"managedFields": [{}]}}, "curl", MERGE)
    front.apply()

    left_behind = seen(front.get())
    front.take_over(is_client_side_tool)
    front.apply()

    assert [(added.manager, added.writer) for added in left_behind.additions] == [("before-first-apply", P)]
    assert left_behind.takeover
    assert (seen(front.get()).additions, seen(front.get()).takeover) == ((), False)
    assert seen(front.get()).projection_hash == seen(applied).projection_hash


OTHER_KINDS: dict[str, tuple[Sequence[str], str, Mapping[str, Any]]] = {
    "ConfigMap": (["create", "configmap", "x", "--from-literal=old=1"], "configmaps", {"data": {"new": "2"}}),
    "Secret": (["create", "secret", "generic", "x", "--from-literal=old=1"], "secrets", {"data": {"new": "Mg=="}}),
    "Service": (
        ["create", "service", "clusterip", "x", "--tcp=80"],
        "services",
        {"spec": {"ports": [{"port": 81}], "selector": {"app": "front"}}},
    ),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_objects_that_kubectl_created_become_ours_whole(bare_cluster: Cluster, namespace: str, kind: str) -> None:
    command, plural, body = OTHER_KINDS[kind]
    metadata = {"name": "x", "namespace": namespace, "labels": {"gitsyncd.dev/agent": "edge"}}
    manifest = {"apiVersion": "v1", "kind": kind, "metadata": metadata, **body}
    live = Live(bare_cluster, f"/api/v1/namespaces/{namespace}/{plural}/x", manifest)
    bare_cluster.create_namespace(namespace)
    bare_cluster.kubectl("-n", namespace, *command)
    address = live.get().get("spec", {}).get("clusterIP")

    live.take_over(is_client_side_tool)
    live.apply()
    after = live.get()

    assert seen(after).additions == ()
    assert not seen(after).takeover
    assert after.get("data") == body.get("data")
    assert [port["port"] for port in after.get("spec", {}).get("ports", [])] == ([81] if kind == "Service" else [])
    assert after.get("spec", {}).get("clusterIP") == address


def test_paths_are_those_of_the_servers_own_conflicts(front: Live) -> None:
    front.apply()
    other = copy.deepcopy(dict(front.manifest))
    web = other["spec"]["template"]["spec"]["containers"][0]
    web |= {
        "image": "x",
        "args": ["z"],
        "ports": [{"containerPort": 80, "name": "http"}],
        "env": [{"name": "A", "value": "q"}],
    }
    other["metadata"]["labels"]["app"] = "x"
    del web["resources"]

    with pytest.raises(ApiError) as refused:
        front.cluster.request(
            "PATCH", f"{front.path}?fieldManager=other", other, content_type="application/apply-patch+yaml"
        )

    named = {line.removeprefix("- ") for line in str(refused.value).splitlines() if line.startswith("- ")}
    ours = our_entry(front.get(), MANAGER)
    assert named == {".metadata.labels.app", f"{WEB}.image", f"{WEB}.args", f'{WEB}.env[name="A"].value'}
    assert ours is not None
    assert named <= set(paths(ours["fieldsV1"]))
