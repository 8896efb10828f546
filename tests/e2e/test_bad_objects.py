"""Objects that the server, its rules or their owners refuse: each fails alone, in the server's words and with a fix, and
is made as soon as the cause is gone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Agent, Daemon, Json, until
from tests.e2e.fleet import NEVER, Fleet, Slot, config_map, find
from tests.gitserver.repository import Repo
from tests.sandbox import ApiError, Cluster

pytestmark = pytest.mark.real

RBAC = "/apis/rbac.authorization.k8s.io/v1"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
GOOD = {"good.yaml": config_map("good", value="1")}


def manifest(kind: str, name: str, version: str = "v1", annotations: Json | None = None, **fields: Any) -> str:
    metadata = {"name": name, **({"annotations": annotations} if annotations else {})}
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": metadata, **fields})


# --- what the server refuses -------------------------------------------------------------------------------------------


def test_an_invalid_object_fails_alone_with_the_field_named(slot: Slot) -> None:
    slot.commit({**GOOD, "service.yaml": manifest("Service", "web", spec={"ports": [{"port": 99999}]})})

    failure = slot.event("object failed")

    assert failure["object"] == f"Service/{slot.namespace}/web"
    assert failure["operation"] == "create"
    assert "spec.ports[0].port" in failure["error"]
    assert "99999" in failure["error"]
    assert failure["remedy"] == "fix-repo"
    assert failure["hint"]
    assert slot.event("target failed", failed=1)["hint"]
    slot.until_live("good")
    slot.commit({"service.yaml": manifest("Service", "web", spec={"ports": [{"port": 80}]})})
    slot.event("target in sync", objects=2)


def test_a_field_that_the_schema_does_not_have_is_refused_and_named(slot: Slot) -> None:
    slot.commit({**GOOD, "typo.yaml": manifest("ConfigMap", "typo", dta={"a": "b"})})

    failure = slot.event("object failed")

    assert failure["object"] == f"ConfigMap/{slot.namespace}/typo"
    assert ".dta" in failure["error"]
    assert failure["remedy"] == "fix-repo"
    assert failure["hint"] == "Correct or remove these fields."
    assert slot.live("typo") is None
    slot.until_live("good")


def test_an_object_that_is_too_large_for_the_server_is_told_so(slot: Slot) -> None:
    slot.commit({**GOOD, "large.yaml": config_map("large", value="x" * 1_200_000)})

    failure = slot.event("object failed")

    assert failure["object"] == f"ConfigMap/{slot.namespace}/large"
    assert "1048576" in failure["error"]
    assert len(failure["error"]) < 2000
    slot.until_live("good")


def test_values_of_a_refused_secret_are_not_in_the_log(slot: Slot) -> None:
    slot.commit({**GOOD, "secret.yaml": manifest("Secret", "token", data={"a": "hunter2 is no base64"})})

    failure = slot.event("object failed")

    assert failure["object"] == f"Secret/{slot.namespace}/token"
    assert failure["remedy"] == "fix-repo"
    assert failure["hint"]
    assert [line for line in slot.daemon.lines if "hunter2" in json.dumps(line)] == []
    slot.until_live("good")


@pytest.fixture
def policy(slot: Slot) -> Iterator[str]:
    """An admission policy that forbids ConfigMaps named `forbidden` in the namespace of the slot."""
    cluster, name = slot.fleet.cluster, f"no-forbidden.{slot.namespace}.example.com"
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]
    where = {"matchLabels": {"kubernetes.io/metadata.name": slot.namespace}}
    spec: Json = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": "object.metadata.name != 'forbidden'", "message": "not by the house rules"}],
    }
    binding = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": where},
    }
    cluster.request("POST", f"{ADMISSION}/validatingadmissionpolicies", {"metadata": {"name": name}, "spec": spec})
    cluster.request(
        "POST", f"{ADMISSION}/validatingadmissionpolicybindings", {"metadata": {"name": name}, "spec": binding}
    )
    path = f"/api/v1/namespaces/{slot.namespace}/configmaps?dryRun=All"
    until(lambda: refused(cluster, path, {"metadata": {"name": "forbidden"}}), "the policy to be in force")
    yield name
    cluster.request("DELETE", f"{ADMISSION}/validatingadmissionpolicies/{name}")


def refused(cluster: Cluster, path: str, body: Json) -> bool:
    try:
        cluster.request("POST", path, body)
    except ApiError as error:
        return error.status in {403, 422}
    return False


def test_what_admission_denies_fails_alone_in_its_words_and_is_made_when_it_allows_it(slot: Slot, policy: str) -> None:
    slot.commit({**GOOD, "forbidden.yaml": config_map("forbidden")})

    failure = slot.event("object failed")

    assert failure["object"] == f"ConfigMap/{slot.namespace}/forbidden"
    assert "not by the house rules" in failure["error"]
    assert policy in failure["error"]
    assert failure["remedy"] == "fix-repo"
    assert failure["hint"]
    slot.until_live("good")
    slot.fleet.cluster.request("DELETE", f"{ADMISSION}/validatingadmissionpolicybindings/{policy}")
    slot.event("target in sync", objects=2)


# --- fields that cannot change -----------------------------------------------------------------------------------------


def fixed(value: str, **annotations: str) -> str:
    keys = {f"gitsyncd.dev/{key.replace('_', '-')}": word for key, word in annotations.items()}
    return manifest("ConfigMap", "fixed", annotations=keys, immutable=True, data={"value": value})


def test_a_field_that_cannot_change_is_named_with_both_ways_out(slot: Slot) -> None:
    slot.commit({"fixed.yaml": fixed("old")})
    slot.event("target in sync")

    slot.commit({**GOOD, "fixed.yaml": fixed("new")})

    failure = slot.event("object failed")
    assert failure["object"] == f"ConfigMap/{slot.namespace}/fixed"
    assert failure["operation"] == "update"
    assert "data" in failure["error"]
    assert "immutable" in failure["error"]
    assert failure["remedy"] == "fix-repo"
    assert "gitsyncd.dev/on-immutable: recreate" in failure["hint"]
    slot.event("target failed", failed=1)
    slot.until_live("good")


def test_an_object_that_may_be_recreated_is_when_a_field_cannot_change(slot: Slot) -> None:
    slot.commit({"fixed.yaml": fixed("old", on_immutable="recreate")})
    slot.event("target in sync")
    before = slot.live("fixed")

    slot.commit({"fixed.yaml": fixed("new", on_immutable="recreate")})

    applied = slot.event("object applied")
    assert applied["operation"] == "recreated"
    slot.event("target in sync")
    after = slot.live("fixed")
    assert before is not None and after is not None
    assert after["data"]["value"] == "new"
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


def test_a_plan_says_what_would_be_made_anew_and_what_is_of_no_kind(slot: Slot, tmp_path: Path) -> None:
    slot.commit({"fixed.yaml": fixed("old", on_immutable="recreate")})
    slot.event("target in sync")
    (tmp_path / "fixed.yaml").write_text(fixed("new", on_immutable="recreate"))
    (tmp_path / "odd.yaml").write_text(manifest("Oddity", "odd", "odd.example/v1"))

    plans = [
        slot.fleet.agent.run(command, slot.target, "--dir", str(tmp_path), "--output", "json")
        for command in ("plan", "diff")
    ]

    for plan in plans:
        (target,) = plan.json["targets"]
        fixed_one, odd = sorted(target["changes"], key=lambda change: str(change["object"]))
        assert fixed_one["operation"] == "recreate"
        assert "error" not in fixed_one
        assert odd["operation"] == "block"
        assert "Oddity" in odd["reason"]
        assert odd["hint"]
        assert plan.code == 1


def test_a_volume_claim_is_never_recreated(slot: Slot) -> None:
    def claim(storage_class: str) -> str:
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": storage_class,
        }
        keys = {"gitsyncd.dev/on-immutable": "recreate"}
        return manifest("PersistentVolumeClaim", "disk", annotations=keys, spec=spec)

    slot.commit({"disk.yaml": claim("slow")})
    slot.event("target in sync")
    before = slot.live("disk", "persistentvolumeclaims")

    slot.commit({"disk.yaml": claim("fast")})

    failure = slot.event("object failed")
    assert failure["object"] == f"PersistentVolumeClaim/{slot.namespace}/disk"
    assert "spec" in failure["error"]
    assert "immutable" in failure["error"]
    assert "on-immutable" not in failure["hint"], "it would not be done"
    after = slot.live("disk", "persistentvolumeclaims")
    assert before is not None and after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


# --- namespaces --------------------------------------------------------------------------------------------------------


def test_a_namespace_that_is_not_there_is_named_and_found_once_it_is(slot: Slot) -> None:
    missing = f"{slot.namespace}-missing"
    document = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": missing}})
    slot.commit({**GOOD, "lost.yaml": document})

    failure = slot.event("object failed")

    assert failure["object"] == f"ConfigMap/{missing}/a"
    assert failure["error"] == f"namespace '{missing}' does not exist"
    assert failure["remedy"] == "wait"
    assert "namespace" in failure["hint"]
    slot.until_live("good")
    slot.fleet.cluster.create_namespace(missing)
    slot.event("target in sync", objects=2)


def test_a_namespace_that_is_going_away_is_waited_for(slot: Slot) -> None:
    going, cluster = f"{slot.namespace}-going", slot.fleet.cluster
    cluster.create_namespace(going)
    cluster.request("DELETE", f"/api/v1/namespaces/{going}")
    document = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": going}})

    slot.commit({**GOOD, "late.yaml": document})

    failure = slot.event("object failed")
    assert failure["object"] == f"ConfigMap/{going}/a"
    assert failure["error"] == "its namespace is being deleted"
    assert failure["remedy"] == "wait"
    assert "finalizers" in failure["hint"]
    slot.until_live("good")
    cluster.request("PUT", f"/api/v1/namespaces/{going}/finalize", {"metadata": {"name": going}, "spec": {}})
    until(lambda: find(cluster, f"/api/v1/namespaces/{going}") is None, "the namespace to be gone")
    cluster.create_namespace(going)
    slot.event("target in sync", objects=2)


# --- owners ------------------------------------------------------------------------------------------------------------


def test_what_exists_already_is_left_alone_when_adopting_is_off(fleet: Fleet) -> None:
    slot = Slot(NEVER, fleet)
    fleet.cluster.create_namespace(slot.namespace)
    path = f"/api/v1/namespaces/{slot.namespace}/configmaps"
    fleet.cluster.request("POST", path, {"metadata": {"name": "theirs"}, "data": {"value": "theirs"}})

    slot.commit({**GOOD, "theirs.yaml": config_map("theirs", value="ours")})

    failure = slot.event("object failed")
    assert failure["object"] == f"ConfigMap/{slot.namespace}/theirs"
    assert "exists already" in failure["error"]
    assert "adopt" in failure["hint"]
    slot.event("target failed", failed=1)
    live = slot.live("theirs")
    assert live is not None and live["data"] == {"value": "theirs"}
    slot.until_live("good")
    fleet.cluster.request("DELETE", f"{path}/theirs")
    slot.event("target in sync", objects=2)
    slot.clear()


def test_what_another_agent_owns_is_left_alone_and_its_owner_named(slot: Slot) -> None:
    marks = {
        "name": "theirs",
        "labels": {"gitsyncd.dev/agent": "stranger"},
        "annotations": {
            "gitsyncd.dev/target": "elsewhere",
            "gitsyncd.dev/id": f"ConfigMap/{slot.namespace}/theirs",
        },
    }
    path = f"/api/v1/namespaces/{slot.namespace}/configmaps"
    slot.fleet.cluster.request("POST", path, {"metadata": marks, "data": {"value": "theirs"}})

    slot.commit({**GOOD, "theirs.yaml": config_map("theirs", value="ours")})

    failure = slot.event("object failed")
    assert failure["object"] == f"ConfigMap/{slot.namespace}/theirs"
    assert "stranger" in failure["error"]
    assert failure["remedy"] == "approve"
    assert failure["hint"]
    live = slot.live("theirs")
    assert live is not None and live["data"] == {"value": "theirs"}
    slot.until_live("good")


def test_two_targets_that_want_one_object_are_both_named(slots: Callable[[], Slot]) -> None:
    first, second = slots(), slots()
    shared = json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared", "namespace": first.namespace}}
    )
    first.commit({"shared.yaml": shared})
    first.event("target in sync", objects=1)

    second.commit({**GOOD, "shared.yaml": shared})

    failure = second.event("object failed")
    assert failure["object"] == f"ConfigMap/{first.namespace}/shared"
    assert first.name in failure["error"]
    assert failure["hint"]
    live = find(second.fleet.cluster, f"/api/v1/namespaces/{first.namespace}/configmaps/shared")
    assert live is not None
    assert live["metadata"]["annotations"]["gitsyncd.dev/target"] == first.name


# --- rights ------------------------------------------------------------------------------------------------------------

ALL = ["get", "list", "watch", "create", "update", "patch", "delete"]
RULES = [
    {"apiGroups": [""], "resources": ["configmaps", "secrets", "namespaces"], "verbs": ALL},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ALL},
    {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch"]},
]


@pytest.fixture
def limited(bare_cluster: Cluster, agent: Agent, repo: Repo, namespace: str) -> Iterator[Daemon]:
    """A daemon as alice, who may not write Services nor see LimitRanges, with one of each in Git."""
    role(bare_cluster, "limited", RULES)
    bare_cluster.grant("alice", "limited")
    bare_cluster.create_namespace(namespace)
    agent.document["agent"].update(name=f"limited-{namespace}", cluster_namespace=f"gitsyncd-limited-{namespace}")
    agent.cluster("here", bare_cluster.kubeconfig_for("alice"))
    agent.source("fleet", repo.url)
    agent.target("web", path="web", namespace=namespace)
    repo.commit(
        {
            "web/good.yaml": config_map("good", value="1"),
            "web/service.yaml": manifest("Service", "web", spec={"ports": [{"port": 80}]}),
            "web/limits.yaml": manifest("LimitRange", "limits", spec={"limits": []}),
        }
    )
    with agent.start() as daemon:
        yield daemon
    bare_cluster.request("DELETE", f"{RBAC}/clusterrolebindings/sandbox:alice:limited")


def role(cluster: Cluster, name: str, rules: list[Json]) -> None:
    path = f"{RBAC}/clusterroles/{name}"
    body = {"metadata": {"name": name}, "rules": rules}
    if find(cluster, path) is None:
        cluster.request("POST", f"{RBAC}/clusterroles", body)
    else:
        cluster.request("PUT", path, body)


def test_a_missing_right_is_named_with_the_rule_to_add_and_used_once_it_is_there(
    limited: Daemon, bare_cluster: Cluster, namespace: str
) -> None:
    write = limited.wait_for("object failed", object=f"Service/{namespace}/web")
    see = limited.wait_for("object failed", object=f"LimitRange/{namespace}/limits")

    assert write["error"] == f"'alice' may not patch services in namespace '{namespace}'"
    assert '{apiGroups: [""], resources: ["services"], verbs: ["patch"]}' in write["hint"]
    assert "alice" in see["error"]
    assert "limitranges" in see["error"]
    assert 'resources: ["limitranges"], verbs: ["list"]' in see["hint"]
    assert write["remedy"] == see["remedy"] == "fix-cluster"
    limited.wait_for("target failed", failed=2)
    limited.wait_for("object applied", object=f"ConfigMap/{namespace}/good")
    role(bare_cluster, "limited", [*RULES, {"apiGroups": [""], "resources": ["services", "limitranges"], "verbs": ALL}])
    limited.wait_for("target in sync", objects=3)


def test_a_right_that_is_taken_away_is_noticed_and_nothing_is_lost(
    limited: Daemon, bare_cluster: Cluster, namespace: str, repo: Repo
) -> None:
    role(bare_cluster, "limited", [*RULES, {"apiGroups": [""], "resources": ["*"], "verbs": ALL}])
    limited.wait_for("target in sync", objects=3)

    role(bare_cluster, "limited", [{"apiGroups": [""], "resources": ["*"], "verbs": ["get", "list", "watch"]}])
    since = limited.now
    until(lambda: forbidden(bare_cluster, namespace), "the right to be gone")
    repo.commit({"web/good.yaml": config_map("good", value="2"), "web/limits.yaml": None})
    failure = limited.wait_for("target failed", since=since)

    assert "alice" in failure["error"]
    assert failure["remedy"] == "fix-cluster"
    assert "verbs" in failure["hint"]
    assert find(bare_cluster, f"/api/v1/namespaces/{namespace}/limitranges/limits") is not None
    role(bare_cluster, "limited", [*RULES, {"apiGroups": [""], "resources": ["*"], "verbs": ALL}])
    limited.wait_for("target in sync", since=since, objects=2)
    assert find(bare_cluster, f"/api/v1/namespaces/{namespace}/limitranges/limits") is None


def forbidden(cluster: Cluster, namespace: str) -> bool:
    try:
        cluster.request(
            "POST",
            f"/api/v1/namespaces/{namespace}/configmaps?dryRun=All",
            {"metadata": {"name": "probe"}},
            token=cluster.tokens["alice"],
        )
    except ApiError as error:
        return error.status == 403
    return False
