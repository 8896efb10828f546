"""Killing the daemon at a point that is exact: when its Nth request of a kind is about to be forwarded, or has been
answered and it does not know. What lives in the cluster afterwards is compared with what an undisturbed daemon made.

A `Rig` is a control plane and a Git server, each behind a proxy; an `Actor` is one agent on it, with a namespace and a
repository of its own. Its repository says one of two things, `SMALL` or `LARGE`; going from one to the other is an
update, and back is a prune.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.e2e.daemon import Agent, Daemon, Json
from tests.e2e.proxied import COLLECTIONS, Site, manifest, site
from tests.faults.faults import Matcher, Strike, asking
from tests.faults.proxy import Proxy, Rule, identity, upstream
from tests.gitserver.certificates import Authority
from tests.gitserver.repository import Repo
from tests.gitserver.server import GitServer
from tests.sandbox import Cluster

SEEDS = range(5)
ALL = os.environ.get("FAULTS") == "all"
"""As `make faults` has it: every point with every seed. Else each point has one seed, the next point the next."""

BASE, EXTRA, CHANGED = 4, 3, 2
"""Objects of each kind: that stay, that an update adds and a prune removes, and those that stay with another value."""

SMALL: Mapping[str, str] = {f"{kind}/base-{number}": "1" for kind in COLLECTIONS for number in range(BASE)}
LARGE: Mapping[str, str] = {
    **{name: "2" if int(name[-1]) < CHANGED else "1" for name in SMALL},
    **{f"{kind}/extra-{number}": "1" for kind in COLLECTIONS for number in range(EXTRA)},
}
GONE = frozenset(LARGE.keys() - SMALL.keys())
"""All that a prune may delete."""

_OF_THE_SERVER = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A request of the daemon at which it is killed."""

    when: Matcher
    answered: bool
    """Once the server has answered; else before the server has heard of it."""
    git: bool = False
    skip: int = 0
    of: int = 1
    """How many such requests there are for certain: the seed chooses among them."""
    committed: bool = False
    """Whether the commit is there before anybody looks for the request: else it would be hit before there is news."""


def seeds(number: int) -> Iterable[int]:
    """Those of the point that comes at this place."""
    return SEEDS if ALL else [number % len(SEEDS)]


def before(*verbs: str, resource: str = "", path: str = "", name: str = "", skip: int = 0, of: int = 1) -> Point:
    when = asking(*verbs, resource=resource, path=path, name=name)
    return Point(when=when, answered=False, skip=skip, of=of)


def after(*verbs: str, resource: str = "", path: str = "", name: str = "", skip: int = 0, of: int = 1) -> Point:
    when = asking(*verbs, resource=resource, path=path, name=name)
    return Point(when=when, answered=True, skip=skip, of=of)


def git(verb: str, *, answered: bool) -> Point:
    return Point(when=asking(verb), answered=answered, git=True, committed=verb != "fetch")


INVENTORY = r"^gitsyncd\.[a-z0-9-]+\.app\.0$"
CREATED, CHANGED_BY_FORCE = "force=false", "force=true"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that is to be compared of a namespace and its record, without what differs between two agents."""

    objects: Mapping[str, Json]
    recorded: Mapping[str, Json]


@dataclass(slots=True)
class Rig:
    """What all agents share."""

    site: Site
    server: GitServer
    git: Proxy
    ca_file: Path
    folder: Path

    def actor(self) -> Actor:
        name = f"killed-{next(_numbers)}"
        agent = Agent(self.folder / name, name=name)
        agent.document["agent"] |= {"cluster_namespace": f"gitsyncd-{name}", "http": {"listen": None}}
        agent.cluster("here", self.site.kubeconfig, limits={"parallel": 2})
        url = f"https://127.0.0.1:{self.git.port}/{name}.git"
        agent.source("fleet", url, interval="150ms", tls={"ca_file": str(self.ca_file)})
        agent.target("app", path="app", namespace=name, wait={"enabled": False}, prune={"max_percent": 100})
        self.site.cluster.create_namespace(name)
        return Actor(self, agent, self.server.create(name))


@contextmanager
def rig(cluster: Cluster, folder: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        authority = Authority(folder / "git-pki")
        server = stack.enter_context(GitServer(folder / "git"))
        proxy = stack.enter_context(Proxy(upstream("127.0.0.1", server.port), identity=identity(authority)))
        yield Rig(stack.enter_context(site(cluster, folder, "here")), server, proxy, authority.ca_file, folder)


@dataclass(slots=True)
class Actor:
    """One agent, its namespace and its repository. At most one process of it runs at a time."""

    rig: Rig
    agent: Agent
    repo: Repo
    daemon: Daemon | None = None
    says: Mapping[str, str] = field(default_factory=dict)
    """What the newest commit holds."""
    head: str = ""
    """As the log names it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.daemon is not None:
            self.daemon.stop(signal.SIGKILL)

    # --- Git -----------------------------------------------------------------------------------------------------

    def commit(self, wanted: Mapping[str, str]) -> None:
        """Make the branch say exactly this."""
        names = {**dict.fromkeys(self.says), **wanted}
        files: dict[str, str | bytes | None] = {
            f"app/{name.lower().replace('/', '-')}.json": manifest(name, wanted[name]) if name in wanted else None
            for name in names
            if wanted.get(name) != self.says.get(name)
        }
        self.says = wanted
        self.head = f"main@sha1:{self.repo.commit(files)}"

    # --- the daemon ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.daemon = self.agent.start()

    def killed(self, point: Point, seed: int, wanted: Mapping[str, str], *, wipe: bool) -> list[str]:
        """Commit, kill the daemon (started here unless it runs) at the point, start the next one at once and have it
        come to rest. The deletes that both asked for, by `Kind/name`.
        """
        asked = len(self.rig.site.proxy.requests)
        proxy = self.rig.git if point.git else self.rig.site.proxy
        if point.committed:
            self.commit(wanted)
        if self.daemon is None:
            self.commit(wanted)
            rule = self._strike(proxy, point, seed)
            self.start()
        else:
            rule = self._strike(proxy, point, seed)
            self.commit(wanted)
        assert self.daemon is not None
        self.daemon.wait(within_s=30)
        proxy.heal()
        assert rule.hits == 1
        self.daemon.check()
        if wipe:
            self.agent.lose_state()
        self.start()
        self.at_rest()
        return self.deletes(asked)

    def _strike(self, proxy: Proxy, point: Point, seed: int) -> Rule:
        fault = Strike(lambda _: self._kill(), answered=point.answered)
        own = f"({self.agent.name})"
        return proxy.put(
            fault,
            when=lambda request: own in request.agent and point.when(request),
            skip=point.skip + seed % point.of,
            times=1,
        )

    def _kill(self) -> None:
        assert self.daemon is not None
        os.kill(self.daemon.pid, signal.SIGKILL)

    def at_rest(self) -> None:
        assert self.daemon is not None
        self.daemon.wait_for("target in sync", revision=self.head)
        bad = [line for line in self.daemon.lines if line["level"] in {"warning", "error"}]
        assert bad == [], bad

    # --- what came of it -----------------------------------------------------------------------------------------

    def deletes(self, since: int) -> list[str]:
        """Of this agent from that request on, whatever came of them."""
        kinds = {plural: kind for kind, plural in COLLECTIONS.items()}
        return [
            f"{kinds.get(request.resource, request.resource)}/{request.name}"
            for request in self.rig.site.proxy.requests[since:]
            if request.verb == "delete" and f"({self.agent.name})" in request.agent
        ]

    def uids(self) -> dict[str, str]:
        return {name: item["metadata"]["uid"] for name, item in self._all().items()}

    def state(self) -> State:
        """Objects of anybody in the namespace, and what the inventory says of each."""
        objects = self._all()
        path = f"/api/v1/namespaces/gitsyncd-{self.agent.name}/configmaps?labelSelector=gitsyncd.dev%2Finventory"
        recorded: dict[str, Json] = {}
        for item in self.rig.site.cluster.request("GET", path)["items"]:
            assert item["metadata"]["name"] == f"gitsyncd.{self.agent.name}.app.0"
            assert item["data"]["commit"] == self.head.rpartition(":")[2]
            recorded |= json.loads(item["data"]["entries"])
        live = {
            name.replace("/", f"/{self.agent.name}/"): item["metadata"].pop("uid") for name, item in objects.items()
        }
        assert {key: entry.pop("uid", "") for key, entry in recorded.items()} == live, "the inventory, by UID"
        for entry in recorded.values():
            # Of values that an agent salts with its own key, and of texts that hold its name.
            for key in ("entryHash", "projectionHash", "digest", "commit"):
                entry.pop(key, None)
        return State(
            objects={name: self._common(_bare(item)) for name, item in objects.items()},
            recorded=self._common(recorded),
        )

    def _all(self) -> dict[str, Json]:
        return {
            f"{kind}/{item['metadata']['name']}": item
            for kind, plural in COLLECTIONS.items()
            for item in self.rig.site.cluster.request("GET", f"/api/v1/namespaces/{self.agent.name}/{plural}")["items"]
        }

    def _common(self, item: Json) -> Json:
        return dict(json.loads(json.dumps(item).replace(self.agent.name, "NAME")))


def _bare(item: Json) -> Json:
    for key in _OF_THE_SERVER:
        item["metadata"].pop(key, None)
    for key in ("clusterIP", "clusterIPs"):
        item.get("spec", {}).pop(key, None)
    return item


def undisturbed(rig: Rig) -> tuple[State, State]:
    """What `SMALL` and `LARGE` come to when nothing happens."""
    with rig.actor() as actor:
        actor.commit(SMALL)
        actor.start()
        actor.at_rest()
        small = actor.state()
        actor.commit(LARGE)
        actor.at_rest()
        large = actor.state()
        actor.commit(SMALL)
        actor.at_rest()
        assert actor.state() == small
    assert (len(small.objects), len(large.objects)) == (len(SMALL), len(LARGE))
    return small, large
