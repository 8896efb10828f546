"""Four clusters and one daemon: what each further cluster costs at rest, and how fast all of them are filled at once.

Four control planes share the cores of this machine, so the floor is what four bare clients reach on the same four at
once, each a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.bench.bodies import Body, bodies
from tests.bench.corpus import corpus
from tests.bench.daemon import Run, requests, unix
from tests.bench.first import CONNECTIONS, MB
from tests.bench.proc import cpu_seconds, resident, settle
from tests.bench.stage import AGENT, TARGET, Stage, say
from tests.bench.table import Row, median
from tests.e2e.daemon import ROOT
from tests.sandbox import Cluster

CLUSTERS = 4
APPS = 60
"""Of nine objects each, on every cluster."""
REST_S = 20.0
"""Of CPU at rest: four renewals of each lease."""
IDLE = "idle"
"""A folder with one application: nine kinds to be watched, and little else."""
MANY = "many"


def measure(stage: Stage) -> list[Row]:
    stage.repo.commit({**corpus(1, 1, IDLE)}, message="one application")
    stage.repo.commit({**corpus(APPS, 4, MANY)}, message="many applications")
    return [*_at_rest(stage), _at_once(stage)]


def _at_rest(stage: Stage) -> list[Row]:
    sizes: dict[int, list[float]] = {1: [], CLUSTERS: []}
    busy: list[float] = []
    with stage.clusters(CLUSTERS) as clusters:
        for number in range(stage.rounds + 1):
            for count, held in sizes.items():  # A B A B
                with Run(stage.agent(*clusters[:count], path=IDLE)) as run:
                    run.wait_for("daemon ready")
                    settle([run.pid], within_s=10)
                    time.sleep(2)
                    if number:
                        held.append(resident(run.pid) / MB)
                    if number and count == CLUSTERS:
                        before = cpu_seconds(run.pid)
                        time.sleep(REST_S)
                        busy.append((cpu_seconds(run.pid) - before) / REST_S * 100)
            say(f"many, at rest {number}/{stage.rounds}")
    each = [(four - one) / (CLUSTERS - 1) for one, four in zip(sizes[1], sizes[CLUSTERS], strict=True)]
    return [
        Row(
            name="memory-cluster",
            what="resident memory of each further idle cluster, nine kinds watched",
            unit="MB",
            ours=median(each),
            at_most=3,
            absolute=True,
            samples={"ours": each, "one": sizes[1], "four": sizes[CLUSTERS]},
        ),
        Row(
            name="idle-cpu",
            what="CPU at rest, four clusters, of one core",
            unit="%",
            ours=median(busy),
            at_most=0.5,
            absolute=True,
            samples={"ours": busy},
        ),
    ]


def _at_once(stage: Stage) -> Row:
    sent = bodies(corpus(APPS, 4, MANY), agent=AGENT, target=TARGET)
    ours: list[float] = []
    floors: list[float] = []
    for number in range(stage.rounds + 1):
        with stage.clusters(CLUSTERS) as clusters:
            with Run(stage.agent(*clusters, path=MANY)) as run:
                for cluster in clusters:
                    run.wait_for("target in sync", target=f"{TARGET}@{cluster.name}")
            rate = _rate(clusters, "gitsyncd/", len(sent))
        with stage.clusters(CLUSTERS) as clusters:
            _bare(stage, clusters, sent)
            floor = _rate(clusters, "Python/", len(sent))
        say(f"many, at once {number}/{stage.rounds}: ours {rate:.0f}/s, floor {floor:.0f}/s")
        if number:
            ours.append(rate)
            floors.append(floor)
    return Row(
        name="four-clusters",
        what=f"objects applied a second, {CLUSTERS} clusters at once, {len(sent):,} objects each",
        unit="/s",
        ours=median(ours),
        floor=median(floors),
        floor_is="four bare clients at once",
        at_least=0.9,
        samples={"ours": ours, "floor": floors},
        note="from the first apply to the last, over all clusters, as the audit logs have them",
    )


def _rate(clusters: Sequence[Cluster], agent: str, objects: int) -> float:
    """Applies a second over all clusters, from the first that arrived to the last that was answered."""
    applies = [
        record
        for cluster in clusters
        for record in requests(cluster.audit_log, agent=agent)
        if record["verb"] in {"create", "patch"} and "fieldValidation=Strict" in record["requestURI"]
    ]
    if len(applies) != objects * len(clusters):
        raise RuntimeError(f"{len(applies)} applies in place of {objects * len(clusters)}")
    begun = min(unix(record["requestReceivedTimestamp"]) for record in applies)
    return len(applies) / (max(unix(record["stageTimestamp"]) for record in applies) - begun)


def _bare(stage: Stage, clusters: Sequence[Cluster], sent: Sequence[Body]) -> None:
    """A bare client for each, all at once."""
    clients = []
    for cluster in clusters:
        plan = {
            "server": cluster.server,
            "ca_file": str(cluster.ca_file),
            "token": cluster.admin_token,
            "connections": CONNECTIONS,
            "stages": [[[b.path, b.body.decode()] for b in sent if b.stage == number] for number in (0, 1)],
        }
        file = stage.folder / f"floor-{cluster.name}.json"
        file.write_text(json.dumps(plan))
        command = [sys.executable, "-m", "tests.bench.floor", str(file)]
        clients.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
    for client in clients:
        _, errors = client.communicate()
        if client.returncode:
            raise RuntimeError(f"a bare client failed: {errors[-2000:].decode(errors='replace')}")
