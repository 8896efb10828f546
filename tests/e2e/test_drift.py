"""What people and programs do to live objects by hand: undone or left as policy says, and told exactly once.

One daemon, one target for each policy, and for each test objects of its own that are there from the beginning: an edit
costs milliseconds, so every way of editing can be tried. That something is left alone is known by the revert of another
object of the same kind that was edited later: one watch brings both, in order.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.e2e.daemon import Agent, Daemon, Json, until
from tests.e2e.hands import (
    AGENT_LABEL,
    JSON_PATCH,
    MARKS,
    STRATEGIC,
    Hand,
    autoscaler,
    config_map,
    deployment,
    files,
)
from tests.gitserver.repository import Repo
from tests.sandbox import ApiError, Cluster

pytestmark = pytest.mark.real

POLICIES: dict[str, Json] = {
    "web": {},
    "all": {"drift": {"foreign_fields": "revert-all"}},
    "tells": {"drift": {"foreign_fields": "report"}},
    "silent": {"drift": {"foreign_fields": "ignore"}},
    "reports": {"drift": {"action": "report"}},
    "yields": {"ignore_fields": [{"kind": "Deployment", "paths": ["/spec/replicas"]}, {"kind": "ConfigMap", "paths": ["/data/value"]}]},
    "changes": {"interval": "1s"},
}  # fmt: skip
KEYS = {"timestamp", "level", "event", "target", "object", "kind", "fields", "manager", "writer", "at", "took_s"}
SPARES = {"web": 100}
CONTAINER = '.spec.template.spec.containers[name="web"]'


@dataclass(slots=True)
class World:
    """The running daemon, and objects that no test has had yet."""

    agent: Agent
    cluster: Cluster
    repo: Repo
    daemon: Daemon
    spare: dict[tuple[str, str], Iterator[str]] = field(default_factory=dict)

    def fresh(self, kind: str = "ConfigMap", target: str = "web") -> Live:
        name = next(self.spare.setdefault((target, kind), (f"spare-{n:02}" for n in itertools.count())))
        return self.at(kind, target, name)

    def at(self, kind: str, target: str, name: str) -> Live:
        return Live(self, target, Hand(self.cluster, kind, f"drift-{target}", name), self.daemon.now)

    def commit(self, target: str, *objects: Json) -> str:
        return self.repo.commit({f"{target}/{name}": content for name, content in files(objects).items()})


@dataclass(slots=True)
class Live:
    """One object that is in sync when the test begins."""

    world: World
    target: str
    hand: Hand
    since: int

    def said(self) -> list[Json]:
        """Everything above debug that the log has of this object since the test has it."""
        lines = self.world.daemon.lines[self.since :]
        return [line for line in lines if line.get("object") == self.hand.id and line["level"] != "debug"]

    def reverted(self) -> Json:
        """The one line that is to be said of an edit, with every key that it promises."""
        line = self.world.daemon.wait_for("drift reverted", since=self.since, object=self.hand.id)
        self.settled()
        assert self.said() == [line], "a revert is told by one line alone"
        loud = [line for line in self.world.daemon.lines[self.since :] if line["level"] != "debug"]
        assert self.target != "web" or {line["event"] for line in loud if line.get("target") == "web@here"} == {
            "drift reverted"
        }
        assert set(line) == KEYS
        assert line["level"] == "warning"
        assert line["target"] == f"{self.target}@here"
        assert 0 < line["took_s"] < 10
        assert abs((datetime.now(UTC) - datetime.fromisoformat(line["at"])).total_seconds()) < 300
        return line

    def told(self) -> tuple[Any, ...]:
        """Kind, fields, manager and writer of that line."""
        line = self.reverted()
        return line["kind"], line["fields"], line["manager"], line["writer"]

    def settled(self) -> None:
        """Until everything that this object's watch has brought so far was looked at."""
        later = self.world.fresh(self.hand.kind)
        later.hand.patch({"metadata": {"labels": {AGENT_LABEL: "edge-drift", "app": "x"}}}, "kubectl-edit")
        self.world.daemon.wait_for("drift reverted", since=later.since, object=later.hand.id)

    def left_alone(self) -> list[Json]:
        """What was said of it, after it is certain that nothing will be written to it."""
        version = self.hand.version
        self.settled()
        assert self.hand.version == version
        return self.said()


@pytest.fixture(scope="module")
def world(bare_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("drift")
    repo = Repo(folder / "fleet.git")
    agent = Agent(folder / "agent", name="edge-drift")
    agent.document["agent"]["cluster_namespace"] = "gitsyncd-drift"
    agent.cluster("here", bare_cluster.kubeconfig)
    agent.source("fleet", repo.url)
    first: dict[str, str | bytes | None] = {}
    for target, policy in POLICIES.items():
        agent.target(target, path=target, namespace=f"drift-{target}", wait={"enabled": False}, **policy)
        bare_cluster.create_namespace(f"drift-{target}")
        names = [f"spare-{number:02}" for number in range(SPARES.get(target, 10))]
        objects = [make(name) for name in names for make in (config_map, deployment)]
        first |= {f"{target}/{name}": content for name, content in files(objects).items()}
    repo.commit(first)
    with agent.start() as daemon:
        daemon.wait_for("daemon ready")
        assert daemon.said("target failed") == []
        yield World(agent, bare_cluster, repo, daemon)


# --- values ------------------------------------------------------------------------------------------------------------


def test_a_value_changed_with_kubectl_edit_is_put_back_and_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    live = world.fresh("Deployment")
    hand, tmp = live.hand, world.agent.folder / "editor"
    tmp.write_text('#!/bin/sh\nexec sed -i s/nginx:1/nginx:9/ "$1"\n')
    tmp.chmod(0o755)
    env = world.cluster._env() | {"KUBE_EDITOR": str(tmp)}
    monkeypatch.setattr(world.cluster, "_env", lambda: env)

    hand.kubectl("edit")

    assert live.told() == ("changed", [f"{CONTAINER}.image"], "kubectl-edit", "person")
    assert _image(hand) == "nginx:1"


@dataclass(frozen=True)
class Edit:
    """One way to change a value that Git names, and what is to be told of it."""

    do: Callable[[Hand], object]
    told: tuple[Any, ...]
    kind: str = "ConfigMap"


def _replaced(hand: Hand) -> None:
    obj = hand.get()
    obj["data"]["value"] = "by hand"
    hand.cluster.kubectl("replace", "-f", "-", input=json.dumps(obj))


def _without(hand: Hand, *keys: str) -> Json:
    obj = copy.deepcopy(hand.get())
    *way, last = keys
    place = obj
    for key in way:
        place = place[key]
    del place[last]
    return obj


def _unmark(hand: Hand) -> None:
    hand.patch({"metadata": {"annotations": dict.fromkeys(MARKS)}}, "kubectl-annotate")


EDITS: dict[str, Edit] = {
    "kubectl patch": Edit(
        lambda hand: hand.kubectl("patch", "--type=merge", "-p", '{"data": {"value": "by hand"}}'),
        ("changed", [".data.value"], "kubectl-patch", "person"),
    ),
    "kubectl replace": Edit(_replaced, ("changed", [".data.value"], "kubectl-replace", "person")),
    "kubectl set image": Edit(
        lambda hand: hand.kubectl("set image", "web=nginx:9"),
        ("changed", [f"{CONTAINER}.image"], "kubectl-set", "person"),
        "Deployment",
    ),
    "kubectl scale": Edit(
        lambda hand: hand.kubectl("scale", "--replicas=5"),
        ("changed", [".spec.replicas"], "kubectl", "controller"),
        "Deployment",
    ),
    "a script": Edit(
        lambda hand: hand.patch({"data": {"value": "by hand"}}, "curl"), ("changed", [".data.value"], "curl", "person")
    ),
    "Helm": Edit(
        lambda hand: hand.patch({"data": {"value": "by hand"}}, "helm"), ("changed", [".data.value"], "helm", "delivery")
    ),
    "server-side apply by force": Edit(
        lambda hand: hand.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": hand.name}, "data": {"value": "theirs"}},
            "kustomize-controller",
        ),
        ("changed", [".data.value"], "kustomize-controller", "delivery"),
    ),
    "an operator": Edit(
        lambda hand: hand.patch({"data": {"value": "theirs"}}, "some-operator"),
        ("changed", [".data.value"], "some-operator", "controller"),
    ),
    "a program nobody knows": Edit(
        lambda hand: hand.patch({"data": {"value": "theirs"}}, "zorp"), ("changed", [".data.value"], "zorp", "unknown")
    ),
    "an argument of a container": Edit(
        lambda hand: hand.patch(
            {"spec": {"template": {"spec": {"containers": [{"name": "web", "args": ["-z"]}]}}}}, "kubectl-edit", kind=STRATEGIC
        ),
        ("changed", [f"{CONTAINER}.args"], "kubectl-edit", "person"),
        "Deployment",
    ),
    "a key removed": Edit(
        lambda hand: hand.put(_without(hand, "data", "value"), "kubectl-edit"),
        ("changed", [".data.value"], None, "unknown"),
    ),
    "our label removed": Edit(
        lambda hand: hand.kubectl("label", f"{AGENT_LABEL}-"),
        ("changed", [".metadata.labels"], None, "unknown"),
    ),
    "our annotations removed": Edit(_unmark, ("changed", [".metadata.annotations"], None, "unknown")),
    "one of our annotations changed": Edit(
        lambda hand: hand.kubectl("annotate", "--overwrite", "gitsyncd.dev/path=elsewhere"),
        ("changed", [".metadata.annotations.gitsyncd.dev/path"], "kubectl-annotate", "person"),
    ),
    "a field added by a person": Edit(
        lambda hand: hand.patch({"data": {"extra": "1"}}, "kubectl-edit"),
        ("added", [".data.extra"], "kubectl-edit", "person"),
    ),
    "a field added by Helm": Edit(
        lambda hand: hand.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": hand.name}, "data": {"extra": "1"}}, "helm"
        ),
        ("added", [".data.extra"], "helm", "delivery"),
    ),
    "a container added": Edit(
        lambda hand: hand.patch(
            {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "busybox"}]}}}}, "kubectl-edit", kind=STRATEGIC
        ),
        ("added", ['.spec.template.spec.containers[name="side"]'], "kubectl-edit", "person"),
        "Deployment",
    ),
    "deleted": Edit(lambda hand: hand.delete(), ("deleted", [], None, "unknown")),
    "managedFields stripped": Edit(
        lambda hand: hand.patch([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}], "zorp", kind=JSON_PATCH),
        ("ownership", [], None, "unknown"),
    ),
    "owned by another as well": Edit(
        lambda hand: hand.patch(
            [{"op": "replace", "path": "/metadata/managedFields/0/manager", "value": "zorp"}], "zorp", kind=JSON_PATCH
        ),
        ("ownership", [], "zorp", "unknown"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_undone_and_told(world: World, name: str) -> None:
    edit = EDITS[name]
    live = world.fresh(edit.kind)
    before = _told_by_server(live.hand)

    edit.do(live.hand)

    assert live.told() == edit.told
    assert _told_by_server(live.hand) == before


def test_an_object_that_somebody_made_anew_is_as_git_says_again(world: World) -> None:
    live = world.fresh()
    before = _told_by_server(live.hand)

    live.hand.delete()
    with contextlib.suppress(ApiError):  # whoever is first: the person or the daemon
        live.hand.create(config_map(live.hand.name) | {"data": {"value": "by hand"}}, "kubectl-create")

    until(lambda: (live.hand.find() or {}).get("data") and _told_by_server(live.hand) == before, "what Git says")
    live.settled()
    assert {line["event"] for line in live.said()} <= {"drift reverted", "object applied"}
    assert live.said()


def test_a_label_that_names_another_agent_is_not_overwritten(world: World) -> None:
    live = world.fresh(target="changes")

    live.hand.kubectl("label", "--overwrite", f"{AGENT_LABEL}=other")

    failure = world.daemon.wait_for("object failed", since=live.since, object=live.hand.id)
    assert (failure["operation"], failure["remedy"]) == ("block", "approve")
    assert "owned by agent other" in failure["error"]
    other = world.fresh(target="changes")
    other.hand.patch({"data": {"value": "by hand"}}, "kubectl-edit")
    assert other.told() == ("changed", [".data.value"], "kubectl-edit", "person")
    (target,) = world.agent.run("status", "changes", "--output", "json").json["targets"]
    assert target["state"] == "failed", "a revert of another object does not mend this one"
    assert world.daemon.said("target in sync", since=live.since, target="changes@here") == []
    live.hand.kubectl("label", "--overwrite", f"{AGENT_LABEL}=edge-drift")
    world.daemon.wait_for("target in sync", since=live.since, target="changes@here")


# --- fields that others add -------------------------------------------------------------------------------------------


def _adds(manager: str) -> Callable[[Hand], object]:
    return lambda hand: hand.patch({"data": {"extra": "1"}}, manager)


def test_a_field_of_an_unknown_writer_is_told_once_with_the_line_to_add_and_kept(world: World) -> None:
    live = world.fresh()

    _adds("zorp")(live.hand)

    (line,) = live.left_alone()
    facts = {key: line[key] for key in ("event", "level", "target", "fields", "manager", "writer")}
    assert facts == {
        "event": "foreign field", "level": "warning", "target": "web@here", "fields": [".data.extra"], "manager": "zorp",
        "writer": "unknown",
    }  # fmt: skip
    assert 'writers: {controller: ["zorp"]}' in line["hint"]
    live.hand.patch({"data": {"more": "1"}}, "zorp")
    assert live.left_alone() == [line], "once per object and manager"
    assert live.hand.get()["data"] == {"value": "git", "other": "git", "extra": "1", "more": "1"}


KEPT_SILENTLY: dict[str, tuple[str, Callable[[Hand], object]]] = {
    "a field of a controller": ("ConfigMap", _adds("kube-controller-manager")),
    "a finalizer": ("ConfigMap", lambda hand: hand.patch({"metadata": {"finalizers": ["example.com/a"]}}, "kubectl-edit")),
    "an owner reference": (
        "ConfigMap",
        lambda hand: hand.patch(
            {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "1"}]}}, "kubectl-edit"
        ),
    ),
    "an annotation of a controller": (
        "Deployment",
        lambda hand: hand.patch({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "3"}}}, "kubectl-edit"),
    ),
    "a status": (
        "Deployment", lambda hand: hand.patch({"status": {"replicas": 2}}, "kubectl-edit", at="/status")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT_SILENTLY)
def test_what_is_never_removed_is_kept_and_not_told(world: World, name: str) -> None:
    kind, do = KEPT_SILENTLY[name]
    live = world.fresh(kind)

    do(live.hand)

    assert live.left_alone() == []
    live.hand.patch({"metadata": {"finalizers": None}}, "kubectl-edit")


def test_a_rollout_restart_is_kept_and_told_once(world: World) -> None:
    live = world.fresh("Deployment")

    live.hand.kubectl("rollout restart")

    (line,) = live.left_alone()
    assert (line["event"], line["manager"], line["writer"]) == ("foreign field", "kubectl-rollout", "person")
    assert line["fields"] == [".spec.template.metadata.annotations.kubectl.kubernetes.io/restartedAt"]
    assert "Kept" in line["hint"]


def test_revert_all_removes_what_unknown_writers_add_and_keeps_what_controllers_add(world: World) -> None:
    unknown, controller = world.fresh(target="all"), world.fresh(target="all")

    _adds("zorp")(unknown.hand)
    _adds("some-operator")(controller.hand)

    assert unknown.told() == ("added", [".data.extra"], "zorp", "unknown")
    assert controller.left_alone() == []


def test_report_tells_of_fields_of_persons_and_keeps_them(world: World) -> None:
    live = world.fresh(target="tells")

    _adds("kubectl-edit")(live.hand)

    (line,) = live.left_alone()
    assert (line["event"], line["fields"], line["writer"]) == ("foreign field", [".data.extra"], "person")


def test_ignore_keeps_added_fields_without_a_word_and_still_reverts_changed_ones(world: World) -> None:
    live = world.fresh(target="silent")

    _adds("kubectl-edit")(live.hand)

    assert live.left_alone() == []
    live.hand.patch({"data": {"value": "by hand"}}, "kubectl-edit")
    assert live.told() == ("changed", [".data.value"], "kubectl-edit", "person")
    assert live.hand.get()["data"]["extra"] == "1"


# --- drift that is only reported --------------------------------------------------------------------------------------

REPORTED: dict[str, tuple[Callable[[Hand], object], tuple[Any, ...]]] = {
    "changed": (
        lambda hand: hand.patch({"data": {"value": "x"}}, "kubectl-edit"),
        ("changed", [".data.value"], "kubectl-edit", "person"),
    ),
    "added": (_adds("kubectl-edit"), ("added", [".data.extra"], "kubectl-edit", "person")),
}


@pytest.mark.parametrize("name", REPORTED)
def test_drift_that_is_only_reported_is_told_once_and_nothing_is_written(world: World, name: str) -> None:
    do, told = REPORTED[name]
    live = world.fresh(target="reports")

    do(live.hand)

    (line,) = live.left_alone()
    assert line["event"] == "drift found"
    assert set(line) == KEYS
    assert tuple(line[key] for key in ("kind", "fields", "manager", "writer")) == told
    world.agent.run("sync", "reports", "--wait")
    assert live.said() == [line], "a further look at the same drift says nothing"
    live.hand.patch([{"op": "remove", "path": "/data/extra"}] if name == "added" else [
        {"op": "replace", "path": "/data/value", "value": "git"}], "kubectl-edit", kind=JSON_PATCH)  # fmt: skip
    world.agent.run("sync", "reports", "--wait")


def test_a_deleted_object_that_is_only_reported_stays_deleted(world: World) -> None:
    live = world.fresh(target="reports")

    live.hand.delete()

    line = world.daemon.wait_for("drift found", since=live.since, object=live.hand.id)
    assert (line["kind"], line["manager"]) == ("deleted", None)
    world.agent.run("sync", "reports", "--wait")
    assert live.said() == [line]
    assert live.hand.find() is None


# --- fields that others may own ---------------------------------------------------------------------------------------


def test_an_ignored_field_stays_with_whoever_writes_it(world: World) -> None:
    live = world.fresh("Deployment", target="yields")

    live.hand.patch({"spec": {"replicas": 7}}, "zorp")
    live.settled()
    live.hand.patch(
        {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:9"}]}}}},
        "kubectl-edit",
        kind=STRATEGIC,
    )

    assert live.told() == ("changed", [f"{CONTAINER}.image"], "kubectl-edit", "person")
    world.agent.run("sync", "yields", "--wait")
    assert [line["event"] for line in live.said()] == ["drift reverted"]
    assert live.hand.get()["spec"]["replicas"] == 7


def test_an_ignored_field_that_nobody_else_owns_keeps_its_live_value(world: World) -> None:
    live = world.fresh("Deployment", target="yields")
    changed = deployment(live.hand.name, replicas=4)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx:2"

    commit = world.commit("yields", changed)
    world.daemon.wait_for("target in sync", since=live.since, target="yields@here", revision=f"main@sha1:{commit}")

    assert _image(live.hand) == "nginx:2"
    assert live.hand.get()["spec"]["replicas"] == 2
    assert [line["event"] for line in live.said()] == ["object applied"]


def test_an_ignored_field_is_no_drift_whoever_changes_it(world: World) -> None:
    live = world.fresh(target="yields")

    live.hand.patch({"data": {"value": "theirs"}}, "kubectl-edit")

    live.settled()
    assert [line for line in live.said() if line["event"] == "drift reverted"] == []
    assert live.hand.get()["data"] == {"value": "theirs", "other": "git"}


# --- autoscalers ------------------------------------------------------------------------------------------------------


def test_replicas_are_left_to_an_autoscaler_that_appears_on_the_cluster(world: World) -> None:
    live = world.fresh("Deployment", target="changes")
    scaler = Hand(world.cluster, "HorizontalPodAutoscaler", live.hand.namespace, live.hand.name)
    scaler.create(autoscaler(live.hand.name, live.hand.name), "kubectl-create")

    live.hand.patch({"spec": {"replicas": 5}}, "kube-controller-manager", at="/scale")
    live.settled()
    world.agent.run("sync", "changes", "--wait")

    assert live.hand.get()["spec"]["replicas"] == 5
    assert [line for line in live.said() if line["event"] == "drift reverted"] == []
    live.hand.kubectl("set image", "web=nginx:9")
    until(lambda: _image(live.hand) == "nginx:1", "the image to be put back")
    assert live.hand.get()["spec"]["replicas"] == 5


def test_replicas_are_left_to_an_autoscaler_that_comes_with_git_and_do_not_fall_to_one(world: World) -> None:
    live = world.fresh("Deployment", target="changes")
    commit = world.commit("changes", autoscaler(live.hand.name, live.hand.name))
    world.daemon.wait_for("target in sync", since=live.since, target="changes@here", revision=f"main@sha1:{commit}")

    assert live.hand.get()["spec"]["replicas"] == 2
    live.hand.patch({"spec": {"replicas": 6}}, "kube-controller-manager", at="/scale")
    changed = deployment(live.hand.name)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx:2"
    folder = world.agent.folder / "local"
    (folder / "changes").mkdir(parents=True)
    for name, content in files([changed, autoscaler(live.hand.name, live.hand.name)]).items():
        (folder / "changes" / name).write_text(content)
    ran = world.agent.run("plan", "changes", "--dir", str(folder))
    assert f".spec.replicas is left to HorizontalPodAutoscaler/{live.hand.namespace}/{live.hand.name}" in ran.stdout
    commit = world.commit("changes", changed)
    world.daemon.wait_for("target in sync", since=live.since, target="changes@here", revision=f"main@sha1:{commit}")
    assert _image(live.hand) == "nginx:2"
    assert live.hand.get()["spec"]["replicas"] == 6


# --- pauses and fights ------------------------------------------------------------------------------------------------


def test_a_suspended_target_reverts_nothing_until_it_is_resumed(world: World) -> None:
    live = world.fresh(target="all")
    ran = world.agent.run("suspend", "all", "--for", "30m", "--reason", "a look")
    assert ran.code == 0, ran.stderr

    live.hand.patch({"data": {"value": "x"}}, "kubectl-edit")

    assert live.left_alone() == []
    assert world.agent.run("resume", "all").code == 0
    assert live.told() == ("changed", [".data.value"], "kubectl-edit", "person")


def test_an_object_that_is_fought_over_is_named_and_damped_and_others_are_still_reverted(world: World) -> None:
    live, other = world.fresh(target="silent"), world.fresh(target="silent")
    for number in range(6):
        since = world.daemon.now
        live.hand.patch({"data": {"value": f"theirs {number}"}}, "zorp")
        world.daemon.wait_for("drift reverted", since=since, object=live.hand.id)
    fight = world.daemon.wait_for("fight detected", since=live.since, object=live.hand.id)
    assert (fight["level"], fight["manager"], fight["reverts"]) == ("error", "zorp", 6)
    since = world.daemon.now

    live.hand.patch({"data": {"value": "theirs again"}}, "zorp")
    other.hand.patch({"data": {"value": "by hand"}}, "kubectl-edit")

    assert other.told() == ("changed", [".data.value"], "kubectl-edit", "person")
    assert live.hand.get()["data"]["value"] == "theirs again", "left alone for a while"
    healed = world.daemon.wait_for("drift reverted", since=since, object=live.hand.id)
    assert healed["manager"] == "zorp"
    assert live.hand.get()["data"]["value"] == "git"
    assert len([line for line in live.said() if line["event"] == "fight detected"]) == 1


# --- what an object asks for itself -----------------------------------------------------------------------------------


def _asks(name: str, key: str, value: str) -> Json:
    return config_map(name, annotations={f"gitsyncd.dev/{key}": value})


def test_per_object_controls_do_what_they_say(world: World) -> None:
    names = {"override", "merge", "if-not-present", "ignore", "disabled", "keep"}
    hands = {name: Hand(world.cluster, "ConfigMap", "drift-changes", f"asks-{name}") for name in names}
    objects = [_asks(f"asks-{mode}", "apply", mode) for mode in ("override", "merge", "if-not-present", "ignore")]
    objects += [_asks("asks-disabled", "reconcile", "disabled"), _asks("asks-keep", "prune", "disabled")]
    since = world.daemon.now
    commit = world.commit("changes", *objects)
    world.daemon.wait_for("target in sync", since=since, target="changes@here", revision=f"main@sha1:{commit}")
    assert {name for name, hand in hands.items() if hand.find()} == {"override", "merge", "if-not-present", "keep"}

    since = world.daemon.now
    for name in ("override", "merge", "if-not-present", "keep"):
        hands[name].patch({"data": {"value": "by hand", "extra": "1"}}, "kubectl-edit")
    for name in ("override", "merge", "keep"):
        world.daemon.wait_for("drift reverted", since=since, object=hands[name].id)
    world.fresh().settled()

    data = {name: hand.get()["data"] for name, hand in hands.items() if hand.find()}
    assert data == {
        "override": {"value": "git", "other": "git"},
        "keep": {"value": "git", "other": "git"},
        "merge": {"value": "git", "other": "git", "extra": "1"},
        "if-not-present": {"value": "by hand", "other": "git", "extra": "1"},
    }

    removed = {f"changes/configmap-asks-{name}.yaml": None for name in names}
    commit = world.repo.commit(removed)
    world.daemon.wait_for("target in sync", since=since, target="changes@here", revision=f"main@sha1:{commit}")
    assert {name for name, hand in hands.items() if hand.find()} == {"keep"}
    released = world.daemon.wait_for("object released", since=since, object=hands["keep"].id)
    assert "annotated not to be pruned" in released["reason"]


def test_an_object_that_a_person_marks_on_the_cluster_is_left_alone(world: World) -> None:
    live = world.fresh()
    live.hand.kubectl("annotate", "gitsyncd.dev/reconcile=disabled")
    live.settled()
    before = live.said()

    live.hand.patch({"data": {"value": "by hand"}}, "kubectl-edit")

    assert live.left_alone() == before == []
    assert live.hand.get()["data"]["value"] == "by hand"
    live.hand.kubectl("annotate", "gitsyncd.dev/reconcile-")
    until(lambda: live.hand.get()["data"]["value"] == "git", "the edit to be put back")


def _image(hand: Hand) -> str:
    return str(hand.get()["spec"]["template"]["spec"]["containers"][0]["image"])


def _told_by_server(hand: Hand) -> Json:
    """What people see of an object: all but what changes with every write."""
    obj = hand.get()
    for name in ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"):
        obj["metadata"].pop(name, None)
    return {key: value for key, value in obj.items() if key != "status"}
