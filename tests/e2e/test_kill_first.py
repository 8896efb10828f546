"""As `test_kill_matrix`, for twenty points of a first sync: the lease, the namespace and the key of the agent are made
there, too. Twenty kills in `make test`; a hundred, five at each point, in `make faults`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.killing import (
    BASE,
    CREATED,
    INVENTORY,
    LARGE,
    SMALL,
    Point,
    Rig,
    State,
    after,
    before,
    git,
    rig,
    seeds,
    undisturbed,
)
from tests.sandbox import Cluster

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

POINTS: dict[str, Point] = {
    "the server is asked what it speaks": git("discovery", answered=False),
    "the heads are answered": git("ls-refs", answered=True),
    "the pack is asked for": git("fetch", answered=False),
    "the pack is answered": git("fetch", answered=True),
    "the lease has been looked for": after("get", resource="leases"),
    "the agent's namespace is made": before("create", resource="namespaces"),
    "the agent's namespace has been made": after("create", resource="namespaces"),
    # The first try finds no namespace.
    "the lease is made": before("create", resource="leases", skip=1),
    "the lease has been made": after("create", resource="leases", skip=1),
    "the inventory is looked for": before("list", resource="configmaps", path="inventory"),
    "the key is made": before("create", resource="secrets"),
    "the key has been made": after("create", resource="secrets"),
    "objects have been listed": after("list", path="agent%3D", of=3),
    "an object is read": before("get", name="^base-", of=BASE),
    "the inventory is made": before("create", resource="configmaps"),
    "the inventory has been made": after("create", resource="configmaps"),
    "a ConfigMap has been made": after("patch", resource="configmaps", path=CREATED, of=BASE),
    "a Service is made": before("patch", resource="services", path=CREATED, of=BASE),
    "a Secret has been made": after("patch", resource="secrets", path=CREATED, of=BASE),
    "the inventory has been confirmed": after("update", name=INVENTORY),
}


@pytest.fixture(scope="module")
def shared(bare_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(bare_cluster, tmp_path_factory.mktemp("kill")) as made:
        yield made


@pytest.fixture(scope="module")
def expected(shared: Rig) -> tuple[State, State]:
    return undisturbed(shared)


@pytest.mark.parametrize("point", POINTS)
def test_killed_during_its_first_sync_it_ends_where_an_undisturbed_one_does(
    shared: Rig, expected: tuple[State, State], point: str
) -> None:
    small, large = expected
    for seed in seeds(list(POINTS).index(point)):
        wanted, state = (SMALL, small) if seed % 2 else (LARGE, large)
        with shared.actor() as actor:
            deletes = actor.killed(POINTS[point], seed, wanted, wipe=seed % 3 == 1)

            assert deletes == [], (seed, point)
            assert actor.state() == state, (seed, point)
