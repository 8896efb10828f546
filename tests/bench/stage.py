"""Where the measuring happens: control planes with fsync and an audit log, a Git server with TLS, an agent file."""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.corpus import corpus
from tests.bench.proc import settle
from tests.e2e.daemon import Agent
from tests.gitserver.certificates import Authority
from tests.gitserver.repository import Repo
from tests.gitserver.server import GitServer
from tests.sandbox import Cluster, ClusterOptions

AGENT = "bench"
TARGET = "web"
CLUSTER = "c1"
_numbers = itertools.count(1)


def say(words: str) -> None:
    """Progress, for the person who waits."""
    print(f"bench: {words}", file=sys.stderr, flush=True)


@dataclass(slots=True)
class Stage:
    """What all measurements share. Everything in it is gone at the end."""

    folder: Path
    server: GitServer
    repo: Repo
    files: dict[str, str]
    rounds: int

    @property
    def url(self) -> str:
        return self.server.url("fleet")

    @property
    def ca_file(self) -> Path:
        assert self.server.authority is not None
        return self.server.authority.ca_file

    @contextlib.contextmanager
    def clusters(self, count: int) -> Iterator[list[Cluster]]:
        """So many of them, `c1` and on, all at rest."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self.cluster(f"c{number}")) for number in range(1, count + 1)]

    @contextlib.contextmanager
    def cluster(self, name: str = CLUSTER) -> Iterator[Cluster]:
        """A fresh control plane that has come to rest."""
        options = ClusterOptions(audit=True, fsync=True)
        with Cluster(self.folder / f"cluster-{next(_numbers)}", name=name, options=options) as cluster:
            if not settle(list(cluster.pids.values())):
                say("the control plane is not at rest; measuring all the same")
            yield cluster
        cluster.remove()

    def agent(self, *clusters: Cluster, path: str = "fleet") -> Agent:
        """An agent that has never run, for these clusters and the corpus. Git is polled when it is told to."""
        agent = Agent(self.folder / f"agent-{next(_numbers)}", name=AGENT)
        for cluster in clusters:
            agent.cluster(cluster.name, cluster.kubeconfig)
        agent.source("fleet", self.url, interval="30m", tls={"ca_file": str(self.ca_file)})
        # Nothing runs here that would make a Deployment ready.
        agent.target(TARGET, path=path, interval="30m", wait={"enabled": False})
        return agent


@contextlib.contextmanager
def stage(rounds: int, *, folder: Path | None = None) -> Iterator[Stage]:
    """A repository with the corpus behind a Git server, and room for clusters."""
    with contextlib.ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gitsyncd-bench-")))
        (place / "pki").mkdir(parents=True)
        server = stack.enter_context(GitServer(place / "git", authority=Authority(place / "pki")))
        repo = server.create("fleet")
        files = corpus()
        repo.commit(files, message="the fleet")
        yield Stage(place, server, repo, files, rounds)
