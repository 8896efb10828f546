"""A fleet in sync: what a look costs when nothing changed, how fast a foreign edit is undone, how fast a commit is live.

One daemon on one control plane. Whether an object is as Git says is seen by a watch of its own, which searches the bytes
of each event and decodes nothing.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench.bodies import bodies
from tests.bench.corpus import APPS, app_name, configmap, image_of, namespace_of
from tests.bench.daemon import Run, requests
from tests.bench.eye import Eye
from tests.bench.proc import cpu_seconds, settle
from tests.bench.stage import AGENT, TARGET, Stage, say
from tests.bench.table import Row, median, percentile
from tests.e2e.daemon import Agent
from tests.gitserver.repository import BARE_ENVIRONMENT
from tests.sandbox import Cluster

TURNS = 10
EDITS = 200
BLOCK = 10
"""Single edits and serial applies take turns in blocks of this size."""
STORM = 200
STORMS = 3
"""Together with the single edits this stays below what is called a fight: six reverts of an object within a minute."""
CHANGED = 10
OTHER_FILES = 3_000
MERGE = {"Content-Type": "application/merge-patch+json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A way to damage an object of the fleet, and what an event of the whole object holds."""

    name: str
    root: str
    plural: str
    content_type: dict[str, str]
    edit: bytes
    file: str
    """The one of the corpus that serial applies send, with the word to vary in it."""
    word: bytes

    def whole(self, number: int) -> bytes:
        return f'"image":"{image_of(number)}"'.encode() if self.plural == "deployments" else b'"color":"blue"'

    def path(self, number: int, namespace: str = "") -> str:
        return f"{self.root}/namespaces/{namespace or namespace_of(number)}/{self.plural}/{app_name(number)}"


CONFIG_MAP = Kind(
    name="ConfigMap value",
    root="/api/v1",
    plural="configmaps",
    content_type=MERGE,
    edit=b'{"data":{"color":"red"}}',
    file="configmap",
    word=b"blue",
)
DEPLOYMENT = Kind(
    name="Deployment image",
    root="/apis/apps/v1",
    plural="deployments",
    content_type=JSON_PATCH,
    edit=b'[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"evil.example.com/x:1"}]',
    file="deployment",
    word=b":1.0.",
)


@dataclass(slots=True)
class Bench:
    """The running daemon and how to reach what is around it."""

    stage: Stage
    cluster: Cluster
    agent: Agent
    run: Run
    session: aiohttp.ClientSession
    eye: Eye
    rows: list[Row] = field(default_factory=list)

    async def patch(self, path: str, body: bytes, headers: dict[str, str], query: str = "?fieldManager=person") -> None:
        async with self.session.patch(self.cluster.server + path + query, data=body, headers=headers) as response:
            answer = await response.read()
            if response.status not in {200, 201}:
                raise RuntimeError(f"{path}: {response.status} {answer[:300]!r}")

    async def ask(self, call: str, **arguments: Any) -> None:
        """What `gitsyncd sync` and its like send to the daemon, without the start of a process."""
        from gitsyncd.edges.web.local import ask

        await asyncio.to_thread(ask, self.agent.socket, call, **arguments)


def measure(stage: Stage, names: frozenset[str]) -> list[Row]:
    """Those of `no-change`, `revert`, `storm` and `commit` that are named."""
    return asyncio.run(_measure(stage, names))


async def _measure(stage: Stage, names: frozenset[str]) -> list[Row]:
    with stage.cluster() as cluster:
        agent = stage.agent(cluster)
        with Run(agent) as run:
            say("steady: waiting for a fleet in sync")
            await asyncio.to_thread(run.wait_for, "daemon ready")
            async with _session(cluster) as session, Eye.watching(session, cluster.server, AGENT) as eye:
                bench = Bench(stage, cluster, agent, run, session, eye)
                for name, work in (("no-change", no_change), ("revert", revert), ("storm", storm), ("commit", commit)):
                    if name in names:
                        settle([run.pid, *cluster.pids.values()])
                        say(f"steady: {name}")
                        bench.rows += await work(bench)
                return bench.rows


def _session(cluster: Cluster) -> aiohttp.ClientSession:
    tls = ssl.create_default_context(cafile=str(cluster.ca_file))
    headers = {"Authorization": f"Bearer {cluster.admin_token}", "User-Agent": "person"}
    return aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(ssl=tls, limit=0))


# --- nothing changed --------------------------------------------------------------------------------------------------


async def no_change(bench: Bench) -> list[Row]:
    """Turns that people ask for, against as long a time without any."""
    pid, log = bench.run.pid, bench.cluster.audit_log
    turn, per_turn, asked = ["sync", TARGET, "--wait", "--output", "json"], [], 0
    await asyncio.to_thread(bench.agent.run, *turn)  # warm-up
    for _ in range(max(1, bench.stage.rounds)):
        since, cpu, begun = log.stat().st_size, cpu_seconds(pid), time.monotonic()
        for _ in range(TURNS):
            done = await asyncio.to_thread(bench.agent.run, *turn)
            if done.code != 0:
                raise RuntimeError(f"sync: {done.stderr}")
        busy, took = cpu_seconds(pid) - cpu, time.monotonic() - begun
        asked += len(requests(log, since=since))
        cpu = cpu_seconds(pid)
        await asyncio.sleep(took)
        per_turn.append((busy - (cpu_seconds(pid) - cpu)) / TURNS * 1000)
    return [
        Row(
            name="no-change-requests",
            what="requests of a full turn with nothing changed, live watches",
            unit="requests",
            ours=asked / (TURNS * len(per_turn)),
            at_most=0,
            absolute=True,
        ),
        Row(
            name="no-change-cpu",
            what="CPU of the daemon for such a turn, 2,000 objects, poll of Git included",
            unit="ms",
            ours=median(per_turn),
            at_most=50,
            absolute=True,
            samples={"ours": per_turn},
        ),
    ]


# --- drift ------------------------------------------------------------------------------------------------------------


async def revert(bench: Bench) -> list[Row]:
    """One edit at a time: from sending it to the event of the whole object; in turn with serial applies of that kind."""
    bench.cluster.create_namespace("serial")
    rows = []
    for kind in (CONFIG_MAP, DEPLOYMENT):
        file = f"fleet/apps/{app_name(0)}/{kind.file}.yaml"
        body = bodies({file: bench.stage.files[file]}, agent="nobody", target="none")[0].body
        body = body.replace(b'"namespace":"team-00"', b'"namespace":"serial"')
        serial: list[float] = []
        ours: list[float] = []
        for block in range(EDITS // BLOCK + 1):
            fresh = [await _serial(bench, kind, body, f"{block}x{n}".encode()) for n in range(BLOCK)]
            numbers = range(BLOCK * (block - 1), BLOCK * block)
            if block:  # the first block warms up
                serial += fresh
                ours += [await _undone(bench, kind, number) for number in numbers]
        rows += _revert_rows(kind, ours, serial)
    return rows


async def _serial(bench: Bench, kind: Kind, body: bytes, word: bytes) -> float:
    begun = time.perf_counter()
    await bench.patch(
        kind.path(0, "serial"), body.replace(kind.word, kind.word + word), APPLY, "?fieldManager=x&force=true"
    )
    return (time.perf_counter() - begun) * 1000


async def _undone(bench: Bench, kind: Kind, number: int) -> float:
    seen = bench.eye.expect(kind.plural, app_name(number), kind.whole(number), wait_for_damage=True)
    begun = time.perf_counter()
    await bench.patch(kind.path(number), kind.edit, kind.content_type)
    async with asyncio.timeout(30):
        return (await seen - begun) * 1000


def _revert_rows(kind: Kind, ours: Sequence[float], serial: Sequence[float]) -> list[Row]:
    short = kind.plural.rstrip("s")
    return [
        Row(
            name=f"revert-{short}-p{percent}",
            what=f"{kind.name} edited by hand to restored event, {len(ours)} single edits",
            unit="ms",
            ours=percentile(ours, percent),
            floor=percentile(serial, 50),
            floor_is="p50 of one serial apply",
            at_most=at_most,
            samples={"ours": list(ours), "floor": list(serial)} if percent == 50 else {},
            # Where this is high too, something else had the cores.
            note=f"p99 of one serial apply: {percentile(serial, 99):.3g} ms" if percent == 99 else "",
        )
        for percent, at_most in ((50, 3.0), (99, 15.0))
    ]


async def storm(bench: Bench) -> list[Row]:
    """Many edits at once, from the first one sent to the last object restored."""
    ours, floors = [], []
    for _ in range(STORMS):
        begun = time.perf_counter()
        seen = [
            bench.eye.expect(CONFIG_MAP.plural, app_name(n), CONFIG_MAP.whole(n), wait_for_damage=True)
            for n in range(STORM)
        ]
        pending = iter(range(STORM))

        async def worker(pending: Any = pending) -> None:
            for number in pending:
                await bench.patch(CONFIG_MAP.path(number), CONFIG_MAP.edit, CONFIG_MAP.content_type)

        await asyncio.gather(*(worker() for _ in range(16)))
        floors.append(time.perf_counter() - begun)
        async with asyncio.timeout(60):
            ours.append(max(await asyncio.gather(*seen)) - begun)
        await asyncio.to_thread(settle, [bench.run.pid])
    return [
        Row(
            name="storm",
            what=f"{STORM} ConfigMaps edited at once to all restored",
            unit="s",
            ours=median(ours),
            floor=median(floors),
            floor_is="the edits themselves",
            at_most=2.5,
            samples={"ours": ours, "floor": floors},
        )
    ]


# --- a commit ---------------------------------------------------------------------------------------------------------


async def commit(bench: Bench) -> list[Row]:
    """From the notice that there is a commit to its last object live; against git's and kubectl's own commands."""
    repo = bench.stage.repo
    repo.commit({f"docs/{n % 60:02}/page-{n:04}.md": f"# page {n}\n" for n in range(OTHER_FILES)})
    await bench.ask("sync", targets=[TARGET], wait=True)
    clone = bench.stage.folder / "clone"
    _git(bench, "clone", "-q", bench.stage.url, str(clone))
    bench.cluster.create_namespace("by-hand")
    ours, floors = [], []
    for number in range(bench.stage.rounds + 1):
        color = f"green{number}"
        repo.commit({_file(n): configmap(n, color=color) for n in _chosen()})
        mine, theirs = await _live(bench, color), await asyncio.to_thread(_by_hand, bench, clone, color)
        if number:
            ours.append(mine)
            floors.append(theirs)
    files = len(bench.stage.files) + OTHER_FILES
    return [
        Row(
            name="commit",
            what=f"notice of a commit to {CHANGED} changed objects live, repository of {files:,} files",
            unit="s",
            ours=median(ours),
            floor=median(floors),
            floor_is="git fetch + kubectl apply --server-side of those files",
            at_most=0.5,
            samples={"ours": ours, "floor": floors},
        )
    ]


def _chosen() -> range:
    return range(0, APPS, APPS // CHANGED)[:CHANGED]


def _file(number: int) -> str:
    return f"fleet/apps/{app_name(number)}/configmap.yaml"


async def _live(bench: Bench, color: str) -> float:
    wanted = f'"color":"{color}"'.encode()
    seen = [bench.eye.expect(CONFIG_MAP.plural, app_name(n), wanted) for n in _chosen()]
    begun = time.perf_counter()
    asking = asyncio.create_task(bench.ask("sync", targets=[TARGET], wait=True))
    async with asyncio.timeout(60):
        last = max(await asyncio.gather(*seen))
        await asking
    return last - begun


def _by_hand(bench: Bench, clone: Path, color: str) -> float:
    """The files lie ready: reading them out of the commit is not counted."""
    folder = bench.stage.folder / "by-hand"
    folder.mkdir(exist_ok=True)
    for number in _chosen():
        text = configmap(number, color=color, namespace="by-hand")
        (folder / f"{app_name(number)}.yaml").write_text(text)
    begun = time.perf_counter()
    _git(bench, "-C", str(clone), "fetch", "-q", "origin", "main")
    bench.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(folder))
    return time.perf_counter() - begun


def _git(bench: Bench, *arguments: str) -> None:
    environment = {**BARE_ENVIRONMENT, "GIT_SSL_CAINFO": str(bench.stage.ca_file)}
    subprocess.run(["git", *arguments], check=True, capture_output=True, env=environment)
