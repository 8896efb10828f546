"""Several targets beside each other: what moves between them, what is removed, and what is never deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Agent, Daemon, Json, until
from tests.e2e.hands import AGENT_LABEL, Hand, config_map, files
from tests.gitserver.repository import Repo
from tests.sandbox import Cluster

pytestmark = pytest.mark.real


@dataclass(slots=True)
class World:
    """One agent of a test's own on the shared cluster, with targets that have a folder and a namespace each."""

    agent: Agent
    cluster: Cluster
    repo: Repo
    name: str

    def target(self, name: str, **keys: Any) -> None:
        self.agent.target(name, path=name, namespace=self.namespace(name), wait={"enabled": False}, **keys)
        self.cluster.create_namespace(self.namespace(name))

    def namespace(self, target: str) -> str:
        return f"{self.name}-{target}"

    def hand(self, target: str, name: str, kind: str = "ConfigMap") -> Hand:
        return Hand(self.cluster, kind, self.namespace(target), name)

    def names(self, target: str) -> set[str]:
        """Of the ConfigMaps that are live in a target's namespace."""
        items = self.cluster.request("GET", f"/api/v1/namespaces/{self.namespace(target)}/configmaps")["items"]
        return {item["metadata"]["name"] for item in items}

    def inventories(self) -> list[Json]:
        """Those of the agent."""
        path = f"/api/v1/namespaces/gitsyncd-{self.name}/configmaps"
        return [
            item
            for item in self.cluster.request("GET", path)["items"]
            if item["metadata"]["name"] != "kube-root-ca.crt"
        ]

    def commit(self, changes: Mapping[str, str | None], message: str = "change") -> str:
        return f"main@sha1:{self.repo.commit(changes, message=message)}"

    def state(self, target: str) -> str:
        (found,) = self.agent.run("status", target, "--output", "json").json["targets"]
        return str(found["state"])


@pytest.fixture
def world(bare_cluster: Cluster, tmp_path: Path, namespace: str) -> World:
    name = f"targets-{namespace}"
    agent = Agent(tmp_path / "agent", name=name)
    agent.document["agent"]["cluster_namespace"] = f"gitsyncd-{name}"
    agent.cluster("here", bare_cluster.kubeconfig)
    repo = Repo(tmp_path / "fleet.git")
    agent.source("fleet", repo.url)
    return World(agent, bare_cluster, repo, name)


def maps(target: str, *names: str) -> dict[str, str]:
    """Files of ConfigMaps below a target's folder."""
    return {f"{target}/{file}": content for file, content in files([config_map(name) for name in names]).items()}


def gone(target: str, *names: str) -> dict[str, str | None]:
    return dict.fromkeys(maps(target, *names))


def in_sync(daemon: Daemon, target: str, revision: str, **facts: Any) -> Json:
    return daemon.wait_for("target in sync", target=f"{target}@here", revision=revision, **facts)


# --- moving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "destination"), [("a", "b"), ("b", "a")])
def test_a_file_that_moves_to_another_target_keeps_its_object(world: World, source: str, destination: str) -> None:
    for target in ("a", "b"):
        world.target(target)
    moving = {**config_map("moving"), "metadata": {"name": "moving", "namespace": world.namespace("a")}}
    first = world.commit({f"{source}/moving.yaml": json.dumps(moving), **maps("a", "stays-a"), **maps("b", "stays-b")})
    with world.agent.start() as daemon:
        in_sync(daemon, source, first, objects=2)
        hand = world.hand("a", "moving")
        uid = hand.uid

        second = world.commit({f"{source}/moving.yaml": None, f"{destination}/moving.yaml": json.dumps(moving)})
        in_sync(daemon, destination, second, objects=2)
        in_sync(daemon, source, second, objects=1)
        assert hand.uid == uid
        assert hand.get()["metadata"]["annotations"]["gitsyncd.dev/target"] == destination
        released = daemon.wait_for("object released", object=hand.id)
        assert released["target"] == f"{source}@here"
        assert f"handed over to target {destination}" in released["reason"]

        third = world.commit({f"{destination}/moving.yaml": None})
        in_sync(daemon, destination, third)
        assert hand.find() is None
        assert [line["target"] for line in daemon.said("object pruned")] == [f"{destination}@here"]


def test_a_branch_and_folder_for_each_cluster(make_two: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    repo, agent = Repo(tmp_path / "fleet.git"), Agent(tmp_path / "agent", name="pair")
    agent.source("fleet", repo.url)
    for name, cluster in zip(("eu", "us"), make_two, strict=True):
        agent.cluster(name, cluster.kubeconfig, labels={"region": name})
        cluster.create_namespace("pair")
    agent.target("web", path="clusters/{cluster}", namespace="pair")
    agent.target("same", path="regions/{labels.region}", namespace="pair", clusters={"match": {"region": "us"}})
    repo.commit(
        {**maps("clusters/eu", "eu", "both"), **maps("clusters/us", "us", "both"), **maps("regions/us", "extra")}
    )
    with agent.start() as daemon:
        daemon.wait_for("daemon ready")
        hands = [Hand(cluster, "ConfigMap", "pair", "both") for cluster in make_two]
        live = [_map_names(cluster, "pair") for cluster in make_two]
        assert live == [{"eu", "both"}, {"us", "both", "extra"}]

        make_two[0].stop_apiserver()
        daemon.wait_for("cluster unreachable", cluster="eu")
        hands[1].patch({"data": {"value": "by hand"}}, "kubectl-edit")
        healed = daemon.wait_for("drift reverted", target="web@us")
        assert healed["object"] == "ConfigMap/pair/both"
        since = daemon.now
        make_two[0].start_apiserver()
        daemon.wait_for("cluster recovered", cluster="eu", since=since)
        hands[0].patch({"data": {"value": "by hand"}}, "kubectl-edit")
        daemon.wait_for("drift reverted", target="web@eu", since=since)


@pytest.fixture
def make_two(make_cluster: Callable[[], Cluster]) -> tuple[Cluster, Cluster]:
    return make_cluster(), make_cluster()


def _map_names(cluster: Cluster, namespace: str) -> set[str]:
    items = cluster.request("GET", f"/api/v1/namespaces/{namespace}/configmaps")["items"]
    return {item["metadata"]["name"] for item in items}


def test_a_broken_target_does_not_stop_its_neighbour(world: World) -> None:
    for target in ("good", "bad"):
        world.target(target)
    world.commit({**maps("good", "a"), "bad/wrong.yaml": "kind: {"})
    with world.agent.start() as daemon:
        daemon.wait_for("daemon ready")
        daemon.wait_for("render failed", target="bad@here")
        daemon.wait_for("target in sync", target="good@here")
        assert world.agent.run("status").code == 1

        second = world.commit(maps("good", "b"))
        in_sync(daemon, "good", second, objects=2)
        since = daemon.now
        world.hand("good", "a").delete()
        daemon.wait_for("drift reverted", target="good@here", kind="deleted", since=since)


# --- removing ---------------------------------------------------------------------------------------------------------


def test_a_target_that_leaves_the_agent_file_leaves_its_objects_and_delete_removes_them(world: World) -> None:
    for target in ("stays", "leaves"):
        world.target(target)
    world.commit({**maps("stays", "s"), **maps("leaves", "a", "b")})
    with world.agent.start() as daemon:
        daemon.wait_for("daemon ready")
    world.agent.document["targets"] = [t for t in world.agent.document["targets"] if t["name"] != "leaves"]

    with world.agent.start() as daemon:
        daemon.wait_for("daemon ready")
        assert world.names("leaves") == {"a", "b"}
        assert any("leaves" in item["metadata"]["name"] for item in world.inventories())
        assert world.state("leaves@here") == "unmanaged"
        refused = world.agent.run("delete", "leaves")
        assert refused.code != 0 and "--yes" in refused.stderr
        assert world.agent.run("delete", "stays", "--yes").code != 0, "one that is in the file and not suspended"
        assert world.names("stays") == {"s"}

        ran = world.agent.run("delete", "leaves", "--yes")

        assert ran.code == 0, ran.stderr + ran.stdout
        assert world.names("leaves") == set()
        assert not any("leaves" in item["metadata"]["name"] for item in world.inventories())
        assert world.names("stays") == {"s"}


def test_delete_empties_a_suspended_target(world: World) -> None:
    world.target("paused")
    world.commit(maps("paused", *(f"m-{number}" for number in range(12))))
    with world.agent.start() as daemon:
        daemon.wait_for("daemon ready")
        assert world.agent.run("suspend", "paused", "--for", "1h", "--reason", "moving out").code == 0
        ran = world.agent.run("delete", "paused", "--yes")
        assert ran.code == 0, ran.stderr + ran.stdout
        assert world.names("paused") == set()


# --- what is never deleted, and what needs a word first ---------------------------------------------------------------


def test_a_namespace_is_never_deleted_while_git_wants_an_object_in_it(world: World) -> None:
    for target in ("spaces", "users"):
        world.target(target)
    place = f"{world.name}-place"
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place}}
    inside = {**config_map("inside"), "metadata": {"name": "inside", "namespace": place}}
    first = world.commit(
        {"spaces/place.yaml": json.dumps(space), **maps("spaces", "other"), "users/inside.yaml": json.dumps(inside)}
    )
    with world.agent.start() as daemon:
        in_sync(daemon, "users", first)
        in_sync(daemon, "spaces", first)

        second = world.commit(
            {"spaces/place.yaml": None, "spaces/note.md": "prune=1"}, "drop it\n\nGitsyncd-Approve: spaces prune=1\n"
        )

        failed = daemon.wait_for("object failed", object=f"Namespace/{place}")
        assert (failed["operation"], failed["target"]) == ("block", "spaces@here")
        assert "Git still wants objects in this namespace" in failed["error"]
        daemon.wait_for("target failed", target="spaces@here", revision=second)
        third = world.commit({"users/inside.yaml": None, **maps("users", "instead")})
        in_sync(daemon, "users", third)
        refused = daemon.wait_for("plan refused", target="spaces@here", revision=third, within_s=20)
        assert "needs approval" in refused["reason"]
        metadata = Hand(world.cluster, "Namespace", "", place).get()["metadata"]
        assert "deletionTimestamp" not in metadata
        approved = world.agent.run("approve", "spaces", "--plan", refused["plan"])
        assert approved.code == 0, approved.stderr
        hand = Hand(world.cluster, "Namespace", "", place)
        until(lambda: "deletionTimestamp" in hand.get()["metadata"], "the delete that was approved")


def test_protected_namespaces_are_released_and_not_deleted(world: World) -> None:
    world.target("spaces")
    names = ("default", "kube-public", f"gitsyncd-{world.name}")
    spaces = {
        f"spaces/{name}.yaml": json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for name in names
    }
    first = world.commit({**spaces, **maps("spaces", "other")})
    with world.agent.start() as daemon:
        in_sync(daemon, "spaces", first, objects=4)
        second = world.commit(dict.fromkeys(spaces, None))
        in_sync(daemon, "spaces", second, objects=1)
        for name in names:
            released = daemon.wait_for("object released", object=f"Namespace/{name}")
            assert released["reason"] == "never deleted by gitsyncd"
            assert "deletionTimestamp" not in Hand(world.cluster, "Namespace", "", name).get()["metadata"]
        assert daemon.said("object pruned") == []


def test_too_many_deletes_are_refused_until_approved_and_drift_is_reverted_meanwhile(world: World) -> None:
    world.target("many")
    names = [f"m-{number:02}" for number in range(20)]
    world.commit(maps("many", *names))
    with world.agent.start() as daemon:
        daemon.wait_for("daemon ready")
        leaving = gone("many", *names[:12])

        second = world.commit({**leaving, **maps("many", "new")})

        refused = daemon.wait_for("plan refused", target="many@here", revision=second)
        assert (refused["prune"], refused["limit"]) == (12, 10)
        assert refused["plan"][:8] in refused["hint"]
        daemon.wait_for("object applied", object=world.hand("many", "new").id)
        assert world.state("many@here") == "refused"
        plan = world.agent.run("plan", "many", "--output", "json")
        assert plan.code == 3
        assert plan.json["targets"][0]["refused"]["prune"] == 12
        for name in ("m-00", "m-19"):
            world.hand("many", name).patch({"data": {"value": "by hand"}}, "kubectl-edit")
        daemon.wait_for("drift reverted", object=world.hand("many", "m-19").id)
        assert len(world.names("many")) == 21
        wrong = world.agent.run("approve", "many", "--plan", "0" * 32)
        assert wrong.code == 2

        digest = world.agent.run("plan", "many", "--output", "json").json["targets"][0]["plan"]
        assert world.agent.run("approve", "many", "--plan", digest).code == 0
        in_sync(daemon, "many", second, objects=9)
        assert world.names("many") == {*names[12:], "new"}


@pytest.mark.parametrize(("count", "passes"), [(12, True), (11, False)])
def test_a_trailer_lets_exactly_the_deletes_through_that_it_counts(world: World, count: int, passes: bool) -> None:
    world.target("many")
    names = [f"m-{number:02}" for number in range(20)]
    world.commit(maps("many", *names))
    with world.agent.start() as daemon:
        daemon.wait_for("daemon ready")
        second = world.commit(gone("many", *names[:12]), f"clean up\n\nGitsyncd-Approve: many prune={count}\n")
        if passes:
            in_sync(daemon, "many", second, objects=8)
            assert daemon.said("plan refused") == []
        else:
            daemon.wait_for("plan refused", revision=second)
        assert len(world.names("many")) == (8 if passes else 20)


def test_an_emptied_folder_deletes_nothing(world: World) -> None:
    world.target("all")
    world.commit(maps("all", "a", "b"))
    with world.agent.start() as daemon:
        daemon.wait_for("daemon ready")
        second = world.commit({**gone("all", "a", "b"), "all/README.md": "empty"})
        refused = daemon.wait_for("plan refused", revision=second)
        assert "no object at all" in refused["reason"]
        third = world.commit({"all": None, "README.md": "gone"})
        daemon.wait_for("target failed", revision=third)
        assert world.names("all") == {"a", "b"}


CRD_SPEC = {
    "scope": "Namespaced",
    "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}],
}


def test_a_definition_is_not_deleted_without_approval(world: World) -> None:
    world.target("kinds")
    group = f"{world.name}.example.com"
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {**CRD_SPEC, "group": group, "names": {"kind": "Widget", "plural": "widgets"}},
    }
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "one"}}
    world.commit({"kinds/crd.yaml": json.dumps(crd), "kinds/one.yaml": json.dumps(widget), **maps("kinds", "a")})
    with world.agent.start() as daemon:
        daemon.wait_for("target in sync", target="kinds@here", objects=3)
        second = world.commit({"kinds/crd.yaml": None})
        refused = daemon.wait_for("plan refused", revision=second)
        assert f"CustomResourceDefinition.apiextensions.k8s.io/widgets.{group}" in refused["reason"]
        path = f"/apis/{group}/v1/namespaces/{world.namespace('kinds')}/widgets/one"
        assert "deletionTimestamp" not in world.cluster.request("GET", path)["metadata"]


# --- deletes that take their time, and objects that change hands ------------------------------------------------------


def test_a_delete_that_a_finalizer_holds_is_told_when_it_is_over(world: World) -> None:
    world.target("slow")
    world.commit(maps("slow", "held", "stays"))
    with world.agent.start() as daemon:
        daemon.wait_for("daemon ready")
        hand = world.hand("slow", "held")
        hand.patch({"metadata": {"finalizers": ["example.com/hold"]}}, "kubectl-edit")

        second = world.commit(gone("slow", "held"))
        until(lambda: "deletionTimestamp" in hand.get()["metadata"], "the delete to be accepted")
        in_sync(daemon, "slow", second)
        assert daemon.said("object pruned") == []
        assert _recorded(world, hand), "the entry stays while the object does"
        hand.patch({"metadata": {"finalizers": None}}, "kubectl-edit")

        pruned = daemon.wait_for("object pruned", object=hand.id, within_s=15)
        assert pruned["target"] == "slow@here"
        until(lambda: not _recorded(world, hand), "the entry to go")
        assert len(daemon.said("object pruned")) == 1


def _recorded(world: World, hand: Hand) -> bool:
    return any(hand.name in json.dumps(item["data"]) for item in world.inventories() if "data" in item)


def test_an_object_that_another_agent_has_marked_is_released_and_not_deleted(world: World) -> None:
    world.target("ours")
    world.commit(maps("ours", "taken", "stays"))
    with world.agent.start() as daemon:
        daemon.wait_for("daemon ready")
        hand = world.hand("ours", "taken")
        hand.apply(
            config_map("taken", labels={AGENT_LABEL: "other"}, annotations={"gitsyncd.dev/target": "theirs", "gitsyncd.dev/id": hand.id}),
            "gitsyncd/other",
        )  # fmt: skip

        second = world.commit(gone("ours", "taken"))

        released = daemon.wait_for("object released", object=hand.id)
        assert released["reason"] == "ownership changed on the cluster"
        in_sync(daemon, "ours", second)
        assert hand.find() is not None


@pytest.mark.parametrize("running", [True, False])
def test_a_lost_inventory_is_rebuilt_and_nothing_is_deleted_in_that_turn(world: World, running: bool) -> None:
    world.target("lost")
    names = [f"m-{number}" for number in range(6)]
    world.commit(maps("lost", *names))
    daemon = world.agent.start()
    with daemon:
        daemon.wait_for("daemon ready")
        if running:
            _lose(world)
            second = world.commit(gone("lost", "m-0"))
            _pruned_later(world, daemon, second)
    if running:
        return
    _lose(world)
    second = world.commit(gone("lost", "m-0"))
    with world.agent.start() as daemon:
        _pruned_later(world, daemon, second)


def _lose(world: World) -> None:
    for item in world.inventories():
        if "inventory" in json.dumps(item["metadata"].get("labels", {})):
            world.cluster.request(
                "DELETE", f"/api/v1/namespaces/gitsyncd-{world.name}/configmaps/{item['metadata']['name']}"
            )


def _pruned_later(world: World, daemon: Daemon, revision: str) -> None:
    """The turn that rebuilds deletes nothing; a later one deletes what left Git."""
    until(lambda: "m-0" not in world.names("lost"), "the delete that left Git")
    events = [line for line in daemon.lines if line.get("target") == "lost@here"]
    rebuilt = next(n for n, line in enumerate(events) if "rebuilt from the marks" in json.dumps(line))
    plans = [line for line in events[rebuilt:] if line["event"] == "plan made"]
    assert plans[0]["prune"] == 0
    in_sync(daemon, "lost", revision)
    assert world.inventories()


def test_a_new_commit_takes_over_in_the_middle_of_a_long_turn(world: World) -> None:
    world.target("long")
    count = 400
    for cluster in world.agent.document["clusters"]:
        cluster["limits"] = {"parallel": 1}
    all_of_them = {f"long/all-{number:03}.yaml": json.dumps(config_map(f"m-{number:03}")) for number in range(count)}
    first = world.commit(all_of_them)
    with world.agent.start() as daemon:
        daemon.wait_for("object applied", revision=first)
        with world.cluster.frozen():  # else the turn may be over before the commit is seen
            changed = config_map("m-000") | {"data": {"value": "second"}}
            second = world.commit({"long/all-000.yaml": json.dumps(changed), "long/all-001.yaml": None})
            daemon.wait_for("source updated", revision=second)
        in_sync(daemon, "long", second, objects=count - 1)
        applied = daemon.said("object applied", revision=first)
        assert len(applied) < count, "the first turn ended before all was done"
        assert len(daemon.said("target in sync", revision=first)) == 0
        assert world.hand("long", "m-000").get()["data"] == {"value": "second"}
        assert len(world.names("long") - {"kube-root-ca.crt"}) == count - 1
