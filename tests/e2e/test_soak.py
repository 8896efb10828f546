"""The daemon is worked hard for a while, with faults now and then: what it holds at rest does not grow.

Objects are committed, changed, removed and edited by hand, round after round, with intervals of a fraction of a second;
every third round has faults by chance. After each round, when all is as Git says, the daemon is looked at: resident memory,
threads, descriptors, temporary files. The last third of the looks is held against the middle third; the first third is
left out, since caches fill and the allocator learns meanwhile.

A minute in `make test`; ten minutes by `make soak`, or so many seconds as `SOAK_S` says. Memory and threads are held
against themselves from five minutes on: before that, memory is still on its way to where it stays, and the event loop's
pool of threads gets its next one whenever more is asked of it at once than ever before.

Connections come and go while nothing is wrong: one for each watch and for each request under way, ended by faults and
by servers, made again, let go after half a minute without use. All other descriptors are there for good or for an instant.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.bench.proc import status_bytes, tree
from tests.e2e import chance
from tests.e2e.chance import World
from tests.e2e.daemon import Daemon, until
from tests.sandbox.fixtures import MakeCluster

SOAK_S = float(os.environ.get("SOAK_S") or 60)
SETTLED_S = 300.0
SEED = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(10**9))
FAULTS_EVERY = 3
AT_ONCE = 3
GROWTH = 1.02
"""What the median of resident memory may differ by between thirds: the allocator's own play is about a hundredth."""
MOST_THREADS = min(32, (os.cpu_count() or 1) + 4) + 2
"""What the event loop's pool of threads may have (`concurrent.futures.ThreadPoolExecutor`), and those of loop and log."""

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(SOAK_S * 2 + 240)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the daemon holds when it rests."""

    at_s: float
    resident: int
    threads: int
    connections: int
    """Sockets, those that listen included."""
    descriptors: int
    """All others."""
    temporary: int
    """Files in its folder for temporary ones, and unfinished ones in its state."""
    children: int


@pytest.fixture
def world(make_cluster: MakeCluster, tmp_path: Path) -> Iterator[World]:
    with chance.world(make_cluster(audit=True), tmp_path, SEED) as made:
        made.agent.document["targets"][0]["interval"] = "1s"
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        made.agent.environment["TMPDIR"] = str(temporary)
        yield made


def test_what_it_holds_at_rest_does_not_grow(world: World) -> None:
    print(f"FAULT_SEED={SEED}")
    looks: list[Look] = []
    with world.agent.start() as daemon:
        world.settles()
        begun = time.monotonic()
        number = 0
        while (gone := time.monotonic() - begun) < SOAK_S:
            if number % FAULTS_EVERY == 0:
                world.inject(AT_ONCE)
            world.commit()
            world.edit(number)
            if number % FAULTS_EVERY == 0:
                _hit(world, daemon)
                world.heal()
            world.settles()
            looks.append(_at_rest(world, daemon.pid, gone))
            number += 1
        assert world.deleted() == Counter(world.left)

    middle, last = _thirds(looks)
    _print(looks, middle, last)
    assert _most(looks, lambda look: look.threads) <= MOST_THREADS
    assert _median(last, lambda look: look.descriptors) <= _median(middle, lambda look: look.descriptors)
    assert _median(last, lambda look: look.connections) <= _most(middle, lambda look: look.connections)
    assert [look for look in looks if look.temporary] == []
    if SOAK_S >= SETTLED_S:
        assert _most(last, lambda look: look.threads) <= _most(middle, lambda look: look.threads)
        grown = _median(last, lambda look: look.resident) / _median(middle, lambda look: look.resident)
        assert grown <= GROWTH, grown


def _hit(world: World, daemon: Daemon) -> None:
    """Until one of the faults has hit, or the work is done in spite of them."""
    head = f"main@sha1:{world.repo.head()}"
    fresh = world.rules[-AT_ONCE:]
    until(
        lambda: any(rule.hits for rule in fresh) or daemon.said("target in sync", revision=head),
        "a fault to hit",
        within_s=60,
    )


def _at_rest(world: World, pid: int, at_s: float) -> Look:
    """Once what was started for this round has ended: a fetch lasts some tenths of a second."""
    until(lambda: not _unfinished(world), "temporary files to go", within_s=20)
    opened = _opened(pid)
    return Look(
        at_s=round(at_s, 1),
        resident=status_bytes(pid, "VmRSS"),
        threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
        connections=sum(name.startswith("socket:") for name in opened),
        descriptors=sum(not name.startswith("socket:") for name in opened),
        temporary=len(_unfinished(world)),
        children=len(list(tree(pid))) - 1,
    )


def _opened(pid: int) -> list[str]:
    """What the process's descriptors lead to, but for those that are closed meanwhile."""
    names = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            names.append(str(descriptor.readlink()))
    return names


def _unfinished(world: World) -> list[Path]:
    temporary = list(Path(world.agent.environment["TMPDIR"]).rglob("*"))
    return temporary + [
        path
        for path in world.agent.state_dir.rglob("*")
        if path.suffix in {".tmp", ".new"} or path.parent.name == "incoming"
    ]


def _thirds(looks: Sequence[Look]) -> tuple[Sequence[Look], Sequence[Look]]:
    """The middle and the last."""
    third = len(looks) // 3
    assert third >= 5, f"too few rounds to be judged: {len(looks)}"
    return looks[-2 * third : -third], looks[-third:]


def _median(looks: Sequence[Look], of: Callable[[Look], int]) -> float:
    return statistics.median(map(of, looks))


def _most(looks: Sequence[Look], of: Callable[[Look], int]) -> int:
    return max(map(of, looks))


def _print(looks: Sequence[Look], middle: Sequence[Look], last: Sequence[Look]) -> None:
    """The figures, for people; all looks go to the file that `SOAK_OUT` names."""
    print(f"\nsoak: {looks[-1].at_s:.0f} s, {len(looks)} rounds")
    print(f"{'':12}{'middle third':>16}{'last third':>16}{'an hour':>16}")
    for name in ("resident", "threads", "connections", "descriptors", "temporary", "children"):
        first, second = ([getattr(look, name) for look in third] for third in (middle, last))
        slope = statistics.linear_regression(
            [look.at_s for look in (*middle, *last)], [getattr(look, name) for look in (*middle, *last)]
        ).slope
        print(f"{name:12}{statistics.median(first):>16,.0f}{statistics.median(second):>16,.0f}{slope * 3600:>+16,.1f}")
    if out := os.environ.get("SOAK_OUT"):
        Path(out).write_text(json.dumps([asdict(look) for look in looks], indent=1))
