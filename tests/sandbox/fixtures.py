"""pytest fixtures over the sandbox: clusters that start when the first test asks for them.

Load them with `pytest_plugins = ["tests.sandbox.fixtures"]`. The clusters of the session are shared, so a test works in
namespaces of its own (`namespace`) and leaves what belongs to the whole cluster alone; one that stops the API server,
counts its requests or changes cluster-wide objects asks for a fresh cluster (`make_cluster`, about 2 seconds).
"""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.sandbox import binaries
from tests.sandbox.cluster import Cluster, ClusterOptions

_FIXTURES = {"bare_cluster", "full_cluster", "make_cluster", "make_shared_cluster", "namespace"}
_numbers = itertools.count(1)


class MakeCluster(Protocol):
    """Starts a cluster that ends with the scope of the fixture."""

    def __call__(
        self,
        *,
        nodes: int = 0,
        controllers: bool | tuple[str, ...] | None = None,
        audit: bool = False,
        fsync: bool = False,
        apiserver_flags: tuple[str, ...] = (),
    ) -> Cluster: ...


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build before the first test starts: the minutes that it takes once are not to be charged to a test's timeout."""
    if session.config.option.collectonly:
        return
    if any(_FIXTURES & set(getattr(item, "fixturenames", ())) for item in session.items):
        try:
            binaries.build_all()
        except binaries.BuildFailed as error:
            pytest.exit(str(error), returncode=3)


@pytest.fixture(scope="session")
def bare_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """etcd and kube-apiserver only, shared: for everything but controllers. Namespaces here are never emptied, and
    nothing collects dependants."""
    with Cluster(_folder(tmp_path_factory), name="bare") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def full_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """With controllers, a scheduler and two simulated nodes, shared: Deployments become ready, deletes cascade."""
    with Cluster(_folder(tmp_path_factory), name="full", options=ClusterOptions(nodes=2)) as cluster:
        yield cluster


@pytest.fixture
def make_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeCluster]:
    """Starts clusters of the test's own."""
    with ExitStack() as stack:
        yield _maker(stack, tmp_path_factory)


@pytest.fixture(scope="module")
def make_shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeCluster]:
    """Starts clusters that the tests of a file share; meant for a module-scoped fixture of that file."""
    with ExitStack() as stack:
        yield _maker(stack, tmp_path_factory)


@pytest.fixture
def namespace() -> str:
    """A name that no other test of this process gets. `Cluster.create_namespace` creates it."""
    return f"test-{next(_numbers)}"


def _maker(stack: ExitStack, folders: pytest.TempPathFactory) -> MakeCluster:
    def make(
        *,
        nodes: int = 0,
        controllers: bool | tuple[str, ...] | None = None,
        audit: bool = False,
        fsync: bool = False,
        apiserver_flags: tuple[str, ...] = (),
    ) -> Cluster:
        options = ClusterOptions(
            nodes=nodes, controllers=controllers, audit=audit, fsync=fsync, apiserver_flags=apiserver_flags
        )
        return stack.enter_context(Cluster(_folder(folders), name=f"c{next(_numbers)}", options=options))

    return make


def _folder(folders: pytest.TempPathFactory) -> Path:
    return folders.mktemp("cluster")
