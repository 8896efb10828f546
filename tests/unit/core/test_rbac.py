"""From what Git wants to the least rights, and what of a credential's rights is too little or too much."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from gitsyncd.core.desired import HPA, Place, desired
from gitsyncd.core.rbac import Wants, covers, excess, expand, held_rights, needs, own_needs, referred, survey
from gitsyncd.core.roles import binding, in_order, role_name, roles, rules
from gitsyncd.model.ids import ObjectId, ObjectType, ResourceType
from gitsyncd.model.inventory import Entry, EntryState, Inventory
from gitsyncd.model.manifest import Document, Origin
from gitsyncd.model.rights import Held, Right, Scope, Subject
from gitsyncd.model.source import Repository, Source
from gitsyncd.model.target import Agent, Policy, PrunePolicy, Target

RBAC = "rbac.authorization.k8s.io"
ALL = ["get", "list", "watch", "create", "patch", "delete"]
AGENT = Agent(name="edge", state_dir=Path("/state"), cluster_namespace="gitsyncd", socket=Path("/socket"))


def kind(api_version: str, name: str, plural: str, *, namespaced: bool = True) -> ResourceType:
    return ResourceType(type=ObjectType(api_version=api_version, kind=name), plural=plural, namespaced=namespaced)


SERVED = {
    resource.type: resource
    for resource in (
        kind("v1", "ConfigMap", "configmaps"),
        kind("v1", "Secret", "secrets"),
        kind("v1", "Namespace", "namespaces", namespaced=False),
        kind("apps/v1", "Deployment", "deployments"),
        kind("autoscaling/v2", HPA[1], "horizontalpodautoscalers"),
        kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False),
        kind(f"{RBAC}/v1", "Role", "roles"),
        kind(f"{RBAC}/v1", "RoleBinding", "rolebindings"),
        kind(f"{RBAC}/v1", "ClusterRole", "clusterroles", namespaced=False),
        kind(f"{RBAC}/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    )
}


def document(api_version: str, kind: str, name: str, namespace: str = "", /, **rest: Any) -> Document:
    annotations = rest.pop("annotations", {})
    metadata = {"name": name, "annotations": annotations} | ({"namespace": namespace} if namespace else {})
    body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}
    return Document(
        origin=Origin(file="a.yaml"),
        api_version=api_version,
        kind=kind,
        namespace=namespace,
        name=name,
        body=orjson.dumps(body),
    )


def target(*, prune: bool = True) -> Target:
    repository = Repository(url="https://git.example.com/fleet.git")
    second = timedelta(seconds=1)
    source = Source(name="fleet", repository=repository, branch="main", interval=second, timeout=second)
    policy = Policy(prune=PrunePolicy(enabled=prune))
    return Target(name="web", cluster="eu", source=source, path="", namespace="team", policy=policy)


def wants(*documents: Document, prune: bool = True, recorded: dict[ObjectId, Entry] | None = None) -> Wants:
    place = Place(agent="edge", target="web", cluster="eu", namespace="team", resources=SERVED, autoscaled={}, key=b"-")
    inventory = Inventory(target="web@eu", entries=recorded or {})
    return Wants(target=target(prune=prune), desired=desired(documents, place), inventory=inventory)


def printed(want: Wants, scope: Scope = Scope.NAMESPACED, *others: Wants, live: Any = None) -> dict[str, list[Any]]:
    """Rules by namespace."""
    world = survey([want, *others], SERVED, live or {})
    found = roles("r", needs(want, AGENT, world, scope).rights)
    return {role["metadata"].get("namespace", ""): role["rules"] for role in found}


def rule(group: str, resources: list[str], verbs: list[str], names: list[str] | None = None) -> dict[str, Any]:
    return (
        {"apiGroups": [group], "resources": resources} | ({"resourceNames": names} if names else {}) | {"verbs": verbs}
    )


CONFIG_MAP = document("v1", "ConfigMap", "settings")
RECORD = rule("", ["configmaps"], ["update", "delete"], ["gitsyncd.edge.web.0", "gitsyncd.edge.web.history"])


# --- what targets need ------------------------------------------------------------------------------------------------


def test_a_namespaced_kind_needs_a_role_in_its_namespace_and_the_record_by_name() -> None:
    assert printed(wants(CONFIG_MAP)) == {"gitsyncd": [RECORD], "team": [rule("", ["configmaps"], ALL)]}


def test_over_the_whole_cluster_it_is_only_listed_and_watched() -> None:
    assert printed(wants(CONFIG_MAP), Scope.CLUSTER) == {
        "": [rule("", ["configmaps"], ["list", "watch"])],
        "gitsyncd": [RECORD],
        "team": [rule("", ["configmaps"], ["get", "create", "patch", "delete"])],
    }


def test_what_is_in_a_namespace_that_git_makes_is_written_everywhere_where_lists_are_cluster_wide() -> None:
    want = wants(document("v1", "Namespace", "team"), CONFIG_MAP)

    assert printed(want, Scope.CLUSTER)[""][0] == rule("", ["configmaps"], ALL)
    assert printed(want, Scope.NAMESPACED)["team"] == [rule("", ["configmaps"], ALL)]


def test_a_namespace_that_another_target_makes_counts_as_well() -> None:
    assert "team" not in printed(wants(CONFIG_MAP), Scope.CLUSTER, wants(document("v1", "Namespace", "team")))


def test_a_cluster_scoped_object_is_written_by_name_only() -> None:
    assert printed(wants(document("v1", "Namespace", "team")))[""] == [
        rule("", ["namespaces"], ["list", "watch"]),
        rule("", ["namespaces"], ["get", "create", "patch", "delete"], ["team"]),
    ]


@pytest.mark.parametrize(
    ("annotations", "prune", "verbs"),
    [
        ({}, True, ALL),
        ({}, False, ALL[:-1]),
        ({"gitsyncd.dev/prune": "disabled"}, True, ALL[:-1]),
        ({"gitsyncd.dev/on-immutable": "recreate"}, False, ALL),
        ({"gitsyncd.dev/apply": "if-not-present"}, True, ALL),
        ({"gitsyncd.dev/reconcile": "disabled"}, True, ALL[:3]),
        ({"gitsyncd.dev/apply": "ignore"}, True, ALL[:3]),
    ],
)
def test_what_git_says_of_an_object_decides_what_is_done_to_it(
    annotations: dict[str, str], prune: bool, verbs: list[str]
) -> None:
    want = wants(document("v1", "ConfigMap", "settings", annotations=annotations), prune=prune)

    assert printed(want)["team"] == [rule("", ["configmaps"], verbs)]


def test_a_namespace_is_never_recreated_so_that_needs_no_delete() -> None:
    asked = {"gitsyncd.dev/on-immutable": "recreate"}
    want = wants(document("v1", "Namespace", "team", annotations=asked), prune=False)

    assert printed(want)[""][1]["verbs"] == ["get", "create", "patch"]


def test_what_has_left_git_is_still_seen_and_deleted() -> None:
    gone = ObjectId(group="apps", kind="Deployment", namespace="old", name="front")
    recorded = {gone: Entry(api_version="apps/v1", state=EntryState.LIVE)}

    assert printed(wants(CONFIG_MAP, recorded=recorded))["old"] == [
        rule("apps", ["deployments"], ["get", "list", "watch", "delete"])
    ]


def test_a_renamed_target_sees_and_deletes_what_its_old_record_names_and_that_record() -> None:
    gone = ObjectId(group="apps", kind="Deployment", namespace="old", name="front")
    old = Inventory(target="site@eu", entries={gone: Entry(api_version="apps/v1", state=EntryState.LIVE)})
    want = wants(CONFIG_MAP)

    rules = printed(replace(want, target=replace(want.target, was="site"), heritage=old))

    assert rules["old"] == [rule("apps", ["deployments"], ["get", "list", "watch", "delete"])]
    old_records = ["gitsyncd.edge.site.0", "gitsyncd.edge.site.history"]
    records = ["gitsyncd.edge.web.0", "gitsyncd.edge.web.history"]
    assert rules["gitsyncd"] == [
        rule("", ["configmaps"], ["delete"], [*old_records, *records]),
        rule("", ["configmaps"], ["update"], records),
    ]


def test_secrets_need_the_key_for_their_digests() -> None:
    assert printed(wants(document("v1", "Secret", "s")))["gitsyncd"] == [
        RECORD,
        rule("", ["secrets"], ["create"]),
        rule("", ["secrets"], ["get"], ["gitsyncd.edge.key"]),
    ]


@pytest.mark.parametrize(("scope", "place"), [(Scope.NAMESPACED, "team"), (Scope.CLUSTER, "")])
def test_autoscalers_are_listed_where_git_names_replicas(scope: Scope, place: str) -> None:
    listed = rule("autoscaling", ["horizontalpodautoscalers"], ["list"])

    with_replicas = printed(wants(document("apps/v1", "Deployment", "d", spec={"replicas": 2})), scope)
    without = printed(wants(document("apps/v1", "Deployment", "d", spec={})), scope)

    assert listed in with_replicas[place]
    assert listed not in without[place]


CRD = document(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.com",
    spec={"group": "example.com", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"}, "versions": [{"name": "v1"}]},
)  # fmt: skip


def test_a_kind_that_git_itself_defines_is_known_by_its_definition() -> None:
    widget = document("example.com/v1", "Widget", "w")

    same = printed(wants(CRD, widget))["team"]
    other = printed(wants(widget), Scope.NAMESPACED, wants(CRD))

    assert same == other["team"] == [rule("example.com", ["widgets"], ALL)]
    assert other[""] == [rule("apiextensions.k8s.io", ["customresourcedefinitions"], ["list"])]


def test_a_kind_that_nobody_knows_cannot_be_told() -> None:
    want = wants(document("example.com/v1", "Widget", "w"))

    need = needs(want, AGENT, survey([want], SERVED, {}), Scope.NAMESPACED)

    assert [item.subject for item in need.untold] == ["Widget.example.com/w"]


def test_the_record_of_a_large_target_has_more_than_one_part() -> None:
    want = wants(*(document("v1", "ConfigMap", f"c-{number}") for number in range(301)))

    assert printed(want)["gitsyncd"][0]["resourceNames"] == [
        "gitsyncd.edge.web.0",
        "gitsyncd.edge.web.1",
        "gitsyncd.edge.web.history",
    ]


def test_the_agent_itself_needs_to_know_the_cluster_to_keep_records_and_to_hold_its_lease() -> None:
    lease = "coordination.k8s.io"

    assert [role["rules"] for role in roles("r", own_needs(AGENT).rights)] == [
        [
            rule("", ["configmaps"], ["list", "create"]),
            rule(lease, ["leases"], ["create"]),
            rule(lease, ["leases"], ["get", "watch", "patch"], ["gitsyncd.edge"]),
        ],
        [rule("", ["namespaces"], ["get"], ["kube-system"])],
    ]


# --- what RBAC objects in Git grant ---------------------------------------------------------------------------------------

READ_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
READER = ObjectId(group=RBAC, kind="ClusterRole", namespace="", name="reader")


def bind(kind: str, role: str) -> Document:
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
    return document(f"{RBAC}/v1", kind, "b", roleRef=reference)


@pytest.mark.parametrize(
    ("made", "place"),
    [
        (document(f"{RBAC}/v1", "Role", "r", rules=[READ_PODS]), "team"),
        (document(f"{RBAC}/v1", "ClusterRole", "r", rules=[READ_PODS]), ""),
        (bind("RoleBinding", "reader"), "team"),
        (bind("ClusterRoleBinding", "reader"), ""),
    ],
    ids=["role", "cluster-role", "binding", "cluster-binding"],
)
def test_what_is_granted_has_to_be_held(made: Document, place: str) -> None:
    want = wants(made)

    assert referred([want]) == ({READER} if made.kind.endswith("Binding") else set())
    assert rule("", ["pods"], ["get"]) in printed(want, live={READER: {"rules": [READ_PODS]}})[place]


def test_a_role_that_cannot_be_read_cannot_be_told() -> None:
    want = wants(bind("RoleBinding", "reader"))

    need = needs(want, AGENT, survey([want], SERVED, {}), Scope.NAMESPACED)

    assert [item.subject for item in need.untold] == [f"RoleBinding.{RBAC}/team/b"]


@pytest.mark.parametrize(
    "body",
    [
        {"rules": [{"apiGroups": ["*"], "resources": ["pods"], "verbs": ["get"]}]},
        {"rules": [{"apiGroups": [""], "resources": ["*/status"], "verbs": ["get"]}]},
        {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}]},
        {"rules": [{"nonResourceURLs": ["/x/*"], "verbs": ["get"]}]},
        {"rules": [{"apiGroups": [RBAC], "resources": ["roles"], "verbs": ["escalate"]}]},
        {"rules": [{"apiGroups": [RBAC], "resources": ["roles"], "verbs": ["bind"]}]},
        {"aggregationRule": {"clusterRoleSelectors": []}, "rules": []},
    ],
)
def test_a_wildcard_and_what_is_as_good_as_one_is_never_printed(body: dict[str, Any]) -> None:
    want = wants(document(f"{RBAC}/v1", "ClusterRole", "r", **body))

    need = needs(want, AGENT, survey([want], SERVED, {}), Scope.NAMESPACED)

    assert list(need.never) == [f"ClusterRole.{RBAC}/r"]
    assert not any("*" in (right.verb, right.group, right.resource) for right in need.rights)
    assert not {"bind", "escalate"} & {right.verb for right in need.rights}


@pytest.mark.parametrize("odd", [None, 7, "x", [None], [{"verbs": 3, "apiGroups": [4], "resources": {}}]])
def test_rules_of_odd_shapes_are_passed_over(odd: Any) -> None:
    want = wants(document(f"{RBAC}/v1", "ClusterRole", "r", rules=odd))

    assert not needs(want, AGENT, survey([want], SERVED, {}), Scope.NAMESPACED).grants


# --- rules ------------------------------------------------------------------------------------------------------------


def test_rules_are_few_and_always_in_the_same_order() -> None:
    given = [
        *(Right(verb=verb, group="apps", resource=name) for verb in ("patch", "get") for name in ("b", "a")),
        Right(verb="get", resource="c", name="two"),
        Right(verb="get", resource="c", name="one"),
        Right(verb="get", resource="d", name="one"),
        Right(verb="use", group="apps", resource="a"),
        Right(verb="get", url="/metrics"),
    ]

    found = rules(given)

    assert found == rules(reversed(given))
    assert found == [
        rule("", ["c"], ["get"], ["one", "two"]),
        rule("", ["d"], ["get"], ["one"]),
        rule("apps", ["a"], ["get", "patch", "use"]),
        rule("apps", ["b"], ["get", "patch"]),
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
    ]


def test_a_right_to_all_makes_the_same_right_by_name_needless() -> None:
    assert rules([Right(verb="get", resource="c"), Right(verb="get", resource="c", name="x")]) == [
        rule("", ["c"], ["get"])
    ]


def test_the_rules_say_what_they_were_made_from() -> None:
    want = wants(CRD, document("v1", "Secret", "s"), document("v1", "Namespace", "team"), CONFIG_MAP)
    rights = needs(want, AGENT, survey([want], SERVED, {}), Scope.CLUSTER).rights

    back = {
        right
        for role in roles("r", rights)
        for one in role["rules"]
        for right in expand(one, role["metadata"].get("namespace", ""))
    }

    assert all(any(covers(held, right) for held in back) for right in rights)
    assert back <= rights


def test_verbs_go_from_reading_to_deleting() -> None:
    assert in_order({"delete", "get", "approve", "watch"}) == ("get", "watch", "delete", "approve")


@pytest.mark.parametrize(
    ("subject", "whom"),
    [
        (Subject(kind="User", name="a"), {"kind": "User", "name": "a", "apiGroup": RBAC}),
        (
            Subject(kind="ServiceAccount", name="a", namespace="b"),
            {"kind": "ServiceAccount", "name": "a", "namespace": "b"},
        ),
    ],
)
def test_a_binding_gives_the_role_of_the_same_name(subject: Subject, whom: dict[str, str]) -> None:
    [role] = roles(role_name("edge", "web"), [Right(verb="get", resource="c", namespace="team")])

    assert binding(role, subject) == {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "gitsyncd.edge.web", "namespace": "team"},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "gitsyncd.edge.web"},
        "subjects": [whom],
    }


# --- too little, too much ---------------------------------------------------------------------------------------------

NEED = Right(verb="get", group="apps", resource="deployments", namespace="team", name="front")


@pytest.mark.parametrize(
    ("held", "enough"),
    [
        (NEED, True),
        (Right(verb="get", group="apps", resource="deployments", namespace="team"), True),
        (Right(verb="get", group="apps", resource="deployments", name="front"), True),
        (Right(verb="*", group="*", resource="*"), True),
        (Right(verb="list", group="apps", resource="deployments"), False),
        (Right(verb="get", group="", resource="deployments"), False),
        (Right(verb="get", group="apps", resource="deployments/status"), False),
        (Right(verb="get", group="apps", resource="deployments", namespace="other"), False),
        (Right(verb="get", group="apps", resource="deployments", namespace="team", name="back"), False),
        (Right(verb="get", url="*"), False),
    ],
)
def test_whether_one_right_covers_another(held: Right, enough: bool) -> None:
    assert covers(held, NEED) is enough


@pytest.mark.parametrize(
    ("held", "enough"), [("/metrics", True), ("/m*", True), ("*", True), ("/metrics/x", False), ("/x*", False)]
)
def test_paths_end_in_a_star_or_are_the_same(held: str, enough: bool) -> None:
    assert covers(Right(verb="get", url=held), Right(verb="get", url="/metrics")) is enough


def test_a_subresource_of_everything_covers_that_of_one() -> None:
    assert covers(
        Right(verb="get", group="apps", resource="*/scale"), Right(verb="get", group="apps", resource="d/scale")
    )


def test_excess_is_what_is_not_needed_or_only_in_part() -> None:
    need = Right(verb="get", resource="configmaps", namespace="team")
    wide, other = Right(verb="get", resource="configmaps"), Right(verb="delete", resource="pods", namespace="team")
    narrow = Right(verb="get", resource="configmaps", namespace="team", name="a")

    found = excess([need, wide, other, narrow], [need])

    assert {item.right: item.needed for item in found} == {wide: frozenset({need}), other: frozenset()}


@pytest.mark.parametrize(
    "right",
    [
        Right(verb="create", group="authorization.k8s.io", resource="selfsubjectaccessreviews"),
        Right(verb="get", url="/api/*"),
        Right(verb="get", url="/healthz"),
        Right(verb="list", group="certificates.k8s.io", resource="clustertrustbundles"),
    ],
)
def test_what_everybody_may_is_no_excess(right: Right) -> None:
    assert excess([right], []) == []


def test_a_right_that_was_given_everywhere_is_not_told_again_in_each_namespace() -> None:
    everywhere = Held(rights=frozenset({Right(verb="get", resource="pods", namespace="-")}), complete=True)
    both = {Right(verb=verb, resource="pods", namespace="team") for verb in ("get", "list")}

    held = held_rights(everywhere, {"team": Held(rights=frozenset(both), complete=True)})

    assert held == {Right(verb="get", resource="pods"), Right(verb="list", resource="pods", namespace="team")}
