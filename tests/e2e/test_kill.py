"""The daemon is killed at every step of its work; the next one ends where an undisturbed one would have.

Each case walks one agent through a first sync, a commit that adds, changes and removes, and a commit that only
removes. In each it is killed once, when a fact is seen from outside: a line of its log, or what the API server holds.
Every other time the local state is lost as well.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Agent, Daemon, Json, until
from tests.e2e.hands import config_map, deployment, files
from tests.gitserver.repository import Repo
from tests.sandbox import Cluster

pytestmark = pytest.mark.real

KINDS = {
    "ConfigMap": "/api/v1/configmaps",
    "Service": "/api/v1/services",
    "Deployment": "/apis/apps/v1/deployments",
    "Secret": "/api/v1/secrets",
}
DONE = ("object applied", "object pruned")
_numbers = itertools.count(1)


def _service(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}


def _secret(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"a": name}}


def _commits() -> list[dict[str, str | bytes | None]]:
    """A first sync; eight added, changed and removed each; a commit that only removes."""
    makers = (config_map, _service, _secret, deployment)
    first = [makers[number % 4](f"first-{number:02}") for number in range(24)]
    added = [makers[number % 4](f"second-{number:02}") for number in range(8)]
    changed = [{**item, "metadata": {**item["metadata"], "labels": {"step": "two"}}} for item in first[8:16]]
    return [
        _folder(first, []),
        _folder([*added, *changed], first[:8]),
        _folder([], [*first[20:], *added[:5]]),
    ]


def _folder(written: list[Json], removed: list[Json]) -> dict[str, str | bytes | None]:
    texts = {**files(written), **dict.fromkeys(files(removed))}
    return {f"app/{name}": content for name, content in texts.items()}


@dataclass(slots=True)
class World:
    """An agent with one target, and somebody else's object beside those of the agent."""

    agent: Agent
    cluster: Cluster
    repo: Repo
    namespace: str
    uids: dict[str, str] = field(default_factory=dict)

    def inventory(self) -> list[Json]:
        path = f"/api/v1/namespaces/gitsyncd-{self.namespace}/configmaps?labelSelector=gitsyncd.dev/inventory"
        return list(self.cluster.request("GET", path)["items"])

    def inventory_versions(self) -> list[str]:
        return [item["metadata"]["resourceVersion"] for item in self.inventory()]

    def live(self) -> dict[str, Json]:
        """All objects in the namespace, ours or not, without what differs between two runs."""
        found = {}
        for kind, path in KINDS.items():
            namespaced = path.replace("/v1/", f"/v1/namespaces/{self.namespace}/")
            for item in self.cluster.request("GET", namespaced)["items"]:
                name = f"{kind}/{item['metadata']['name']}"
                self.uids[name] = item["metadata"]["uid"]
                for key in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"):
                    item["metadata"].pop(key, None)
                for key in ("clusterIP", "clusterIPs"):
                    item.get("spec", {}).pop(key, None)
                item.pop("status", None)
                found[name] = json.loads(json.dumps(item).replace(self.namespace, "NAMESPACE"))
        return found

    def recorded(self) -> list[str]:
        """Identity, state and file of each entry of the inventory."""
        entries = {
            key: entry for item in self.inventory() for key, entry in json.loads(item["data"]["entries"]).items()
        }
        lines = [f"{key} {entry['state']} {entry['path']}" for key, entry in entries.items()]
        return sorted(line.replace(self.namespace, "NAMESPACE") for line in lines)

    def settled(self, daemon: Daemon, revision: str, since: int = 0) -> tuple[dict[str, Json], list[str]]:
        daemon.wait_for("target in sync", revision=revision, since=since)
        return self.live(), self.recorded()


@pytest.fixture(scope="module")
def make_world(bare_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], World]:
    def make() -> World:
        name = f"kill-{next(_numbers)}"
        folder = tmp_path_factory.mktemp("kill")
        agent = Agent(folder / "agent", name=name)
        agent.document["agent"]["cluster_namespace"] = f"gitsyncd-{name}"
        agent.cluster("here", bare_cluster.kubeconfig, limits={"parallel": 2})
        repo = Repo(folder / "fleet.git")
        agent.source("fleet", repo.url)
        agent.target("app", path="app", namespace=name, wait={"enabled": False}, prune={"max_percent": 90})
        bare_cluster.create_namespace(name)
        bystander = {"metadata": {"name": "bystander", "labels": {"step": "none"}}}
        bare_cluster.request("POST", f"/api/v1/namespaces/{name}/configmaps", bystander)
        return World(agent, bare_cluster, repo, name)

    return make


@pytest.fixture(scope="module")
def undisturbed(make_world: Callable[[], World]) -> list[tuple[dict[str, Json], list[str]]]:
    """What each of the commits comes to when nothing happens."""
    world, results = make_world(), []
    steps = _commits()
    commits = [world.repo.commit(steps[0])]
    with world.agent.start() as daemon:
        for step in [*steps[1:], None]:
            results.append(world.settled(daemon, f"main@sha1:{commits[-1]}"))
            if step is not None:
                commits.append(world.repo.commit(step))
    counts = [len(live) for live, _ in results]
    assert counts == [25, 25, 16]
    assert [len(recorded) for _, recorded in results] == [24, 24, 15]
    return results


Moment = Callable[[World, Daemon, int, list[str], random.Random], None]
"""Returns when the daemon is to be killed; knows where the log was, and the inventory's versions, before the commit."""


def _said(event: str, count: int = 1) -> Moment:
    def wait(world: World, daemon: Daemon, since: int, _: list[str], __: random.Random) -> None:
        events = DONE if event == "done" else (event,)
        deadline = time.monotonic() + 20
        while sum(line["event"] in events for line in daemon.lines[since:]) < count:
            assert time.monotonic() < deadline, daemon.lines[since:]
            time.sleep(0.0005)

    return wait


def _intent_written(world: World, daemon: Daemon, since: int, before: list[str], __: random.Random) -> None:
    deadline = time.monotonic() + 20
    while world.inventory_versions() == before:
        assert time.monotonic() < deadline


def _some_time_after(event: str) -> Moment:
    def wait(world: World, daemon: Daemon, since: int, before: list[str], chance: random.Random) -> None:
        _said(event)(world, daemon, since, before, chance)
        time.sleep(chance.uniform(0, 0.25))  # anywhere within the turn, by the seed of the case

    return wait


def _at_once(*_: Any) -> None:
    return


MOMENTS: dict[str, Moment] = {
    "before anything is fetched": _at_once,
    "fetched": _said("source updated"),
    "planned": _said("plan made"),
    "intent written": _intent_written,
    "first object done": _said("done", 1),
    "fifth object done": _said("done", 5),
    "ninth object done, or all": _said("done", 9),
    "in sync": _said("target in sync"),
    "by chance 1": _some_time_after("source updated"),
    "by chance 2": _some_time_after("source updated"),
    "by chance 3": _some_time_after("plan made"),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_a_killed_daemon_is_followed_by_one_that_ends_where_an_undisturbed_one_would(
    make_world: Callable[[], World], undisturbed: list[tuple[dict[str, Json], list[str]]], name: str
) -> None:
    world, moment, chance = make_world(), MOMENTS[name], random.Random(name)
    wipes = itertools.cycle([False, True] if list(MOMENTS).index(name) % 2 else [True, False])
    daemon: Daemon | None = None
    kept: dict[str, str] = {}
    for step, expected in zip(_commits(), undisturbed, strict=True):
        before, since = (world.inventory_versions(), daemon.now) if daemon else ([], 0)
        commit = f"main@sha1:{world.repo.commit(step)}"
        daemon = daemon or world.agent.start()
        moment(world, daemon, since, before, chance)
        daemon.kill()
        daemon.check()
        if next(wipes):
            world.agent.lose_state()
        after_kill = set(world.live())
        daemon = world.agent.start()
        assert world.settled(daemon, commit) == expected
        assert {uid for key, uid in kept.items() if key in expected[0]} <= set(world.uids.values()), (
            "none was made anew"
        )
        assert after_kill - set(expected[0]) <= {f"{kind}/{n}" for kind, n in _removed(step)}
        kept = {key: uid for key, uid in world.uids.items() if key in expected[0]}
        assert [line for line in daemon.lines if line["level"] == "error"] == []
    assert daemon is not None
    assert daemon.stop() == 0
    daemon.check()


def _removed(step: dict[str, Any]) -> Iterator[tuple[str, str]]:
    kinds = {kind.lower(): kind for kind in KINDS}
    for file, content in step.items():
        kind, _, name = Path(file).stem.partition("-")
        if content is None:
            yield kinds[kind], name


def test_children_do_not_outlive_a_killed_daemon(make_world: Callable[[], World]) -> None:
    world = make_world()
    world.repo.commit(_commits()[0])
    daemon = world.agent.start()
    daemon.wait_for("target in sync")
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()

    daemon.kill()

    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "the children to end")


def test_a_daemon_that_is_asked_to_stop_in_the_middle_records_what_it_has_done(make_world: Callable[[], World]) -> None:
    world = make_world()
    objects = [config_map(f"m-{number:03}") for number in range(300)]
    commit = world.repo.commit({f"app/{name}": text for name, text in files(objects).items()})
    daemon = world.agent.start()
    _said("done", 20)(world, daemon, 0, [], random.Random(1))

    assert daemon.stop(signal.SIGTERM) == 0
    daemon.check()

    assert daemon.said("daemon stopped")[0]["signal"] == "SIGTERM"
    live = {name.partition("/")[2] for name in world.live()} - {"bystander"}
    assert 20 <= len(live) < 300, "it did not wait for the whole turn"
    recorded = "\n".join(world.recorded())
    assert [name for name in live if f"/{name} " not in recorded] == []
    with world.agent.start() as second:
        second.wait_for("target in sync", revision=f"main@sha1:{commit}", objects=300)
