"""Clusters that cannot be used, at the start or later: said once with a reason and a fix, the others go on, and what was
missed is made good as soon as they answer."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.daemon import Agent, Daemon, Json, until
from tests.e2e.fleet import config_map, find
from tests.gitserver.repository import Repo
from tests.sandbox import Cluster
from tests.sandbox.fixtures import MakeCluster

pytestmark = pytest.mark.real

# What is said, who has to mend it, and a word of the hint.
BAD = {
    "no-context": ("it has no context 'elsewhere'", "fix-config", "It has: sandbox-"),
    "no-yaml": ("it is no YAML (line 2)", "fix-config", ""),
    "exec-plugin": ("names a program to run for credentials (`exec`)", "fix-config", "service account"),
    "wrong-token": ("does not accept these credentials (401)", "fix-cluster", "Replace its file"),
    "wrong-ca": ("certificate", "fix-cluster", "ca_file"),
    "nobody-listens": ("connection refused", "wait", "address"),
    "black-hole": ("no answer", "wait", "address"),
}


@dataclass(frozen=True, slots=True)
class World:
    """A daemon with one good cluster and every bad one."""

    daemon: Daemon
    repo: Repo
    cluster: Cluster
    namespace: str
    files: Mapping[str, Path]
    agent: Agent


@pytest.fixture(scope="module")
def world(bare_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("bad-cluster")
    repo, agent = Repo(folder / "fleet.git"), Agent(folder / "agent", name="bad-cluster")
    bare_cluster.create_namespace("bad-cluster")
    with socket.socket() as silent, socket.socket() as unused:
        for listener in (silent, unused):
            listener.bind(("127.0.0.1", 0))
        silent.listen()
        good = bare_cluster.kubeconfig.read_text()
        files = {name: folder / f"{name}.kubeconfig" for name in BAD}
        files["wrong-token"].write_text(good.replace(bare_cluster.admin_token, "hunter2"))
        files["no-context"].write_text(good)
        files["no-yaml"].write_text("clusters:\n\t- name: a\n")
        files["exec-plugin"].write_text(json.dumps(with_exec(bare_cluster)))
        files["wrong-ca"].write_text(json.dumps(kubeconfig(bare_cluster, ca="")))
        files["nobody-listens"].write_text(good.replace(str(bare_cluster.port), str(unused.getsockname()[1])))
        files["black-hole"].write_text(good.replace(str(bare_cluster.port), str(silent.getsockname()[1])))
        agent.cluster("good", bare_cluster.kubeconfig)
        for name, file in files.items():
            agent.cluster(name, file, context="elsewhere" if name == "no-context" else "")
        agent.source("fleet", repo.url)
        agent.target("web", path="{cluster}", namespace="bad-cluster")
        repo.commit({f"{name}/a.yaml": config_map(name, value="1") for name in ["good", *BAD]})
        with agent.start() as daemon:
            yield World(daemon, repo, bare_cluster, "bad-cluster", files, agent)


def kubeconfig(cluster: Cluster, *, ca: str | None = None, user: Json | None = None) -> Json:
    reached: Json = {"server": cluster.server}
    if ca is None:
        reached["certificate-authority"] = str(cluster.ca_file)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": reached}],
        "users": [{"name": "u", "user": user or {"token": cluster.admin_token}}],
    }


def with_exec(cluster: Cluster) -> Json:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/false", "interactiveMode": "Never"}
    return kubeconfig(cluster, user={"exec": plugin})


@pytest.mark.parametrize("name", BAD)
def test_a_cluster_that_cannot_be_used_is_said_once_with_the_fix(world: World, name: str) -> None:
    what, remedy, hint = BAD[name]

    said = world.daemon.wait_for("cluster unreachable", cluster=name)

    assert what in said["error"]
    assert said["remedy"] == remedy
    assert hint in said["hint"]
    assert said["hint"]
    assert len(world.daemon.said("cluster unreachable", cluster=name)) == 1
    assert not [line for line in world.daemon.lines if "hunter2" in json.dumps(line)]


def test_a_good_cluster_is_kept_while_others_cannot_be_used(world: World) -> None:
    world.daemon.wait_for("target in sync", target="web@good")
    path = f"/api/v1/namespaces/{world.namespace}/configmaps/good"

    world.cluster.request("DELETE", path)

    world.daemon.wait_for("drift reverted", target="web@good", kind="deleted")
    assert find(world.cluster, path) is not None


def test_a_kubeconfig_that_is_mended_is_used_without_a_restart(world: World, make_shared_cluster: MakeCluster) -> None:
    name, other = "exec-plugin", make_shared_cluster()
    other.create_namespace(world.namespace)
    world.daemon.wait_for("cluster unreachable", cluster=name)

    shutil.copy(other.kubeconfig, world.files[name])

    recovered = world.daemon.wait_for("cluster recovered", cluster=name, within_s=60)
    assert "exec" in recovered["error"]
    world.daemon.wait_for("target in sync", target=f"web@{name}")


def error_of(world: World, name: str) -> str:
    clusters = world.agent.run("status", "--output", "json").json["clusters"]
    return str(next(cluster["error"] for cluster in clusters if cluster["cluster"] == name))


def test_one_cluster_under_two_names_is_written_to_by_the_first_alone(world: World) -> None:
    name = "no-yaml"
    world.daemon.wait_for("target in sync", target="web@good")
    world.daemon.wait_for("cluster unreachable", cluster=name)

    shutil.copy(world.cluster.kubeconfig, world.files[name])

    until(lambda: "the same cluster as good" in error_of(world, name), "the refusal of the second name", within_s=60)
    assert find(world.cluster, f"/api/v1/namespaces/{world.namespace}/configmaps/good") is not None
    assert find(world.cluster, f"/api/v1/namespaces/{world.namespace}/configmaps/{name}") is None


# --- commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "run", "plan"])
def test_a_kubeconfig_that_is_not_there_is_a_mistake_of_the_agent_file(
    agent: Agent, repo: Repo, tmp_path: Path, command: str
) -> None:
    agent.cluster("here", tmp_path / "none.kubeconfig")
    agent.source("fleet", repo.url)
    agent.target("web")

    ran = agent.run(command)

    assert ran.code == 2
    what, fix = ran.complaint
    assert "clusters[0].kubeconfig.file" in what
    assert f"{tmp_path}/none.kubeconfig" in what
    assert "does not exist" in what
    assert fix


@pytest.mark.parametrize("name", ["no-yaml", "exec-plugin", "wrong-token", "nobody-listens"])
def test_a_plan_for_a_cluster_that_cannot_be_used_says_why_and_shows_the_others(
    agent: Agent, repo: Repo, bare_cluster: Cluster, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "bad.kubeconfig"
    port = bare_cluster.port
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        good = bare_cluster.kubeconfig.read_text()
        file.write_text(
            {
                "no-yaml": "clusters:\n\t- name: a\n",
                "exec-plugin": json.dumps(with_exec(bare_cluster)),
                "wrong-token": good.replace(bare_cluster.admin_token, "hunter2"),
                "nobody-listens": good.replace(str(port), str(unused.getsockname()[1])),
            }[name]
        )
        agent.cluster("bad", file)
        agent.cluster("good", bare_cluster.kubeconfig)
        agent.source("fleet", repo.url)
        agent.target("web", path=".")
        repo.commit({"a.yaml": config_map("planned")})

        ran = agent.run("plan", "--output", "json")

    assert ran.code == 2
    what, fix = ran.complaint
    assert BAD[name][0] in what
    assert "bad" in what
    assert fix
    assert "hunter2" not in ran.stderr
    assert [target["target"] for target in ran.json["targets"]] == ["web@good"]
    assert find(bare_cluster, "/api/v1/namespaces/default/configmaps/planned") is None


# --- later -------------------------------------------------------------------------------------------------------------


def test_a_cluster_that_goes_away_and_comes_back_is_made_what_git_says_by_then(
    agent: Agent, repo: Repo, make_cluster: MakeCluster
) -> None:
    cluster = make_cluster()
    agent.cluster("here", cluster.kubeconfig)
    agent.source("fleet", repo.url)
    agent.target("web", path=".")
    repo.commit({"a.yaml": config_map("a", value="1"), "b.yaml": config_map("b", value="1")})
    path = "/api/v1/namespaces/default/configmaps"
    with agent.start() as daemon:
        daemon.wait_for("target in sync")
        cluster.stop_apiserver()
        gone = daemon.wait_for("cluster unreachable")
        shown = agent.run("status", "--output", "json")
        repo.commit({"a.yaml": config_map("a", value="2")})
        daemon.wait_for("source updated", previous=lambda revision: revision is not None)
        cluster.start_apiserver()
        edit = {"data": {"value": "edited"}}
        cluster.request(
            "PATCH", f"{path}/b?fieldManager=kubectl-edit", edit, content_type="application/merge-patch+json"
        )
        daemon.wait_for("cluster recovered")
        until(lambda: values(cluster) == {"a": "2", "b": "1"}, "the cluster to be what Git says")
        daemon.wait_for("drift reverted", object="ConfigMap/default/b")

    assert gone["remedy"] == "wait"
    assert gone["hint"]
    assert shown.code == 1
    assert [cluster["state"] for cluster in shown.json["clusters"]] != ["ready"]
    (error,) = [cluster["error"] for cluster in shown.json["clusters"]]
    assert cluster.server in gone["error"] and cluster.server in error  # the first word on it, and the last
    assert len(daemon.said("cluster unreachable")) == len(daemon.said("cluster recovered")) == 1


def values(cluster: Cluster) -> dict[str, str]:
    items = cluster.request("GET", "/api/v1/namespaces/default/configmaps")["items"]
    return {item["metadata"]["name"]: item["data"]["value"] for item in items if "value" in item.get("data", {})}


def test_a_token_that_stops_being_valid_is_told_and_the_next_one_used_at_once(
    agent: Agent, repo: Repo, bare_cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(bare_cluster.admin_token)
    bare_cluster.create_namespace(namespace)
    agent.document["agent"].update(name=f"tokens-{namespace}", cluster_namespace=f"gitsyncd-tokens-{namespace}")
    agent.cluster("here", server=bare_cluster.server, ca_file=str(bare_cluster.ca_file), token_file=str(token))
    agent.source("fleet", repo.url)
    agent.target("web", path=".", namespace=namespace)
    repo.commit({"a.yaml": config_map("a", value="1")})
    with agent.start() as daemon:
        daemon.wait_for("target in sync")
        token.write_text("hunter2")
        since = daemon.now
        repo.commit({"a.yaml": config_map("a", value="2")})
        refused = until(lambda: mentions(daemon, since, "(401)"), "the refusal")
        token.write_text(bare_cluster.admin_token)
        daemon.wait_for("target in sync", since=since)

    assert refused["remedy"] == "fix-cluster"
    assert "Replace its file" in refused["hint"]
    assert not [line for line in daemon.lines if "hunter2" in json.dumps(line)]
    live = find(bare_cluster, f"/api/v1/namespaces/{namespace}/configmaps/a")
    assert live is not None and live["data"] == {"value": "2"}


def mentions(daemon: Daemon, since: int, words: str) -> Json | None:
    return next((line for line in daemon.lines[since:] if words in line.get("error", "")), None)
