"""Fixtures of the end-to-end tests: an agent of one's own, and a fleet that the tests of a file share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.daemon import Agent
from tests.e2e.fleet import NEVER, NOTE, Fleet, Slot
from tests.gitserver.repository import Repo
from tests.sandbox import Cluster

SLOTS = 40


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """An agent without sources, clusters or targets yet."""
    return Agent(tmp_path / "agent")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """An empty repository."""
    return Repo(tmp_path / "fleet.git")


@pytest.fixture(scope="module")
def fleet(
    bare_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Fleet]:
    """Its agent has the name of the test file, so that the fleets of several files do not mix."""
    folder = tmp_path_factory.mktemp("fleet")
    name = request.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-")
    repo = Repo(folder / "fleet.git")
    agent = Agent(folder / "agent", name=name)
    agent.document["agent"]["cluster_namespace"] = f"gitsyncd-{name}"
    agent.cluster("here", bare_cluster.kubeconfig)
    agent.source("fleet", repo.url)
    slots = [f"slot-{number:02}" for number in range(SLOTS)]
    for slot in slots:
        agent.target(slot, path=slot, namespace=f"{name}-{slot}")
    agent.target(NEVER, path=NEVER, namespace=f"{name}-{NEVER}", adopt="never")
    repo.commit({f"{slot}/README.md": NOTE for slot in [*slots, NEVER]})
    with agent.start() as daemon:
        daemon.wait_for("daemon ready")
        yield Fleet(agent, bare_cluster, repo, daemon, slots)


@pytest.fixture
def slots(fleet: Fleet) -> Iterator[Callable[[], Slot]]:
    """Gives targets of the fleet, each with its namespace. What is committed there is taken out at the end, so that no
    target is left broken beside those of later tests.
    """
    given: list[Slot] = []

    def give() -> Slot:
        given.append(fleet.slot())
        return given[-1]

    yield give
    for slot in given:
        slot.clear()


@pytest.fixture
def slot(slots: Callable[[], Slot]) -> Slot:
    """One target of the fleet, with its namespace."""
    return slots()
