"""What others on the API server notice of a first sync: how long a bystander's GETs take, and whether anybody is told to
slow down. The daemon is an ordinary service account here, as priority and fairness sort requests by user; so is the bare
client that sends the same objects in its turn, for what part of it is the daemon's doing.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench.bodies import bodies
from tests.bench.daemon import Run
from tests.bench.first import floor_once
from tests.bench.stage import AGENT, TARGET, Stage, say
from tests.bench.table import Row, percentile
from tests.sandbox import Cluster

ACCOUNT = ("kube-system", "gitsyncd")
EVERY_S = 0.01
AT_REST_S = 8.0


def measure(stage: Stage) -> list[Row]:
    return asyncio.run(_measure(stage))


async def _measure(stage: Stage) -> list[Row]:
    rest: list[float] = []
    during: list[float] = []
    beside_bare: list[float] = []
    told = 0
    sent = bodies(stage.files, agent=AGENT, target=TARGET)
    for number in range(stage.rounds + 1):
        with _shared(stage) as (cluster, token):
            agent = stage.agent(cluster)
            agent.cluster(cluster.name, cluster.kubeconfig_for(f"system:serviceaccount:{':'.join(ACCOUNT)}", token))
            calm = await _gets(cluster, asyncio.create_task(asyncio.sleep(AT_REST_S)))
            with Run(agent) as run:
                busy = await _gets(cluster, asyncio.create_task(_applied(run)))
            slowed = _refused(cluster.audit_log)
        with _shared(stage) as (cluster, token):
            bare = asyncio.create_task(asyncio.to_thread(floor_once, stage.folder, cluster, sent, token))
            beside = await _gets(cluster, bare)
        say(f"polite {number}/{stage.rounds}: {len(calm)} GETs at rest, {len(busy)} during, {slowed} x 429")
        if number:
            rest += calm
            during += busy
            beside_bare += beside
            told += slowed
    return [
        Row(
            name="bystander",
            what="p99 of a bystander's GET during a first sync of 2,000 objects",
            unit="ms",
            ours=percentile(during, 99),
            floor=percentile(rest, 99),
            floor_is="the same at rest",
            at_most=4,
            samples={"ours": [percentile(during, 50)], "floor": [percentile(rest, 50)]},
            note="the samples kept are the medians",
        ),
        Row(
            name="bystander-beside-bare",
            what="the same, against the same while a bare client sends these objects",
            unit="ms",
            ours=percentile(during, 99),
            floor=percentile(beside_bare, 99),
            floor_is="beside the bare client",
            at_most=1.1,
            samples={"ours": [percentile(during, 50)], "floor": [percentile(beside_bare, 50)]},
            note="the samples kept are the medians",
        ),
        Row(
            name="told-to-slow-down",
            what="answers 429 in these first syncs, to anybody",
            unit="answers",
            ours=told,
            at_most=0,
            absolute=True,
        ),
    ]


@contextmanager
def _shared(stage: Stage) -> Iterator[tuple[Cluster, str]]:
    """A cluster with an ordinary account that applies, its token, and a bystander."""
    with stage.cluster() as cluster:
        cluster.grant(":".join(ACCOUNT))
        cluster.grant("bob", "view")
        yield cluster, cluster.service_account_token(*ACCOUNT)


async def _applied(run: Run) -> None:
    await asyncio.to_thread(run.wait_for, "target in sync")


async def _gets(cluster: Cluster, until: asyncio.Task[Any]) -> list[float]:
    """Milliseconds of each of a bystander's GETs, one every 10 ms, for as long as that takes."""
    tls = ssl.create_default_context(cafile=str(cluster.ca_file))
    headers = {"Authorization": f"Bearer {cluster.tokens['bob']}"}
    url = f"{cluster.server}/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
    took: list[float] = []
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(ssl=tls)) as session:
        while not until.done():
            begun = time.perf_counter()
            async with session.get(url) as response:
                await response.read()
                if response.status != 200:
                    raise RuntimeError(f"a bystander's GET: {response.status}")
            took.append((time.perf_counter() - begun) * 1000)
            await asyncio.sleep(EVERY_S)
    await until
    return took[1:]  # the first one connects


def _refused(audit_log: Path) -> int:
    with audit_log.open() as lines:
        return sum(json.loads(line).get("responseStatus", {}).get("code") == 429 for line in lines)
