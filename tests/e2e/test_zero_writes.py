"""What is in sync costs no write: not in a second turn, not after a restart, not in a pass of its own.

The server rewrites what it is sent: it fills in defaults, moves text data, normalises quantities. None of it may look
like drift. Counted by the API server itself, and seen at the versions of all objects, the inventory included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.corpus import DOCUMENTS
from tests.e2e.daemon import Agent, Daemon
from tests.gitserver.repository import Repo
from tests.sandbox import AuditEvent, Cluster
from tests.sandbox.fixtures import MakeCluster

pytestmark = pytest.mark.real

AGENT = "edge-zero"


@dataclass(slots=True)
class World:
    """A daemon that has brought the whole corpus in sync."""

    agent: Agent
    cluster: Cluster
    repo: Repo
    daemon: Daemon

    def writes(self) -> list[AuditEvent]:
        return [event for event in self.cluster.audit(user_agent="gitsyncd/") if event.is_write and not event.is_lease]

    def versions(self) -> dict[str, str]:
        """Of every object of ours and of the inventory."""
        found = {}
        for path in _collections(self.cluster):
            for label in (f"gitsyncd.dev/agent={AGENT}", f"gitsyncd.dev/inventory={AGENT}"):
                answer = self.cluster.request("GET", f"{path}?labelSelector={label.replace('/', '%2F')}")
                for item in answer["items"]:
                    metadata = item["metadata"]
                    found[f"{path} {metadata.get('namespace', '')} {metadata['name']}"] = metadata["resourceVersion"]
        return found


def _collections(cluster: Cluster) -> Iterator[str]:
    """The path of every kind that can be listed."""
    groups: Any = cluster.request("GET", "/apis")["groups"]
    for base in ("/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)):
        for resource in cluster.request("GET", base)["resources"]:
            if "list" in resource["verbs"] and "/" not in resource["name"]:
                yield f"{base}/{resource['name']}"


@pytest.fixture(scope="module")
def world(make_shared_cluster: MakeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("zero")
    cluster = make_shared_cluster(audit=True)
    cluster.create_namespace("zero")
    repo = Repo(folder / "fleet.git")
    agent = Agent(folder / "agent", name=AGENT)
    agent.cluster("here", cluster.kubeconfig)
    agent.source("fleet", repo.url)
    agent.target("zero", path="zero", namespace="zero", wait={"enabled": False})
    agent.target("merging", path="merging", namespace="zero", wait={"enabled": False},
                 ignore_fields=[{"kind": "ConfigMap", "paths": ["/data/a"]}], drift={"foreign_fields": "revert-all"})  # fmt: skip
    files = {f"zero/{number:02}.yaml": document for number, document in enumerate(DOCUMENTS)}
    merging = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "yielding"}, "data": {"a": "1", "b": "2"}}
    repo.commit({**files, "merging/a.yaml": json.dumps(merging)})
    with agent.start() as daemon:
        daemon.wait_for("daemon ready", within_s=60)
        assert [*daemon.said("render failed"), *daemon.said("object failed"), *daemon.said("target failed")] == []
        daemon.wait_for("target in sync", target="zero@here")
        daemon.wait_for("target in sync", target="merging@here")
        yield World(agent, cluster, repo, daemon)


def test_the_corpus_holds_more_than_thirty_kinds(world: World) -> None:
    kinds = {name.split()[0] for name in world.versions()}
    assert len(kinds) > 35, sorted(kinds)


def test_a_further_turn_a_restart_and_a_single_pass_write_nothing(world: World) -> None:
    before, written = world.versions(), len(world.writes())
    assert written >= len(before)

    world.daemon.wait_for("plan made", target="zero@here")
    synced = world.agent.run("sync", "zero", "merging", "--wait")
    assert synced.code == 0, synced.stdout
    again = world.repo.commit({"elsewhere/README.md": "A commit that changes no object."})
    until_revision(world, again)
    moved = world.repo.commit({"zero/00.yaml": f"# a comment\n{DOCUMENTS[0]}"})
    until_revision(world, moved)

    plan = world.agent.run("plan", "--output", "json")
    assert plan.code == 0, plan.stdout
    world.daemon.stop()
    once = world.agent.run("run", "--once", within_s=90)
    assert once.code == 0, once.stdout
    with world.agent.start() as second:
        second.wait_for("daemon ready", within_s=60)
        assert world.agent.run("sync", "zero", "merging", "--wait").code == 0
        second.stop()

    assert [f"{event.verb} {event.uri} {event.code}" for event in world.writes()[written:]] == []
    assert world.versions() == before


def until_revision(world: World, commit: str) -> None:
    world.daemon.wait_for("source updated", revision=lambda text: str(text).endswith(commit))
    ran = world.agent.run("sync", "zero", "merging", "--wait", "--output", "json")
    assert {target["revision"].rpartition(":")[2] for target in ran.json["targets"]} == {commit}
