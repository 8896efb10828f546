"""One running daemon with many targets on one cluster: each test takes one of them and leaves the others alone.

Starting a daemon for every test would cost more than the tests themselves, and a neighbour that goes on working is part
of what is to be shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.e2e.daemon import Agent, Daemon, Json, until
from tests.gitserver.repository import Repo
from tests.sandbox import ApiError, Cluster

NOTE = "Nothing here yet."
"""A path must exist, be it without manifests."""

NEVER = "never"
"""The target with `adopt: never`."""


@dataclass(slots=True)
class Slot:
    """One target of a running daemon, for one test: a path, a namespace and a cluster with nothing in it yet."""

    name: str
    fleet: Fleet
    since: int = 0
    """Where in the log the last commit is."""

    @property
    def namespace(self) -> str:
        return f"{self.fleet.agent.name}-{self.name}"

    @property
    def target(self) -> str:
        return f"{self.name}@here"

    @property
    def daemon(self) -> Daemon:
        return self.fleet.daemon

    def commit(self, files: Mapping[str, str | bytes | None]) -> str:
        """Files below the target's path; what is said from now on is looked for by `event`."""
        self.since = self.daemon.now
        return self.fleet.repo.commit({f"{self.name}/{name}": content for name, content in files.items()})

    def clear(self) -> None:
        """Nothing but a note below the path."""
        self.fleet.repo.commit({self.name: None, f"{self.name}/README.md": NOTE})

    def event(self, event: str, **facts: Any) -> Json:
        """The first line of this event about this target since the last commit."""
        return self.daemon.wait_for(event, since=self.since, target=self.target, **facts)

    def said(self, event: str, **facts: Any) -> list[Json]:
        """Lines of this event about this target since the last commit, without waiting."""
        return self.daemon.said(event, since=self.since, target=self.target, **facts)

    def live(self, name: str, plural: str = "configmaps", *, api: str = "/api/v1") -> Json | None:
        """A live object of the namespace; None when there is none."""
        return find(self.fleet.cluster, f"{api}/namespaces/{self.namespace}/{plural}/{name}")

    def until_live(self, name: str) -> None:
        """Objects are applied side by side: the failure of one may be told before another is there."""
        until(lambda: self.live(name) is not None, f"{name} on the cluster")


@dataclass(slots=True)
class Fleet:
    """A daemon with many targets on one cluster, all of them from one repository."""

    agent: Agent
    cluster: Cluster
    repo: Repo
    daemon: Daemon
    free: list[str]
    """Names of targets that no test has had yet."""

    def slot(self) -> Slot:
        """A target that no other test has, and its namespace."""
        slot = Slot(self.free.pop(), self)
        self.cluster.create_namespace(slot.namespace)
        return slot


def find(cluster: Cluster, path: str) -> Json | None:
    """What the API server has at this path; None when it has nothing there."""
    try:
        found: Json = cluster.request("GET", path)
    except ApiError as error:
        if error.status != 404:
            raise
        return None
    return found


def config_map(name: str, **data: str) -> str:
    """A manifest, as JSON."""
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
