"""The first sync of 2,000 objects on an empty cluster: how long, how much memory, and when the first request leaves.

A B A B: the daemon and the bare client take turns, each on a control plane of its own that was started for it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.bodies import Body, bodies
from tests.bench.daemon import Run, requests, unix
from tests.bench.proc import cpu_seconds, resident, sampled, status_bytes
from tests.bench.stage import AGENT, TARGET, Stage, say
from tests.bench.table import Row, median
from tests.e2e.daemon import ROOT
from tests.sandbox import Cluster

CONNECTIONS = 16
REST_AFTER_S = 3.0
MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """One first sync of the daemon. Seconds and bytes."""

    applied_s: float
    request_s: float
    peak: int
    rest: int
    own_peak: int
    """Of the daemon without its children."""
    cpu_s: float
    """Of the daemon without its children."""


def measure(stage: Stage) -> list[Row]:
    sent = bodies(stage.files, agent=AGENT, target=TARGET)
    ours: list[First] = []
    floors: list[float] = []
    for number in range(stage.rounds + 1):
        warm_up = " (warm-up, not counted)" if number == 0 else ""
        with stage.cluster() as cluster:
            first = ours_once(stage, cluster)
        with stage.cluster() as cluster:
            floor = floor_once(stage.folder, cluster, sent)
        say(f"first sync {number}/{stage.rounds}: ours {first.applied_s:.2f} s, floor {floor:.2f} s{warm_up}")
        if number:
            ours.append(first)
            floors.append(floor)
    return rows(ours, floors, len(sent))


def rows(ours: list[First], floors: list[float], objects: int) -> list[Row]:
    applied = [first.applied_s for first in ours]
    asked = [first.request_s for first in ours]
    rest, peak = [first.rest / MB for first in ours], [first.peak / MB for first in ours]
    cpu = median([first.cpu_s for first in ours])
    return [
        Row(
            name="first-apply",
            what=f"exec to the last of {objects:,} objects applied, fetch and rendering included",
            unit="s",
            ours=median(applied),
            floor=median(floors),
            floor_is="bare client, sending only",
            at_most=1.3,
            samples={"ours": applied, "floor": floors},
            note=f"the daemon itself used {cpu:.2f} s of CPU",
        ),
        Row(
            name="first-request",
            what="exec to the first request at the API server",
            unit="s",
            ours=median(asked),
            at_most=0.5,
            absolute=True,
            samples={"ours": asked},
        ),
        Row(
            name="memory-rest",
            what=f"resident, whole process tree, {objects:,} objects, after the first sync",
            unit="MB",
            ours=median(rest),
            at_most=80,
            absolute=True,
            samples={"ours": rest},
        ),
        Row(
            name="memory-peak",
            what="highest in the first sync, fetch and rendering children included",
            unit="MB",
            ours=median(peak),
            at_most=130,
            absolute=True,
            samples={"ours": peak, "daemon alone": [first.own_peak / MB for first in ours]},
            note="sum of the high-water marks of all processes alive at one time, looked at every 10 ms",
        ),
    ]


def ours_once(stage: Stage, cluster: Cluster) -> First:
    agent = stage.agent(cluster)
    with Run(agent) as run, sampled(run.pid) as peak:
        run.wait_for("target in sync")
        run.wait_for("daemon ready")
        cpu = cpu_seconds(run.pid)
        time.sleep(REST_AFTER_S)  # that is what rest means; nothing is waited for
        rest = resident(run.pid)
        own = status_bytes(run.pid, "VmHWM")
    applied = [unix(line["timestamp"]) for line in run.said("object applied")]
    if len(applied) != len(stage.files):
        raise RuntimeError(f"{len(applied)} of {len(stage.files)} objects were applied")
    asked = min(unix(record["requestReceivedTimestamp"]) for record in requests(cluster.audit_log))
    return First(
        applied_s=max(applied) - run.began,
        request_s=asked - run.began,
        peak=peak.bytes,
        rest=rest,
        own_peak=own,
        cpu_s=cpu,
    )


def floor_once(folder: Path, cluster: Cluster, sent: list[Body], token: str = "") -> float:
    """Seconds from the first request to the last answer of the bare client, an administrator unless told otherwise."""
    plan = {
        "server": cluster.server,
        "ca_file": str(cluster.ca_file),
        "token": token or cluster.admin_token,
        "connections": CONNECTIONS,
        "stages": [[[b.path, b.body.decode()] for b in sent if b.stage == stage] for stage in (0, 1)],
    }
    file = folder / "floor.json"
    file.write_text(json.dumps(plan))
    command = [sys.executable, "-m", "tests.bench.floor", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the bare client failed: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout)["seconds"])
