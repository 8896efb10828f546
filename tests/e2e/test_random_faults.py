"""Faults of the API server and of the Git server, by chance, while people commit and edit by hand: forty in `make test`, two
hundred in `make faults`.

Each round injects some, changes what Git says and what lives, and takes the faults away: then everything becomes what Git
says. What the daemon deleted is read in the audit log: it is exactly what left Git, each object once.

The seed is printed when it fails; `FAULT_SEED=1234 make test ARGS="tests/e2e/test_random_faults.py"` repeats it.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import chance
from tests.e2e.chance import AGENT, World
from tests.e2e.daemon import Daemon, until
from tests.faults.proxy import Rule
from tests.sandbox.fixtures import MakeCluster

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(1800)]

FAULTS = 200 if os.environ.get("FAULTS") == "all" else 40
AT_ONCE = 5
MOST_ROUNDS = 150
SEED = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(10**9))


@pytest.fixture
def world(make_cluster: MakeCluster, tmp_path: Path) -> Iterator[World]:
    with chance.world(make_cluster(audit=True), tmp_path, SEED) as made:
        yield made


def test_faults_by_chance_and_each_time_everything_becomes_what_git_says(world: World) -> None:
    print(f"FAULT_SEED={SEED}")
    with world.agent.start() as daemon:
        world.settles()
        hits = 0
        for number in range(MOST_ROUNDS):
            fresh = world.inject(AT_ONCE)
            world.commit()
            world.edit(number)
            _hit(world, daemon, fresh)
            world.heal()
            world.settles()
            assert world.deleted() == Counter(world.left), f"round {number}"
            hits = sum(rule.hits for rule in world.rules)
            if hits >= FAULTS:
                break

        print(f"{hits} faults in {number + 1} rounds; {len(world.left)} deletes, each wanted")
        assert hits >= FAULTS
        _writes_nothing(world)


def _hit(world: World, daemon: Daemon, fresh: list[Rule]) -> None:
    """The faults last until half of them have hit, or the work is done in spite of them."""
    head = world.repo.head()

    def enough() -> bool:
        return sum(bool(rule.hits) for rule in fresh) > AT_ONCE // 2 or bool(
            daemon.said("target in sync", revision=f"main@sha1:{head}")
        )

    until(enough, "faults to hit", within_s=60)


def _writes_nothing(world: World) -> None:
    assert world.agent.run("sync", "app", "--wait").code == 0
    before = len(world.here.audit.read(agent=AGENT))
    assert world.agent.run("sync", "app", "--wait").code == 0
    assert world.here.audit.read(agent=AGENT)[before:] == []
