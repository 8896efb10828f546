"""The daemon is killed at forty points of an update and of a prune, at requests that a seed chooses; the next one starts at
once, a third of them without local state, and ends where an undisturbed one does: the same objects with the same UIDs and
specs, an exact inventory, and no delete but of what left Git. `test_kill_first` does the same for a first sync.

Forty kills in `make test`; two hundred, five at each point, in `make faults`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.killing import (
    CHANGED,
    CHANGED_BY_FORCE,
    CREATED,
    EXTRA,
    GONE,
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

UPDATES: dict[str, Point] = {
    "the heads are asked for": git("ls-refs", answered=False),
    "the heads are answered": git("ls-refs", answered=True),
    "the pack is asked for": git("fetch", answered=False),
    "the pack is answered": git("fetch", answered=True),
    "the lease is renewed": after("patch", resource="leases"),
    "an object is read": before("get", name="^extra-", of=EXTRA),
    "an object has been read": after("get", name="^extra-", of=EXTRA),
    "the inventory is widened": before("update", name=INVENTORY),
    "the inventory has been widened": after("update", name=INVENTORY),
    "a ConfigMap is made": before("patch", resource="configmaps", path=CREATED, of=EXTRA),
    "a ConfigMap has been made": after("patch", resource="configmaps", path=CREATED, of=EXTRA),
    "a Service is made": before("patch", resource="services", path=CREATED, of=EXTRA),
    "a Service has been made": after("patch", resource="services", path=CREATED, of=EXTRA),
    "a Secret has been made": after("patch", resource="secrets", path=CREATED, of=EXTRA),
    "a ConfigMap is changed": before("patch", resource="configmaps", path=CHANGED_BY_FORCE, of=CHANGED),
    "a ConfigMap has been changed": after("patch", resource="configmaps", path=CHANGED_BY_FORCE, of=CHANGED),
    "a Service has been changed": after("patch", resource="services", path=CHANGED_BY_FORCE, of=CHANGED),
    "a Secret is changed": before("patch", resource="secrets", path=CHANGED_BY_FORCE, of=CHANGED),
    "the inventory is confirmed": before("update", name=INVENTORY, skip=1),
    "the inventory has been confirmed": after("update", name=INVENTORY, skip=1),
}
PRUNES: dict[str, Point] = {
    "the heads are answered": git("ls-refs", answered=True),
    "the pack is asked for": git("fetch", answered=False),
    "the pack is answered": git("fetch", answered=True),
    "the lease is about to be renewed": before("patch", resource="leases"),
    "the inventory says what is to go": before("update", name=INVENTORY),
    "the inventory has said what is to go": after("update", name=INVENTORY),
    "a ConfigMap is changed": before("patch", resource="configmaps", of=CHANGED),
    "a Service has been changed": after("patch", resource="services", of=CHANGED),
    "a Secret is changed": before("patch", resource="secrets", of=CHANGED),
    "a Secret has been changed": after("patch", resource="secrets", of=CHANGED),
    "a ConfigMap is deleted": before("delete", resource="configmaps", of=EXTRA),
    "a ConfigMap has been deleted": after("delete", resource="configmaps", of=EXTRA),
    "a Service is deleted": before("delete", resource="services", of=EXTRA),
    "a Service has been deleted": after("delete", resource="services", of=EXTRA),
    "a Secret is deleted": before("delete", resource="secrets", of=EXTRA),
    "a Secret has been deleted": after("delete", resource="secrets", of=EXTRA),
    "a deleted object is looked for": before("get", name="^extra-"),
    "a deleted object has been looked for": after("get", name="^extra-"),
    "the inventory forgets": before("update", name=INVENTORY, skip=1),
    "the inventory has forgotten": after("update", name=INVENTORY, skip=1),
}
PAIRS = list(zip(UPDATES, PRUNES, strict=True))
"""An agent goes there and back, so each test takes one point of each."""


@pytest.fixture(scope="module")
def shared(bare_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(bare_cluster, tmp_path_factory.mktemp("kill")) as made:
        yield made


@pytest.fixture(scope="module")
def expected(shared: Rig) -> tuple[State, State]:
    return undisturbed(shared)


@pytest.mark.parametrize(("update", "prune"), PAIRS)
def test_killed_when_something_is_asked_or_answered_it_ends_where_an_undisturbed_one_does(
    shared: Rig, expected: tuple[State, State], update: str, prune: str
) -> None:
    small, large = expected
    with shared.actor() as actor:
        actor.commit(SMALL)
        actor.start()
        actor.at_rest()
        kept = actor.uids()
        for seed in seeds(PAIRS.index((update, prune))):
            deletes = actor.killed(UPDATES[update], seed, LARGE, wipe=seed % 3 == 1)

            assert deletes == [], (seed, update)
            assert actor.state() == large, (seed, update)
            uids = actor.uids()
            assert {name: uids[name] for name in kept} == kept, (seed, update)

            deletes = actor.killed(PRUNES[prune], seed, SMALL, wipe=seed % 3 == 2)

            assert set(deletes) <= GONE, (seed, prune)
            assert actor.state() == small, (seed, prune)
            assert actor.uids() == kept, (seed, prune)
