"""The agent file is changed under a running daemon: taken up when it can be used, refused and said so when it cannot."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.daemon import Agent, Daemon, Json, run, until
from tests.e2e.hands import Hand, config_map, files
from tests.gitserver.repository import Repo
from tests.sandbox import Cluster

pytestmark = pytest.mark.real


@dataclass(slots=True)
class World:
    agent: Agent
    cluster: Cluster
    repo: Repo
    daemon: Daemon
    namespace: str

    def commit(self, path: str, *names: str) -> str:
        texts = files([config_map(name) for name in names])
        return self.repo.commit({f"{path}/{name}": text for name, text in texts.items()})

    def target(self, name: str) -> None:
        self.agent.target(name, path=name, namespace=self.namespace, wait={"enabled": False})

    def find(self, name: str) -> Json | None:
        return Hand(self.cluster, "ConfigMap", self.namespace, name).find()

    def rewrite(self) -> int:
        """The file as the agent's document now says; the place in the log before it."""
        since = self.daemon.now
        self.agent.write()
        return since


@pytest.fixture
def world(bare_cluster: Cluster, agent: Agent, repo: Repo, namespace: str) -> Iterator[World]:
    bare_cluster.create_namespace(namespace)
    agent.document["agent"] |= {"name": namespace, "cluster_namespace": f"{namespace}-agent"}
    agent.cluster("here", bare_cluster.kubeconfig)
    agent.source("fleet", repo.url)
    texts = {f"{path}/{name}": text for path in ("web", "db") for name, text in files([config_map(path)]).items()}
    repo.commit(texts)
    agent.target("web", path="web", namespace=namespace, wait={"enabled": False})
    with agent.start() as daemon:
        daemon.wait_for("target in sync", target="web@here")
        yield World(agent, bare_cluster, repo, daemon, namespace)


@pytest.mark.parametrize("by", ["the file alone", "SIGHUP"])
def test_a_target_is_added_while_the_daemon_runs(world: World, by: str) -> None:
    world.target("db")
    since = world.rewrite()
    if by == "SIGHUP":
        os.kill(world.daemon.pid, signal.SIGHUP)

    loaded = world.daemon.wait_for("configuration loaded", since=since)

    assert loaded["changed"] == ["target db@here added"]
    world.daemon.wait_for("target in sync", target="db@here", since=since)
    assert world.find("db") is not None
    assert world.daemon.said("target in sync", target="web@here", since=since) == [], "its neighbour took no turn"


def test_a_file_replaced_by_another_as_editors_and_kubernetes_do_is_taken_up(world: World, tmp_path: Path) -> None:
    world.target("db")
    since, fresh = world.daemon.now, tmp_path / "next.yaml"
    fresh.write_text(json.dumps(world.agent.document))
    fresh.replace(world.agent.file)

    assert world.daemon.wait_for("configuration loaded", since=since)["changed"] == ["target db@here added"]


def test_a_removed_target_leaves_its_objects_and_shows_as_unmanaged(world: World) -> None:
    world.target("db")
    since = world.rewrite()
    world.daemon.wait_for("target in sync", target="db@here", since=since)
    before = world.find("db")
    world.agent.document["targets"] = [t for t in world.agent.document["targets"] if t["name"] != "db"]
    since = world.rewrite()

    assert world.daemon.wait_for("configuration loaded", since=since)["changed"] == ["target db@here removed"]

    rows = {row["target"]: row["state"] for row in world.agent.run("status", "--output", "json").json["targets"]}
    assert rows == {"web@here": "in-sync", "db@here": "unmanaged"}
    assert world.find("db") == before


@pytest.mark.parametrize(
    ("text", "word"),
    [
        pytest.param("version: 1\nagent: {name: x", "is not YAML", id="no YAML"),
        pytest.param("", "empty", id="empty"),
        pytest.param("version: 1\nagent: {name: edge, colour: red}\n", "colour", id="an unknown key"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing_and_is_told_in_log_and_status(
    world: World, text: str, word: str
) -> None:
    good, since = world.agent.file.read_text(), world.daemon.now
    world.agent.file.write_text(text)

    refused = world.daemon.wait_for("configuration refused", since=since)

    assert word in refused["error"]
    assert refused["hint"]
    Hand(world.cluster, "ConfigMap", world.namespace, "web").patch({"data": {"value": "hand"}}, manager="kubectl-edit")
    world.daemon.wait_for("drift reverted", since=since)
    world.agent.file.write_text(good)
    told = world.daemon.wait_for("configuration loaded", since=since)
    assert told["changed"] == []
    assert world.agent.run("status", "--output", "json").json["configuration"]["error"] is None


def test_the_status_shows_why_the_file_is_not_in_force(world: World) -> None:
    document = json.loads(world.agent.file.read_text())
    document["agent"]["name"] = "another"
    since = world.daemon.now
    world.agent.file.write_text(json.dumps(document))

    refused = world.daemon.wait_for("configuration refused", since=since)

    assert refused["error"] == "agent.name cannot change while the daemon runs"
    # The name is that of the file as it stands, and the socket is the same.
    ran = run("status", "--output", "json", "--config", str(world.agent.file))
    assert ran.json["configuration"]["error"] == refused["error"]
    assert "restart" in ran.json["configuration"]["hint"].lower()


def test_a_reload_that_is_asked_for_is_over_when_the_command_returns(world: World) -> None:
    since = world.daemon.now
    world.target("db")

    took = world.agent.run("reload", "--output", "json")

    listed = world.agent.run("status", "--output", "json").json["targets"]
    assert {target["target"] for target in listed} == {"web@here", "db@here"}
    assert (took.code, took.json["file"]) == (0, str(world.agent.file))
    # On a busy machine the daemon may have seen the file by itself before the command asked for it.
    loaded = [line["changed"] for line in world.daemon.said("configuration loaded", since=since)]
    assert max(loaded) == ["target db@here added"]
    assert took.json["changed"] in loaded
    again = world.agent.run("reload")
    assert (again.code, again.stdout) == (0, f"{world.agent.file}: nothing changed\n")


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [("name", "another", "agent.name cannot change"), ("colour", "red", "colour")],
    ids=["what the daemon refuses", "what no daemon could use"],
)
def test_a_reload_that_is_asked_for_says_why_the_file_is_refused(world: World, key: str, value: str, word: str) -> None:
    document = json.loads(world.agent.file.read_text())
    document["agent"][key] = value
    world.agent.file.write_text(json.dumps(document))

    took = run("reload", "--config", str(world.agent.file))

    assert (took.code, took.stdout) == (2, "")
    why, fix = took.complaint
    assert word in why
    assert fix
    world.daemon.wait_for("configuration refused")


def test_a_reload_by_a_file_that_names_another_socket_says_what_may_be_wrong(world: World, tmp_path: Path) -> None:
    document = json.loads(world.agent.file.read_text())
    document["agent"]["socket"] = str(tmp_path / "other.sock")
    world.agent.file.write_text(json.dumps(document))

    took = run("reload", "--config", str(world.agent.file))

    assert took.code == 2
    why, fix = took.complaint
    assert why == f"{tmp_path / 'other.sock'}: no daemon answers there"
    assert "If `agent.socket` is what was changed in the file: restart the daemon." in fix


def test_a_reload_by_another_file_of_the_same_socket_is_told(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_text(world.agent.file.read_text())

    took = run("reload", "--config", str(copy))

    assert took.code == 2
    assert f"goes by {world.agent.file}" in took.complaint[0]


def test_a_file_that_is_gone_for_a_while_changes_nothing(world: World) -> None:
    since = world.daemon.now
    text = world.agent.file.read_text()
    world.agent.file.unlink()
    world.commit("web", "second")
    until(lambda: world.find("second"), "a commit that arrives meanwhile")
    world.agent.file.write_text(text)

    world.daemon.wait_for("configuration loaded", since=since)

    assert world.daemon.said("configuration refused", since=since) == []


def test_a_changed_interval_of_the_source_writes_nothing(world: World) -> None:
    version = world.find("web")
    world.agent.source("fleet", world.repo.url, interval="2s")
    since = world.rewrite()

    changed = world.daemon.wait_for("configuration loaded", since=since)["changed"]
    world.daemon.wait_for("target in sync", target="web@here", since=since)

    assert changed == ["source fleet changed", "target web@here changed"]
    assert world.find("web") == version
