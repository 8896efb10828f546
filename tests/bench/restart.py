"""A restart on a cluster where nothing changed: how soon the daemon knows that, and that it writes nothing."""

from __future__ import annotations

from tests.bench.daemon import Json, Run, requests, unix
from tests.bench.stage import Stage, say
from tests.bench.table import Row, median

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def measure(stage: Stage) -> list[Row]:
    """The daemon is ended as systemd ends it; what it kept on disk is there."""
    took: list[float] = []
    written: list[float] = []
    lists: list[float] = []
    with stage.cluster() as cluster:
        agent = stage.agent(cluster)
        with Run(agent) as run:
            run.wait_for("target in sync")
        for number in range(stage.rounds + 1):
            since = cluster.audit_log.stat().st_size
            with Run(agent) as run:
                run.wait_for("target in sync")
                seconds = unix(next(run.said("target in sync"))["timestamp"]) - run.began
            asked = requests(cluster.audit_log, since=since)
            say(f"restart {number}/{stage.rounds}: {seconds:.2f} s{'' if number else ' (warm-up, not counted)'}")
            if number:
                took.append(seconds)
                written.append(sum(_writes(record) for record in asked))
                lists.append(sum(record["verb"] == "list" for record in asked))
    return [
        Row(
            name="restart",
            what="exec to `target in sync`, 2,000 objects, nothing changed",
            unit="s",
            ours=median(took),
            at_most=1.0,
            absolute=True,
            samples={"ours": took},
            note=f"{median(lists):.0f} lists",
        ),
        Row(
            name="restart-writes",
            what="writes of such a restart, the lease left out",
            unit="writes",
            ours=max(written),
            at_most=0,
            absolute=True,
            samples={"ours": written},
        ),
    ]


def _writes(record: Json) -> bool:
    return record["verb"] in WRITES and "dryRun=All" not in record["requestURI"]
