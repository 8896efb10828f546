"""Two daemons of one name on one cluster: whatever happens to them, they never both write.

Each has a user of its own, so that the API server's audit log tells them apart. Who holds the lease at a moment is what
that log says, too: whoever last renewed or took it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.daemon import Agent, Daemon, Json, until
from tests.e2e.hands import Hand, config_map, files
from tests.gitserver.repository import Repo
from tests.sandbox import AuditEvent, Cluster
from tests.sandbox.fixtures import MakeCluster

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]

USERS = ("alice", "bob", "carol")
HAND_OVER_S = 30.0


@dataclass(slots=True)
class World:
    """Clusters that are audited, one repository, and as many daemons of one name as are asked for."""

    folder: Path
    clusters: dict[str, Cluster]
    repo: Repo
    stack: ExitStack

    def agent(self, user: str, *, shares: bool = False) -> Agent:
        """A daemon of the common name, which reaches the clusters as this user."""
        agent = Agent(self.folder / user, name="edge")
        for name, cluster in self.clusters.items():
            cluster.grant(user)
            agent.cluster(name, cluster.kubeconfig_for(user))
        agent.source("fleet", self.repo.url)
        agent.target("web", path="web", namespace="web", wait={"enabled": False})
        if shares:
            agent.document["agent"]["shard"] = {"by": "cluster"}
        return agent

    def start(self, agent: Agent) -> Daemon:
        return self.stack.enter_context(agent.start())

    def commit(self, *names: str) -> str:
        texts = files([config_map(name) for name in names])
        return self.repo.commit({f"web/{name}": text for name, text in texts.items()})

    def names(self, cluster: str) -> set[str]:
        path = "/api/v1/namespaces/web/configmaps?labelSelector=gitsyncd.dev/agent=edge"
        return {item["metadata"]["name"] for item in self.clusters[cluster].request("GET", path)["items"]}

    def holder(self, cluster: str) -> str:
        """Empty when there is no lease yet."""
        path = "/apis/coordination.k8s.io/v1/namespaces/gitsyncd/leases?fieldSelector=metadata.name=gitsyncd.edge"
        leases: list[Json] = self.clusters[cluster].request("GET", path)["items"]
        return "".join(str(lease["spec"].get("holderIdentity", "")) for lease in leases)

    def holds(self, cluster: str, daemon: Daemon) -> bool:
        return f"/{daemon.pid}/" in self.holder(cluster)


@pytest.fixture
def world(make_cluster: MakeCluster, tmp_path: Path) -> Iterator[Callable[..., World]]:
    with ExitStack() as stack:

        def make(*names: str) -> World:
            clusters = {name: make_cluster(audit=True) for name in names}
            for cluster in clusters.values():
                cluster.create_namespace("web")
            return World(tmp_path, clusters, Repo(tmp_path / "fleet.git"), stack)

        yield make


def tenures(events: list[AuditEvent]) -> list[tuple[str, str]]:
    """Since when which user was named by the lease, oldest first; the user is empty where nobody was."""
    users: dict[str, str] = {}
    named: list[tuple[str, str]] = []
    for event in sorted((e for e in events if e.is_lease and e.is_write and e.code < 300), key=lambda e: e.answered):
        steps = event.body if isinstance(event.body, list) else []
        tested = {step["path"]: step["value"] for step in steps if step["op"] == "test"}
        added = {step["path"]: step["value"] for step in steps if step["op"] == "add"}
        removed = {step["path"] for step in steps if step["op"] == "remove"}
        key = "/spec/holderIdentity"
        if event.verb == "create":
            holder = event.body["spec"]["holderIdentity"]
        elif key in added or key in removed:
            holder = added.get(key, "")
        elif key in tested:
            holder = tested[key]
        else:
            continue  # a candidate, which changes nothing about who holds it
        if key in tested:
            users[tested[key]] = event.user
        elif holder:
            users[holder] = event.user
        named.append((event.answered, holder))
    return [(moment, users.get(holder, "")) for moment, holder in named]


def trespasses(events: list[AuditEvent]) -> list[tuple[str, AuditEvent]]:
    """Writes by a user who did not hold the lease when the server received them, with the user who did."""
    known = tenures(events)
    assert known
    found = []
    for event in events:
        if event.user in USERS and event.is_write and not event.is_lease and event.code < 300:
            holder = [user for moment, user in known if moment <= event.received][-1:] or [""]
            if holder != [event.user] and event.resource != "namespaces":
                found.append((holder[0], event))
    return found


def writes(cluster: Cluster, user: str) -> list[AuditEvent]:
    return [e for e in cluster.audit(user=user) if e.is_write and not e.is_lease and e.code < 300]


def test_one_that_is_paused_in_the_middle_of_a_commit_writes_nothing_until_it_holds_the_lease_again(
    world: Callable[..., World],
) -> None:
    # given: one writes, the other stands by and says so
    here = world("c1")
    cluster = here.clusters["c1"]
    first = here.start(here.agent("alice"))
    here.commit("settings")
    first.wait_for("target in sync", target="web@c1")
    standby_agent = here.agent("bob")
    second = here.start(standby_agent)
    second.wait_for("target waiting", target="web@c1")
    second.wait_for("daemon ready")
    assert standby_agent.run("status").code == 1
    assert writes(cluster, "bob") == []

    # when: paused with some of 400 objects written
    many = [f"m{number:03}" for number in range(400)]
    here.commit(*many)
    until(lambda: len(here.names("c1")) > 40, "some of the objects")
    os.kill(first.pid, signal.SIGSTOP)

    # then: the other takes over and finishes the work
    second.wait_for("target in sync", target="web@c1", within_s=HAND_OVER_S + 30, objects=401)
    assert here.holds("c1", second)
    assert here.names("c1") == {"settings", *many}

    # when: it wakes up while the other writes
    paused_writes = len(writes(cluster, "alice"))
    here.commit(*[f"n{number:03}" for number in range(200)])
    until(lambda: len(here.names("c1")) > 420, "some of the next objects")
    os.kill(first.pid, signal.SIGCONT)
    first.wait_for("target waiting", target="web@c1", within_s=30)
    second.wait_for("target in sync", target="web@c1", objects=601)

    # then
    assert len(writes(cluster, "alice")) == paused_writes
    Hand(cluster, "ConfigMap", "web", "settings").patch({"data": {"value": "hand"}}, manager="kubectl-edit")
    second.wait_for("drift reverted", object="ConfigMap/web/settings")

    # when: the other ends, and this one goes on at once
    since = first.now
    assert second.stop() == 0
    first.wait_for("target in sync", target="web@c1", since=since, within_s=10)
    assert here.holds("c1", first)
    assert trespasses(cluster.audit()) == []


def test_one_that_is_killed_is_followed_by_the_other_and_by_its_own_successor_at_once(
    world: Callable[..., World],
) -> None:
    here = world("c1")
    agent = here.agent("alice")
    first = here.start(agent)
    here.commit("settings")
    first.wait_for("target in sync", target="web@c1")

    first.kill()
    again = here.start(agent)

    # Its predecessor is known to be over, so the lease need not expire.
    again.wait_for("target in sync", target="web@c1", within_s=10)
    second = here.start(here.agent("bob"))
    second.wait_for("daemon ready")
    again.kill()
    second.wait_for("target in sync", target="web@c1", within_s=HAND_OVER_S)
    assert trespasses(here.clusters["c1"].audit()) == []


def test_a_single_pass_beside_a_daemon_writes_nothing_and_says_who_does(world: Callable[..., World]) -> None:
    here = world("c1")
    first = here.start(here.agent("alice"))
    here.commit("settings")
    first.wait_for("target in sync", target="web@c1")

    once = here.agent("bob").run("run", "--once")

    assert once.code == 1
    assert "target waiting" in once.stdout
    assert f"/{first.pid}/" in once.stdout
    assert writes(here.clusters["c1"], "bob") == []


def test_plan_and_diff_need_no_lease(world: Callable[..., World]) -> None:
    here = world("c1")
    first = here.start(here.agent("alice"))
    here.commit("settings")
    first.wait_for("target in sync", target="web@c1")

    plan = here.agent("bob").run("plan")

    assert plan.code == 0, plan.stdout + plan.stderr
    assert here.holds("c1", first)


def test_daemons_that_share_divide_three_clusters_and_again_within_half_a_minute_of_a_kill(
    world: Callable[..., World],
) -> None:
    here = world("c1", "c2", "c3")
    here.commit("settings")
    daemons = [here.start(here.agent(user, shares=True)) for user in USERS]

    def division(alive: list[Daemon]) -> list[int]:
        return sorted(sum(here.holds(name, daemon) for name in here.clusters) for daemon in alive)

    # when they came one after the other, or all at once
    until(lambda: division(daemons) == [1, 1, 1], "one cluster each", within_s=HAND_OVER_S)
    for name in here.clusters:
        until(lambda name=name: "settings" in here.names(name), f"the object on {name}")  # type: ignore[misc]

    # when one is killed
    daemons[0].kill()
    left = daemons[1:]
    until(lambda: division(left) == [1, 2], "three clusters for two", within_s=HAND_OVER_S)
    here.commit("second")
    for name in here.clusters:
        until(lambda name=name: "second" in here.names(name), f"the second object on {name}")  # type: ignore[misc]

    # when one ends by itself
    assert left[0].stop() == 0
    until(lambda: division(left[1:]) == [3], "three clusters for one", within_s=10)
    for cluster in here.clusters.values():
        assert trespasses(cluster.audit()) == []
