"""`gitsyncd rbac` on a real API server: with what it prints, and nothing else, an agent does all of its work.

The API server's own audit log says what was refused and which of the rights were used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.corpus import DOCUMENTS
from tests.e2e.daemon import Agent, Daemon, Json, until
from tests.e2e.fleet import config_map, find
from tests.e2e.hands import autoscaler, deployment
from tests.gitserver.repository import Repo
from tests.sandbox import AuditEvent, Cluster
from tests.sandbox.fixtures import MakeCluster

pytestmark = pytest.mark.real

SPACE = "zero"
ROBOT = "system:serviceaccount:robots:gitsyncd"
BINDING = ("--service-account", "robots/gitsyncd")
CONTROLLERS = (
    "namespace-controller",
    "garbage-collector-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
)
"""What lets go of objects that are deleted."""
RBAC = "rbac.authorization.k8s.io"
ALL = ["get", "list", "watch", "create", "patch", "delete"]
UNGRANTABLE = "name: zero-sum"
"""The one object of the corpus that needs a wildcard: a ClusterRole that gathers others."""


@dataclass(slots=True)
class World:
    """A cluster with nothing of ours, an agent file, and a service account without rights."""

    agent: Agent
    cluster: Cluster
    repo: Repo
    robot: Path = field(init=False)

    def __post_init__(self) -> None:
        self.cluster.create_namespace("robots")
        self.robot = self.cluster.kubeconfig_for(ROBOT, self.cluster.service_account_token("robots", "gitsyncd"))
        self.agent.source("fleet", self.repo.url)
        self.as_admin()

    def as_admin(self) -> None:
        self.agent.cluster("here", self.cluster.kubeconfig)

    def as_robot(self) -> None:
        self.agent.cluster("here", self.robot)

    def give(self, text: str, *arguments: str) -> None:
        """Apply what was printed, and wait until the API server has heard of it."""
        self.cluster.kubectl("apply", "-f", "-", input=text)
        self.as_robot()
        until(lambda: self.agent.run("rbac", *arguments).code == 0, "the rights to be in force")

    def requests(self, since: int = 0) -> list[AuditEvent]:
        """Of the robot."""
        return self.cluster.audit(user=ROBOT)[since:]


@pytest.fixture
def world(make_cluster: MakeCluster, agent: Agent, repo: Repo) -> World:
    return World(agent, make_cluster(audit=True, controllers=CONTROLLERS), repo)


def corpus(scope: str) -> dict[str, str]:
    """Nearly every kind there is. Where lists are cluster-wide, the namespace itself comes from Git as well."""
    wanted = [document for document in DOCUMENTS if UNGRANTABLE not in document]
    files = {f"web/{number:02}.yaml": document for number, document in enumerate(wanted)}
    if scope == "cluster":
        files["web/space.yaml"] = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SPACE}}}\n"
    return files


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("scope", ["namespaced", "cluster"])
def test_an_agent_that_has_what_is_printed_and_nothing_else_is_refused_nothing_and_uses_all_of_it(
    world: World, scope: str
) -> None:
    world.agent.target("web", path="web", namespace=SPACE, wait={"enabled": False})
    world.repo.commit(corpus(scope))
    if scope == "namespaced":
        world.cluster.create_namespace(SPACE)
    printed = world.agent.run("rbac", "--scope", scope, *BINDING)
    assert printed.code == 0, printed.stderr
    objects = list(yaml.safe_load_all(printed.stdout))
    if scope == "cluster":
        objects = [item for item in objects if item["metadata"] != {"name": SPACE}]  # Git makes it
    world.give("\n---\n".join(map(json.dumps, objects)), "--scope", scope)
    told = world.agent.run("rbac", "--scope", scope, "--output", "json").json["clusters"][0]
    assert (told["user"], told["missing"], told["excess"], told["everything"]) == (ROBOT, [], [], False)
    since = len(world.requests())

    live_a_life(world)

    refused = [event for event in world.requests(since) if event.code == 403]
    if scope == "namespaced":  # the daemon asks for the whole cluster first, once for each kind
        refused = [event for event in refused if (event.verb, event.namespace) != ("list", "")]
    assert refused == []
    unused = {right for right in rights(told["objects"]) if not was_used(right, world.requests(since))}
    assert unused <= {
        ("", "", "pods", "get", ""),  # what Git grants is checked by the server without a request
        ("", "", "namespaces", "delete", SPACE),  # it is kept for what is annotated not to be pruned
    }


def live_a_life(world: World) -> None:
    """First sync, update, adoption, drift of three kinds, prune, a second daemon beside it, a restart, the end."""
    cluster, repo = world.cluster, world.repo
    collection = f"/api/v1/namespaces/{SPACE}/configmaps"
    with world.agent.start() as daemon:
        in_sync(daemon, 0)
        cluster.kubectl("apply", "-n", SPACE, "-f", "-", input=config_map("adopted", value="mine", more="theirs"))
        since = daemon.now
        repo.commit(
            {
                "web/adopted.yaml": config_map("adopted", value="git"),
                "web/01.yaml": config_map("settings", a="2"),
                "web/99.yaml": config_map("short-lived"),
            }
        )
        daemon.wait_for("object applied", since=since, object=f"ConfigMap/{SPACE}/adopted", operation="adopted")
        in_sync(daemon, since)

        since = daemon.now
        cluster.kubectl("patch", "configmap", "adopted", "-n", SPACE, "--type=merge", "-p", '{"data": {"value": "x"}}')
        cluster.kubectl("delete", "configmap", "settings", "-n", SPACE)
        daemon.wait_for("drift reverted", since=since, object=f"ConfigMap/{SPACE}/adopted")
        daemon.wait_for("drift reverted", since=since, object=f"ConfigMap/{SPACE}/settings", kind="deleted")

        since = daemon.now
        repo.commit({"web/99.yaml": None})
        daemon.wait_for("object pruned", since=since, object=f"ConfigMap/{SPACE}/short-lived")
        with standby(world.agent).start() as second:
            second.wait_for("target waiting", target="web@here")
    with world.agent.start() as daemon:
        in_sync(daemon, 0)
        for arguments in (("suspend", "web", "--for", "1h", "--reason", "the end"), ("delete", "web@here", "--yes")):
            done = world.agent.run(*arguments)
            assert done.code == 0, (done.stdout, done.stderr)
    assert find(cluster, f"{collection}/settings") is None
    failures = [line for line in daemon.lines if "failed" in line["event"] or line["event"].startswith("cluster ")]
    assert failures == []


def standby(agent: Agent) -> Agent:
    """One of the same name, as if on another machine."""
    other = Agent(agent.folder / "standby", name=agent.name)
    other.document = json.loads(json.dumps(agent.document))
    other.document["agent"] |= {"state_dir": str(other.state_dir), "socket": str(other.socket)}
    return other


def in_sync(daemon: Daemon, since: int) -> None:
    daemon.wait_for("target in sync", since=since, within_s=60)
    failures = [*daemon.said("object failed"), *daemon.said("target failed")]
    assert failures == [], json.dumps(failures)


Atom = tuple[str, str, str, str, str]
"""Namespace, group, resource, verb, name."""


def rights(objects: list[Json]) -> Iterator[Atom]:
    for role in objects:
        for rule in role.get("rules", ()):
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [""]):
                        yield role["metadata"].get("namespace", ""), rule["apiGroups"][0], resource, verb, name


def was_used(right: Atom, events: list[AuditEvent]) -> bool:
    namespace, group, resource, verb, name = right
    everywhere = namespace == "" and verb in {"list", "watch"}
    return any(
        (event.group, event.resource) == (group, resource)
        # server-side apply of what was not there
        and (event.verb == verb or (verb == "create" and event.verb == "patch" and event.code == 201))
        and name in {"", event.name}
        and (event.namespace == namespace or (not namespace and not everywhere))
        and event.code in {200, 201, 202, 404}
        for event in events
    )


# --- one right less -----------------------------------------------------------------------------------------------------

SMALL = {
    "web/settings.yaml": config_map("settings", value="1"),
    "web/secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: secret}\ndata: {a: YQ==}\n",
    "web/reader.yaml": f"apiVersion: {RBAC}/v1\nkind: ClusterRole\nmetadata: {{name: small-reader}}\n"
    "rules: [{apiGroups: [events.k8s.io], resources: [events], verbs: [get]}]\n",
}
SPACED, READER = f"/api/v1/namespaces/{SPACE}", f"/apis/{RBAC}/v1/clusterroles/small-reader"
LESS: list[tuple[str, str, str]] = [
    ("configmaps", "get", SPACE),
    ("configmaps", "list", SPACE),
    ("configmaps", "list", "gitsyncd"),
    ("configmaps", "create", SPACE),
    ("configmaps", "create", "gitsyncd"),
    ("configmaps", "update", "gitsyncd"),
    ("configmaps", "patch", SPACE),
    ("configmaps", "delete", SPACE),
    ("secrets", "get", "gitsyncd"),
    ("secrets", "create", "gitsyncd"),
    ("secrets", "get", SPACE),
    ("secrets", "list", SPACE),
    ("secrets", "create", SPACE),
    ("secrets", "patch", SPACE),
    ("secrets", "delete", SPACE),
    ("clusterroles", "list", ""),
    ("clusterroles", "get", ""),
    ("clusterroles", "create", ""),
    ("clusterroles", "patch", ""),
    ("clusterroles", "delete", ""),
    ("events", "get", ""),
    ("namespaces", "get", "kube-system"),
    ("leases", "get", "gitsyncd"),
    ("leases", "create", "gitsyncd"),
    ("leases", "patch", "gitsyncd"),
]
UNFELT: list[tuple[str, str, str]] = [
    # What may not be watched is listed, or (the lease) read, again and again instead: later, and not wrong.
    ("configmaps", "watch", SPACE),
    ("secrets", "watch", SPACE),
    ("clusterroles", "watch", ""),
    ("leases", "watch", "gitsyncd"),
    # Of the record: only for the command `delete`.
    ("configmaps", "delete", "gitsyncd"),
]
"""What no turn fails without: the command alone says that it is missing."""


@pytest.fixture(scope="module")
def shared(make_shared_cluster: MakeCluster) -> Cluster:
    cluster = make_shared_cluster(audit=True)
    cluster.create_namespace("robots")
    cluster.create_namespace(SPACE)
    return cluster


@pytest.fixture
def clean(shared: Cluster) -> Iterator[None]:
    """Nothing of the small set is left, whatever became of it."""
    yield
    for path in (f"{SPACED}/configmaps/settings", f"{SPACED}/configmaps/more", f"{SPACED}/secrets/secret", READER):
        if find(shared, path) is not None:
            shared.request("DELETE", path)


def less(cluster: Cluster, agent: Agent, repo: Repo, right: tuple[str, str, str]) -> None:
    """The agent with a service account that has what is printed for the small set without one right, and knows it."""
    resource, verb, namespace = right
    robot = f"less-{[*LESS, *UNFELT].index(right)}"
    token = cluster.service_account_token("robots", robot)
    agent.name = agent.document["agent"]["name"] = robot
    agent.source("fleet", repo.url)
    agent.cluster("here", cluster.kubeconfig)
    agent.target("web", path="web", namespace=SPACE, wait={"enabled": False}, prune={"max_percent": 100})
    repo.commit(SMALL)
    told = agent.run("rbac", "--service-account", f"robots/{robot}", "--output", "json").json["clusters"][0]
    printed = {(atom[2], atom[3], atom[0]) for atom in rights(told["objects"])}
    assert printed == {*LESS, *UNFELT}, "a right that is printed and not tried"
    objects = [taken(item, resource, verb, namespace) for item in told["objects"]]
    assert objects != told["objects"]
    cluster.kubectl("apply", "-f", "-", input="\n---\n".join(map(json.dumps, objects)))
    agent.cluster("here", cluster.kubeconfig_for(f"system:serviceaccount:robots:{robot}", token))

    def short() -> Any:
        """What the command says is missing, once the other roles are in force."""
        ran = agent.run("rbac", "--output", "json")
        rows = ran.json["clusters"][0]["missing"]
        return rows if ran.code == 1 and len(rows) == 1 else None

    [row] = until(short, "the one missing rule to be the only one")
    assert (resource in row["rule"]["resources"], row["rule"]["verbs"]) == (True, [verb])


@pytest.mark.slow
@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(("resource", "verb", "namespace"), LESS, ids=["-".join(row) for row in LESS])
def test_without_any_one_of_the_rights_something_fails_and_the_right_is_named(
    shared: Cluster, agent: Agent, repo: Repo, resource: str, verb: str, namespace: str
) -> None:
    less(shared, agent, repo, (resource, verb, namespace))

    first = agent.run("run", "--once")
    repo.commit({"web/settings.yaml": config_map("settings", value="2"), "web/more.yaml": config_map("more")})
    second = agent.run("run", "--once")
    repo.commit({"web/settings.yaml": None, "web/secret.yaml": None, "web/reader.yaml": None})
    third = agent.run("run", "--once")

    assert 1 in {first.code, second.code, third.code}
    lines = [json.loads(line) for run in (first, second, third) for line in run.stdout.splitlines()]
    said = [f"{line.get('error')} {line.get('hint')}" for line in lines]
    # In our words, or (of what Git grants) in the server's.
    rule = re.compile(rf'esources: ?\["{resource}"\].*erbs: ?\["{verb}"\]', re.DOTALL)
    assert [text for text in said if rule.search(text)], said


@pytest.mark.slow
@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("right", UNFELT, ids=["-".join(row) for row in UNFELT])
def test_without_a_right_that_no_turn_fails_without_the_command_names_it_and_drift_is_still_reverted(
    shared: Cluster, agent: Agent, repo: Repo, right: tuple[str, str, str]
) -> None:
    less(shared, agent, repo, right)

    with agent.start() as daemon:
        in_sync(daemon, 0)
        since = daemon.now
        shared.kubectl("delete", "configmap", "settings", "-n", SPACE)
        daemon.wait_for("drift reverted", since=since, within_s=60, object=f"ConfigMap/{SPACE}/settings")
        if right == ("configmaps", "delete", "gitsyncd"):
            assert agent.run("suspend", "web", "--for", "1h", "--reason", "the end").code == 0
            done = agent.run("delete", "web@here", "--yes")
            assert done.code == 1
            assert 'resources: ["configmaps"], verbs: ["delete"]' in done.stderr


def taken(item: Json, resource: str, verb: str, namespace: str) -> Json:
    """A printed object without one right; with an empty namespace in the ClusterRole, or else in every Role."""
    if item["metadata"].get("namespace", namespace) != namespace or "rules" not in item:
        return item
    kept = []
    for rule in item["rules"]:
        if resource in rule["resources"] and verb in rule["verbs"]:
            others = [name for name in rule["resources"] if name != resource]
            if others:
                kept.append({**rule, "resources": others})
            verbs = [name for name in rule["verbs"] if name != verb]
            if verbs:
                kept.append({**rule, "resources": [resource], "verbs": verbs})
        else:
            kept.append(rule)
    return {**item, "rules": kept}


# --- too little, too much -------------------------------------------------------------------------------------------------


@pytest.fixture
def team(bare_cluster: Cluster, agent: Agent, repo: Repo, namespace: str) -> Agent:
    """One ConfigMap in a namespace."""
    bare_cluster.create_namespace(namespace)
    agent.document["agent"]["cluster_namespace"] = namespace
    agent.source("fleet", repo.url)
    agent.target("web", path="web", namespace=namespace)
    repo.commit({"web/settings.yaml": config_map("settings")})
    return agent


def test_too_little_is_told_rule_by_rule_by_a_credential_that_may_do_nothing(
    team: Agent, bare_cluster: Cluster, namespace: str
) -> None:
    token = bare_cluster.service_account_token(namespace, "nobody")
    team.cluster("here", bare_cluster.kubeconfig_for(f"nobody-{namespace}", token))

    ran = team.run("rbac")

    assert ran.code == 1
    assert f'  too little  in namespace {namespace}: {{apiGroups: [""], resources: [configmaps], ' in ran.stderr
    assert "verbs: [get, list, watch, create, patch, delete]} for web\n" in ran.stderr
    assert "what is recorded may not be read" in ran.stderr
    assert [item["kind"] for item in yaml.safe_load_all(ran.stdout)] == ["Role", "Role", "Role"]


def test_more_than_is_needed_is_told_and_is_no_failure(team: Agent, bare_cluster: Cluster, namespace: str) -> None:
    team.cluster("here", bare_cluster.kubeconfig)
    printed = team.run("rbac", "--service-account", f"{namespace}/wide")
    token = bare_cluster.service_account_token(namespace, "wide")
    bare_cluster.kubectl("apply", "-f", "-", input=printed.stdout)
    wide = f"""
apiVersion: {RBAC}/v1
kind: ClusterRole
metadata: {{name: {namespace}-wide}}
rules:
  - {{apiGroups: [""], resources: [configmaps], verbs: [get]}}
  - {{apiGroups: [apps], resources: [deployments], verbs: [delete]}}
  - {{apiGroups: [batch], resources: ["*"], verbs: ["*"]}}
"""
    bare_cluster.kubectl("apply", "-f", "-", input=wide)
    bare_cluster.grant(f"{namespace}:wide", f"{namespace}-wide")
    team.cluster("here", bare_cluster.kubeconfig_for(f"wide-{namespace}", token))
    until(lambda: (ran := team.run("rbac")).code == 0 and "batch" in ran.stderr, "the rights to be in force")

    ran = team.run("rbac")

    assert ran.code == 0
    assert f'{{apiGroups: [""], resources: [configmaps], verbs: [get]}}, needed only for {namespace}\n' in ran.stderr
    assert (
        "too much  everywhere: {apiGroups: [apps], resources: [deployments], verbs: [delete]}, not needed" in ran.stderr
    )
    assert 'TOO MUCH  everywhere: {apiGroups: [batch], resources: ["*"], verbs: ["*"]}, not needed' in ran.stderr


def test_an_administrator_is_told_so_loudly(team: Agent, bare_cluster: Cluster) -> None:
    team.cluster("here", bare_cluster.kubeconfig)

    ran = team.run("rbac")

    assert ran.code == 0
    assert "TOO MUCH  it may do everything, as system:masters and cluster-admin may" in ran.stderr


def test_the_roles_of_a_local_folder_are_those_of_what_stands_in_it(
    team: Agent, bare_cluster: Cluster, tmp_path: Path
) -> None:
    team.cluster("here", bare_cluster.kubeconfig)
    (tmp_path / "work" / "web").mkdir(parents=True)
    (tmp_path / "work" / "web" / "s.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: s}\n")

    ran = team.run("rbac", "--dir", str(tmp_path / "work"), "--output", "json")

    rules = [rule for item in ran.json["clusters"][0]["objects"] for rule in item["rules"]]
    [services] = [rule for rule in rules if rule["resources"] == ["services"]]
    assert services["verbs"] == ["get", "list", "watch", "create", "patch", "delete"]


def test_what_grants_a_wildcard_is_named_and_not_printed(team: Agent, bare_cluster: Cluster, repo: Repo) -> None:
    team.cluster("here", bare_cluster.kubeconfig)
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": {"name": "all"}, "roleRef": reference}
    repo.commit({"web/all.yaml": json.dumps(binding)})

    ran = team.run("rbac")

    assert '"*"' not in ran.stdout
    assert "RoleBinding" in ran.stderr
    assert "it grants a wildcard, which whoever applies it needs, and which is never printed" in ran.stderr


def test_a_service_account_that_is_written_wrongly_is_told(team: Agent, bare_cluster: Cluster) -> None:
    team.cluster("here", bare_cluster.kubeconfig)

    ran = team.run("rbac", "--service-account", "robot")

    assert (ran.code, ran.stdout) == (1, "")
    assert ran.complaint == (
        "--service-account: 'robot' is not NAMESPACE/NAME",
        "Write for example --service-account gitsyncd/gitsyncd.",
    )


def test_an_autoscaler_that_is_not_in_git_is_noticed_with_rights_in_one_namespace(
    team: Agent, bare_cluster: Cluster, repo: Repo, namespace: str
) -> None:
    team.cluster("here", bare_cluster.kubeconfig)
    repo.commit({"web/front.yaml": json.dumps(deployment("front", replicas=2))})
    bare_cluster.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(autoscaler("front", "front")))
    printed = team.run("rbac", "--service-account", f"{namespace}/narrow")
    bare_cluster.kubectl("apply", "-f", "-", input=printed.stdout)
    token = bare_cluster.service_account_token(namespace, "narrow")
    team.cluster("here", bare_cluster.kubeconfig_for(f"narrow-{namespace}", token))
    until(lambda: team.run("rbac").code == 0, "the rights to be in force")

    ran = team.run("plan", "--output", "json")

    [change] = [row for row in ran.json["targets"][0]["changes"] if row["object"].startswith("Deployment")]
    assert change["note"] == f".spec.replicas is left to HorizontalPodAutoscaler/{namespace}/front"


def test_what_is_printed_for_one_target_is_a_part_of_what_is_printed_for_all(
    team: Agent, bare_cluster: Cluster, repo: Repo, namespace: str
) -> None:
    team.cluster("here", bare_cluster.kubeconfig)
    team.target("db", path="db", namespace=namespace)
    repo.commit({"db/secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"})

    both = team.run("rbac", "--output", "json").json["clusters"][0]
    one = team.run("rbac", "db@here", "--output", "json").json["clusters"][0]

    assert (both["targets"], one["targets"]) == (["db", "web"], ["db"])
    assert [item for item in one["objects"] if item not in both["objects"]] == []
    assert {item["metadata"]["name"] for item in one["objects"]} == {"gitsyncd.edge", "gitsyncd.edge.db"}
    assert {item["metadata"]["name"] for item in both["objects"]} >= {"gitsyncd.edge.web"}


def test_another_branch_and_what_is_recorded_are_looked_at(
    team: Agent, bare_cluster: Cluster, repo: Repo, namespace: str
) -> None:
    team.document["agent"]["name"] = team.name = f"left-{namespace}"
    team.cluster("here", bare_cluster.kubeconfig)
    assert team.run("run", "--once").code == 0
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n"
    repo.commit({"web/s.yaml": service, "web/settings.yaml": None}, branch="next", parent=repo.head("main"))

    ran = team.run("rbac", "--ref", "next", "--output", "json")

    rules = [rule for item in ran.json["clusters"][0]["objects"] for rule in item["rules"]]
    assert {"apiGroups": [""], "resources": ["services"], "verbs": ALL} in rules
    assert {"apiGroups": [""], "resources": ["configmaps"], "verbs": [*ALL[:3], "delete"]} in rules


def test_clusters_are_told_apart_and_one_that_does_not_answer_spoils_nothing(
    team: Agent, bare_cluster: Cluster, tmp_path: Path
) -> None:
    team.cluster("here", bare_cluster.kubeconfig)
    text = bare_cluster.kubeconfig.read_text().replace(str(bare_cluster.port), "1")
    (tmp_path / "gone.kubeconfig").write_text(text)
    team.cluster("gone", tmp_path / "gone.kubeconfig")

    ran = team.run("rbac")

    assert ran.code == 1
    assert ran.stdout.startswith("# cluster here: what web needs (namespaced)\n---\n")
    assert "\ngitsyncd: cluster gone" in ran.stderr or "\ngitsyncd: gone: " in ran.stderr, ran.stderr
    assert "\nfix: " in ran.stderr
