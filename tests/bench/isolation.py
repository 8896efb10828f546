"""What the clusters that are well notice of one that is not: how long their turns take, against the same with nothing wrong.

One daemon keeps three clusters. Full turns of two of them are asked for, one after the other, while the third one, behind a
proxy, is well, dead, a black hole, or refuses everything with 429. Blocks of turns with
nothing wrong stand before and after each block with a fault, so that the machine's own speed moves both alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.bench.corpus import corpus
from tests.bench.daemon import Run
from tests.bench.proc import settle
from tests.bench.stage import TARGET, Stage, say
from tests.bench.table import Row, percentile
from tests.e2e.daemon import Agent, until
from tests.e2e.proxied import Site, site
from tests.faults.faults import BlackHole, Fault, Refuse, too_many

APPS = 60
"""Of nine objects each, on every cluster."""
PATH = "isolation"
HURT, OTHERS = "c1", ("c2", "c3")
TURNS = 300
"""Of each of the others, in a block."""
FAULTS: Mapping[str, tuple[Fault, str]] = {
    "dead": (Refuse(), "refuses connections"),
    "black-hole": (BlackHole(), "swallows everything"),
    "throttling": (too_many(1), "answers everything with 429"),
}
_numbers = itertools.count(1)


@dataclass(slots=True)
class _Bench:
    stage: Stage
    agent: Agent
    run: Run
    hurt: Site
    calm: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in FAULTS})
    """Turns right before and after those with this fault."""
    disturbed: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in FAULTS})

    def said(self, event: str) -> int:
        return sum(line.get("cluster") == HURT for line in self.run.said(event))

    def turns(self) -> list[float]:
        """Milliseconds of full turns of the others."""
        since = self.run.log.stat().st_size
        for _ in range(TURNS):
            _ask(self.agent, [f"{TARGET}@{name}" for name in OTHERS])
        return [
            line["took_s"] * 1000
            for line in self.run.said("target in sync", since=since)
            if line["target"].partition("@")[2] in OTHERS
        ]


def measure(stage: Stage) -> list[Row]:
    stage.repo.commit(corpus(APPS, 4, PATH), message="one fleet for three clusters")
    with _running(stage) as bench:
        for number in range(stage.rounds + 1):
            for name, (fault, _) in FAULTS.items():
                before, during, after = bench.turns(), _disturbed(bench, fault), bench.turns()
                if number:
                    bench.calm[name] += before + after
                    bench.disturbed[name] += during
            say(f"isolation {number}/{stage.rounds}{'' if number else ' (warm-up, not counted)'}")
    return [_row(name, what, bench) for name, (_, what) in FAULTS.items()]


@contextmanager
def _running(stage: Stage) -> Iterator[_Bench]:
    with ExitStack() as stack:
        clusters = stack.enter_context(stage.clusters(1 + len(OTHERS)))
        folder = stage.folder / f"isolation-{next(_numbers)}"
        folder.mkdir()
        hurt = stack.enter_context(site(clusters[0], folder, HURT))
        agent = stage.agent(*clusters, path=PATH)
        agent.cluster(HURT, hurt.kubeconfig)
        agent.document["agent"]["log"] = {"level": "debug"}
        run = stack.enter_context(Run(agent))
        for name in (HURT, *OTHERS):
            run.wait_for("target in sync", target=f"{TARGET}@{name}")
        settle([run.pid])
        yield _Bench(stage, agent, run, hurt)


def _disturbed(bench: _Bench, fault: Fault) -> list[float]:
    """From when the cluster is known to be lost."""
    lost, back = bench.said("cluster unreachable"), bench.said("cluster recovered")
    bench.hurt.proxy.put(fault)
    bench.hurt.proxy.reset()
    until(lambda: bench.said("cluster unreachable") > lost, f"{HURT} to be lost", within_s=90)
    took = bench.turns()
    bench.hurt.proxy.heal()
    until(lambda: bench.said("cluster recovered") > back, f"{HURT} to be well again", within_s=90)
    settle([bench.run.pid], within_s=10)
    return took


def _ask(agent: Agent, targets: list[str]) -> Any:
    """What `gitsyncd sync` sends to the daemon, without the start of a process."""
    from gitsyncd.edges.web.local import ask

    return ask(agent.socket, "sync", targets=targets, wait=True)


def _row(name: str, what: str, bench: _Bench) -> Row:
    ours, floor = bench.disturbed[name], bench.calm[name]
    return Row(
        name=f"isolation-{name}",
        what=f"p99 of full turns of two clusters while a third one {what}",
        unit="ms",
        ours=percentile(ours, 99),
        floor=percentile(floor, 99),
        floor_is="the same, nothing wrong",
        at_most=1.1,
        samples={"ours": [percentile(ours, 50)], "floor": [percentile(floor, 50)]},
        note=f"{len(ours):,} turns beside {len(floor):,}; the samples kept are the medians",
    )
