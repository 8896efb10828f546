"""What the machine allows one process is used up: said, survived, and over as soon as there is room again."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.e2e.daemon import Agent, until
from tests.e2e.hands import Hand, config_map, files
from tests.gitserver.repository import Repo
from tests.sandbox import Cluster

pytestmark = pytest.mark.real


@pytest.fixture
def ready(bare_cluster: Cluster, agent: Agent, repo: Repo, namespace: str) -> Agent:
    bare_cluster.create_namespace(namespace)
    agent.document["agent"] |= {"name": namespace, "cluster_namespace": f"{namespace}-agent"}
    agent.cluster("here", bare_cluster.kubeconfig)
    agent.source("fleet", repo.url)
    agent.target("web", path="web", namespace=namespace, wait={"enabled": False})
    commit(repo, "first")
    return agent


def commit(repo: Repo, *names: str) -> str:
    return repo.commit({f"web/{name}": text for name, text in files([config_map(name) for name in names]).items()})


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_a_daemon_without_a_free_descriptor_says_so_and_goes_on_when_there_are_some(
    ready: Agent, repo: Repo, bare_cluster: Cluster, namespace: str
) -> None:
    with ready.start() as daemon:
        daemon.wait_for("target in sync", target="web@here")
        used = descriptors(daemon.pid)
        _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)

        # when: not one more can be opened, and there is something to fetch
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used, hard))
        since = daemon.now
        commit(repo, "second")
        failure = daemon.wait_for("source unreachable", since=since, within_s=60)

        # then: what is wrong is named with a fix, and what is open goes on to be used
        assert failure["hint"]
        Hand(bare_cluster, "ConfigMap", namespace, "first").patch({"data": {"value": "hand"}}, manager="kubectl-edit")
        daemon.wait_for("drift reverted", object=f"ConfigMap/{namespace}/first", since=since)

        # when
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))

        # then
        daemon.wait_for("source recovered", since=since, within_s=60)
        until(lambda: Hand(bare_cluster, "ConfigMap", namespace, "second").find(), "the second commit", within_s=60)
