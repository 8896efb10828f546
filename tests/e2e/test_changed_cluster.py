"""Another cluster behind a known address, and the same one gone back to an older state: on real etcds.

Nothing may be written before it is noticed. The API server's audit log says what was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.daemon import Agent, Json
from tests.e2e.hands import Hand, config_map, files
from tests.gitserver.repository import Repo
from tests.sandbox import AuditEvent, Cluster
from tests.sandbox.fixtures import MakeCluster

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]

MANY = [f"m{number:03}" for number in range(150)]


@dataclass(slots=True)
class World:
    cluster: Cluster
    agent: Agent
    repo: Repo
    audited: int = 0

    def commit(self, *names: str, without: str = "") -> str:
        texts = files([config_map(name) for name in names])
        gone = {f"web/configmap-{without}.yaml": None} if without else {}
        return self.repo.commit({**gone, **{f"web/{name}": text for name, text in texts.items()}})

    def names(self) -> set[str]:
        path = "/api/v1/namespaces/web/configmaps?labelSelector=gitsyncd.dev/agent=edge"
        return {item["metadata"]["name"] for item in self.cluster.request("GET", path)["items"]}

    def restore(self, folder: Path | None) -> None:
        self.audited = len(self.cluster.audit())
        self.cluster.restore(folder)

    def writes(self) -> list[AuditEvent]:
        """What the daemon wrote since then, leases included."""
        events = self.cluster.audit()[self.audited :]
        return [e for e in events if e.user_agent.startswith("gitsyncd/") and e.is_write and e.code < 300]

    def place(self) -> Json:
        """The cluster as the status has it."""
        (cluster,) = self.agent.run("status", "--output", "json").json["clusters"]
        return dict(cluster)


@pytest.fixture
def world(make_cluster: MakeCluster, tmp_path: Path) -> World:
    cluster, repo = make_cluster(audit=True), Repo(tmp_path / "fleet.git")
    agent = Agent(tmp_path / "agent", name="edge")
    agent.cluster("eu-1", cluster.kubeconfig)
    agent.source("fleet", repo.url)
    agent.target("web", path="web", namespace="web", wait={"enabled": False})
    cluster.create_namespace("web")
    return World(cluster, agent, repo)


def test_another_cluster_is_left_alone_until_a_person_says_that_it_is_meant(world: World) -> None:
    # given
    world.commit("settings")
    with world.agent.start() as daemon:
        daemon.wait_for("target in sync")

        # when
        world.restore(None)
        world.cluster.create_namespace("web")
        changed = daemon.wait_for("cluster changed", cluster="eu-1", within_s=60)
        world.commit("more")
        daemon.wait_for("source updated", since=daemon.lines.index(changed))

        # then
        assert "another cluster answers" in changed["error"]
        assert "cluster-eu-1.json" in changed["hint"]
        assert world.place()["state"] == "unreachable"
        assert "cluster-eu-1.json" in world.agent.run("status").stdout
    assert world.writes() == []
    with world.agent.start() as daemon:
        daemon.wait_for("cluster changed", cluster="eu-1")
    assert world.writes() == []

    # when: as the page and the hint say
    (world.agent.state_dir / "cluster-eu-1.json").unlink()
    with world.agent.start() as daemon:
        daemon.wait_for("target in sync", target="web@eu-1", objects=2)

    # then
    assert world.names() == {"settings", "more"}


def test_a_cluster_restored_from_a_backup_is_read_afresh_and_what_git_says_applied_again(
    world: World, tmp_path: Path
) -> None:
    # given: since the backup much was created, and one object deleted
    world.commit("settings", "old")
    with world.agent.start() as daemon:
        daemon.wait_for("target in sync", objects=2)
        world.cluster.back_up(tmp_path / "backup")
        since = daemon.now
        commit = world.commit(*MANY, without="old")
        daemon.wait_for("target in sync", since=since, revision=f"main@sha1:{commit}", objects=len(MANY) + 1, within_s=60)  # fmt: skip
        assert world.names() == {"settings", *MANY}
        since = daemon.now

        # when
        world.restore(tmp_path / "backup")

        # then
        changed = daemon.wait_for("cluster changed", since=since, cluster="eu-1", within_s=60)
        assert (changed["remedy"], "older state" in changed["error"]) == ("wait", True)
        at = daemon.lines.index(changed)
        daemon.wait_for("cluster recovered", since=at, within_s=60)
        daemon.wait_for("target in sync", since=at, objects=len(MANY) + 1, within_s=60)
        assert world.names() == {"settings", *MANY}
        assert world.place()["state"] == "ready"
        assert Hand(world.cluster, "ConfigMap", "web", "old").find() is None

    # then: the lease apart, which is the same one, nothing was written before it was noticed
    objects = [event for event in world.writes() if not event.is_lease]
    assert [e for e in objects if e.received < changed["timestamp"]] == []
    assert len(objects) > len(MANY)
