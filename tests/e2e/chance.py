"""An agent on one cluster, people who commit and edit by hand, and faults by chance. Who asks for how many says how long.

Nothing here waits for anything: what must be true afterwards is `settles` and `deleted`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.daemon import Agent
from tests.e2e.proxied import COLLECTIONS, Site, deleted, manifest, settles, site
from tests.faults import faults
from tests.faults.faults import Fault, asking
from tests.faults.proxy import Proxy, Rule, identity, upstream
from tests.gitserver.certificates import Authority
from tests.gitserver.repository import Repo
from tests.gitserver.server import GitServer
from tests.sandbox import Cluster

AGENT, NAMESPACE = "chance", "chance"
EDITABLE = 60
"""Objects that stay, edited in turn: the same one again and again would be a fight, and those are given time."""
TRANSIENT = 30
"""Objects that come and go: about so many at a time."""

Chance = random.Random

# None that says nothing: each of those costs a time limit, and the table of `test_network_faults` has them.
OF_THE_API: tuple[Callable[[Chance], Fault], ...] = (
    lambda chance: faults.CutRequest(chance.choice([0, 50, 300]), reset=chance.random() < 0.5),
    lambda chance: faults.CutAnswer(chance.choice([0, 10, 300, 2_000]), reset=chance.random() < 0.5),
    lambda chance: faults.CutAnswer(0),
    lambda chance: faults.status(chance.choice([500, 503, 504])),
    lambda _: faults.too_many(1),
    lambda _: faults.web_page(),
    lambda _: faults.Raw(),
    lambda _: faults.Change(faults.half),
    lambda _: faults.status(401, "Unauthorized"),
)
REQUESTS: tuple[dict[str, Any], ...] = (
    {"verbs": ["patch"]},
    {"verbs": ["patch"], "resource": "secrets"},
    {"verbs": ["update"]},
    {"verbs": ["delete"]},
    {"verbs": ["get"]},
    {"verbs": ["list"]},
    {"verbs": ["watch"]},
    {"verbs": ["patch"], "resource": "leases"},
    {"verbs": []},
    {"verbs": []},
)
OF_GIT: tuple[Callable[[Chance], Fault], ...] = (
    lambda chance: faults.CutRequest(0, reset=chance.random() < 0.5),
    lambda chance: faults.CutAnswer(chance.choice([0, 100, 300]), reset=chance.random() < 0.5),
    lambda chance: faults.web_page(chance.choice([200, 401, 403, 404, 429, 500, 503])),
    lambda _: faults.Raw(),
    lambda _: faults.Change(faults.half),
)


@dataclass(slots=True)
class World:
    """One agent on one cluster, and what Git says."""

    agent: Agent
    here: Site
    git: Proxy
    repo: Repo
    chance: Chance
    wanted: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    """Everything that was ever taken out of Git; no name is used twice."""
    rules: list[Rule] = field(default_factory=list)
    made: int = 0

    def inject(self, count: int) -> list[Rule]:
        """Switch on so many faults, for one or two requests each."""
        for _ in range(count):
            times = self.chance.choice([1, 1, 2])
            if self.chance.random() < 0.3:
                fault, proxy = self.chance.choice(OF_GIT)(self.chance), self.git
                when = asking(*self.chance.choice([["fetch"], ["ls-refs"], []]))
            else:
                fault, proxy = self.chance.choice(OF_THE_API)(self.chance), self.here.proxy
                asked = self.chance.choice(REQUESTS)
                when = asking(*asked["verbs"], resource=asked.get("resource", ""))
            self.rules.append(proxy.put(fault, when=when, times=times, skip=self.chance.choice([0, 0, 1, 3])))
        if self.chance.random() < 0.3:
            self.here.proxy.reset()
        return self.rules[-count:]

    def heal(self) -> None:
        self.git.heal()
        self.here.proxy.heal()

    def commit(self) -> None:
        """Some are added, some changed, some removed."""
        transient = [name for name in self.wanted if "/new-" in name]
        count = self.chance.randrange(4) + (3 if len(transient) > TRANSIENT else 0)
        gone = self.chance.sample(transient, min(len(transient), count))
        changed = self.chance.sample(sorted(self.wanted.keys() - set(gone)), 2)
        files: dict[str, str | bytes | None] = {_file(name): None for name in gone}
        for name in gone:
            del self.wanted[name]
        self.left += gone
        self.made += 3
        added = [f"{kind}/new-{self.made + number:04}" for number, kind in enumerate(COLLECTIONS)]
        for name in [*added, *changed]:
            self.wanted[name] = str(self.made)
            files[_file(name)] = manifest(name, self.wanted[name])
        self.repo.commit(files)

    def edit(self, number: int) -> None:
        """By hand: one value is overwritten, one object deleted."""
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/stay-"
        first, second = (f"{path}{(2 * number + offset) % EDITABLE:02}" for offset in range(2))
        body = {"data": {"value": "by hand"}, "metadata": {"annotations": {"example.com/value": "by hand"}}}
        query = "?fieldManager=kubectl-edit"
        self.here.cluster.request("PATCH", first + query, body, content_type="application/merge-patch+json")
        self.here.cluster.request("DELETE", second)

    def settles(self) -> None:
        settles(
            self.here,
            agent=AGENT,
            agent_namespace=f"gitsyncd-{AGENT}",
            target="app",
            namespace=NAMESPACE,
            wanted=self.wanted,
        )

    def deleted(self) -> Counter[str]:
        return deleted(self.here.audit, AGENT, NAMESPACE)


def _file(name: str) -> str:
    return f"app/{name.lower().replace('/', '-')}.json"


@contextmanager
def world(cluster: Cluster, folder: Path, seed: int) -> Iterator[World]:
    """The cluster needs an audit log. The daemon is not started yet."""
    with ExitStack() as stack:
        here = stack.enter_context(site(cluster, folder, "here", seed=seed))
        here.cluster.create_namespace(NAMESPACE)
        authority = Authority(folder / "git-pki")
        server = stack.enter_context(GitServer(folder / "git"))
        git = stack.enter_context(Proxy(upstream("127.0.0.1", server.port), identity=identity(authority), seed=seed))
        repo = server.create("fleet")
        agent = Agent(folder / "agent", name=AGENT)
        agent.document["agent"]["cluster_namespace"] = f"gitsyncd-{AGENT}"
        agent.cluster("here", here.kubeconfig, limits={"parallel": 4})
        url = f"https://127.0.0.1:{git.port}/fleet.git"
        agent.source("fleet", url, interval="200ms", timeout="5s", tls={"ca_file": str(authority.ca_file)})
        budget = {"max_percent": 100, "max_objects": 500}
        agent.target("app", path="app", namespace=NAMESPACE, wait={"enabled": False}, prune=budget)
        made = World(agent, here, git, repo, Chance(seed))
        made.wanted = {f"ConfigMap/stay-{number:02}": "0" for number in range(EDITABLE)}
        repo.commit({_file(name): manifest(name, value) for name, value in made.wanted.items()})
        yield made
