"""What `rbac` prints, to the letter: it is compared, reviewed and applied."""

from typing import Any

import pytest
import yaml

from gitsyncd.text.rbac import lacks, rbac_remarks, rbac_yaml

WILD = "a\x1b[2J\x9b\u202eb"
ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "gitsyncd.edge.web", "namespace": "team"},
    "rules": [
        {"apiGroups": ["", "apps"], "resources": ["configmaps"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["*/scale"], "resourceNames": ["on", "1"], "verbs": ["*"]},
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
    ],
}
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "RoleBinding",
    "metadata": {"name": "gitsyncd.edge.web", "namespace": "team"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gitsyncd.edge.web"},
    "subjects": [{"kind": "User", "name": "system:x", "apiGroup": "rbac.authorization.k8s.io"}],
}


def cluster(name: str = "eu", **facts: Any) -> dict[str, Any]:
    return {
        "cluster": name, "user": "alice", "targets": ["web"], "objects": [ROLE, BINDING], "missing": [], "excess": [],
        "everything": False, "excess_complete": True, "grants": [], "withheld": [], "absent_namespaces": [],
        "untold": [], "recorded": True, **facts,
    }  # fmt: skip


def answer(*clusters: dict[str, Any]) -> dict[str, Any]:
    return {"scope": "namespaced", "clusters": list(clusters)}


def test_roles_are_yaml_that_can_be_applied() -> None:
    text = rbac_yaml(answer(cluster()))

    assert (
        text
        == """\
# cluster eu: what web needs (namespaced)
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: gitsyncd.edge.web, namespace: team}
rules:
  - apiGroups: ["", apps]
    resources: [configmaps]
    verbs: [get, list]
  - apiGroups: [apps]
    resources: ["*/scale"]
    resourceNames: ["on", "1"]
    verbs: ["*"]
  - nonResourceURLs: [/metrics]
    verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: gitsyncd.edge.web, namespace: team}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: gitsyncd.edge.web}
subjects:
  - {kind: User, name: "system:x", apiGroup: rbac.authorization.k8s.io}"""
    )
    assert list(yaml.safe_load_all(text)) == [ROLE, BINDING]


def test_clusters_with_the_same_needs_are_printed_once() -> None:
    text = rbac_yaml(answer(cluster("eu"), cluster("us"), cluster("asia", objects=[ROLE])))

    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# clusters eu, us: what web needs (namespaced)",
        "# cluster asia: what web needs (namespaced)",
    ]


def test_names_of_others_neither_break_the_yaml_nor_act_on_the_terminal() -> None:
    wild = {
        **ROLE,
        "metadata": {"name": WILD},
        "rules": [{"apiGroups": [WILD], "resources": ["a: b"], "verbs": ["get"]}],
    }

    text = rbac_yaml(answer(cluster(objects=[wild])))

    assert list(yaml.safe_load_all(text)) == [wild]
    assert text.replace("\n", "").isprintable()


def test_too_little_and_too_much_stand_beside_it() -> None:
    rule = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}
    wild = {"apiGroups": ["*"], "resources": ["pods"], "verbs": ["get"]}
    facts = cluster(
        missing=[{"target": "web", "namespace": "team", "rule": rule}, {"target": "", "namespace": "", "rule": rule}],
        excess=[
            {"namespace": "", "rule": rule, "needed": ["team"], "wildcard": False},
            {"namespace": "team", "rule": wild, "needed": [], "wildcard": True},
            {"namespace": "", "rule": rule, "needed": ["", *"abcdef"], "wildcard": False},
        ],
        untold=[{"object": "Widget/w", "error": "not served", "hint": "Serve it."}],
        withheld=[{"object": "ClusterRole/r", "error": "a wildcard", "hint": "Name it.", "allowed": False}],
        grants=["ClusterRole/x"],
        absent_namespaces=["team"],
        recorded=False,
        excess_complete=False,
    )

    assert (
        rbac_remarks(answer(facts), colours=False)
        == """\
cluster eu, as alice
  too little  in namespace team: {apiGroups: [apps], resources: [deployments], verbs: [get]} for web
  too little  everywhere: {apiGroups: [apps], resources: [deployments], verbs: [get]} for the agent itself
  left out  Widget/w: not served
    fix: Serve it.
  left out  ClusterRole/r: a wildcard
    fix: Name it.
  too much  everywhere: {apiGroups: [apps], resources: [deployments], verbs: [get]}, needed only for team
  TOO MUCH  in namespace team: {apiGroups: ["*"], resources: [pods], verbs: [get]}, not needed
  too much  everywhere: {apiGroups: [apps], resources: [deployments], verbs: [get]}, needed only for the whole cluster, a, b, c, d and 2 more
  fix: Apply what is printed on standard output, bound to that user: --user or --service-account.
  note: these namespaces are not there yet: team
  note: what is recorded may not be read, so kinds that have left Git are not among the rules
  note: what ClusterRole/x in Git grants had to be added
  note: there may be more that is too much: an authorizer of this cluster does not list its rules"""
    )


def test_when_all_is_well_it_says_so() -> None:
    assert rbac_remarks(answer(cluster()), colours=False) == (
        "cluster eu, as alice\n  the credential has what is needed"
    )


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, False),
        ({"excess": [{"namespace": ""}], "everything": True}, False),
        ({"withheld": [{"allowed": True}]}, False),
        ({"withheld": [{"allowed": False}]}, True),
        ({"untold": [{"object": "x"}]}, True),
        ({"missing": [{"target": "web"}]}, True),
    ],
)
def test_only_what_is_lacking_is_a_failure(facts: dict[str, Any], expected: bool) -> None:
    assert lacks(cluster(**facts)) is expected
