"""A daemon in a world of memory: the real wiring and the real loops, with repositories and clusters that are values.

world = World(targets=["web"])
world.repo.commit({"web": [config_map("settings", color="blue")]})
async with world:
    await world.until(lambda: world.state("web") == "in-sync")
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from gitsyncd.daemon import Daemon
from gitsyncd.edges.schedule import cron_moment
from gitsyncd.edges.store import MemoryStore
from gitsyncd.engine.target_loop import TargetLoop
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.source import OnRewind, Repository, Source
from gitsyncd.model.target import Agent, Cluster, Configuration, InCluster, Target
from gitsyncd.wiring import Edges, Fleet, Holder
from tests.engine.cluster import MemoryApi, MemoryCluster
from tests.engine.fields import Json
from tests.engine.mirror import Renderer, Repo
from tests.engine.virtualtime import VirtualClock

PATIENCE_S = 2 * 3600.0
"""Virtual seconds after which what a test waits for will not come."""


class Diary:
    """Satisfies the engine's `Log` and remembers."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def _say(self, level: str, event: str, facts: dict[str, Any]) -> None:
        at = asyncio.get_running_loop().time()
        self.lines.append({"event": event, "level": level, "clock": at, **facts})

    def debug(self, event: str, **facts: Any) -> None:
        self._say("debug", event, facts)

    def info(self, event: str, **facts: Any) -> None:
        self._say("info", event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        self._say("warning", event, facts)

    def error(self, event: str, **facts: Any) -> None:
        self._say("error", event, facts)

    def events(self, *names: str, **facts: Any) -> list[dict[str, Any]]:
        """Lines of these events with these facts, those for debugging left out."""
        return [
            line
            for line in self.lines
            if line["event"] in names
            and line["level"] != "debug"
            and all(line.get(key) == value for key, value in facts.items())
        ]


def source(name: str = "fleet", *, branch: str = "main", on_rewind: OnRewind = OnRewind.HOLD) -> Source:
    return Source(
        name=name,
        repository=Repository(url="https://git.example/fleet.git"),
        branch=branch,
        interval=timedelta(seconds=30),
        timeout=timedelta(seconds=60),
        on_rewind=on_rewind,
    )


def target(name: str, *, cluster: str = "c1", path: str = "", **facts: Any) -> Target:
    return Target(name=name, cluster=cluster, path=path or name, **{"source": source(), "wait": False, **facts})


class VirtualCalendar:
    """Satisfies the engine's `Calendar` by the clock of these tests."""

    def at(self, _name: str, moment: datetime, ring: Callable[[], None]) -> None:
        seconds = (moment - VirtualClock().now()).total_seconds()
        asyncio.get_running_loop().call_later(max(0.0, seconds), ring)

    def following(self, expression: str, time_zone: str, after: datetime) -> datetime | None:
        return cron_moment(expression, time_zone, after)


class World:
    """One daemon, its repositories and its clusters. `async with` starts and stops it."""

    def __init__(
        self,
        targets: Sequence[Target | str],
        *,
        clusters: dict[str, MemoryCluster] | None = None,
        repo: Repo | None = None,
        store: MemoryStore | None = None,
        holder: str = "edge-1",
        shares: bool = False,
        log: Diary | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        self.targets = [target(item) if isinstance(item, str) else item for item in targets]
        self.clusters = clusters or {
            name: MemoryCluster(uid=f"uid-{name}") for name in {item.cluster for item in self.targets}
        }
        self.repo = repo or Repo()
        self.store = store or MemoryStore()
        self.log = log or Diary()
        self.renderers: dict[int, Renderer] = defaultdict(Renderer)
        self.renderer = Renderer()
        self.holder = Holder(holder)
        agent = Agent(
            name="edge",
            state_dir=Path("/nowhere"),
            cluster_namespace="gitsyncd",
            socket=Path("/nowhere/s"),
            shares=shares,
        )
        configuration = Configuration(
            file=Path("/nowhere/gitsyncd.yaml"),
            agent=agent,
            sources=tuple({item.source for item in self.targets}),
            clusters=tuple(Cluster(name=name, connection=InCluster(), parallel=4) for name in self.clusters),
            targets=tuple(self.targets),
        )
        edges = Edges(
            cluster=lambda cluster, agent: MemoryApi(self.clusters[cluster.name], agent),
            mirror=lambda _agent, _source: self.repo,
            renderer=lambda: self.renderer,
            clock=clock or VirtualClock(),
        )
        self.daemon = Daemon(configuration, log=self.log, edges=edges, store=self.store)
        self._configuration, self._edges = configuration, edges
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self.parts = Fleet(
            self._configuration,
            log=self.log,
            store=self.store,
            edges=self._edges,
            group=self._tasks,
            holder=self.holder,
        )
        await self.parts.adopt(self._configuration)
        self.control = self.daemon._control(self.parts, VirtualCalendar())
        self.control.restore_suspensions()
        self.parts.start()
        self.first_turns = self._tasks.create_task(
            self.daemon._first_turns(self.parts, self.control, wait=False, once=False)
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        ended = _Ended()
        try:
            await self._tasks.__aexit__(type(ended), ended, None)
        except* _Ended:
            pass

    # --- looking -------------------------------------------------------------------------------------------------

    @property
    def cluster(self) -> MemoryCluster:
        return self.clusters["c1"]

    def loop(self, name: str) -> TargetLoop:
        return next(loop for loop in self.parts.targets if name in {loop.target.id, loop.target.name})

    def state(self, name: str) -> str:
        return str(self.loop(name).state)

    def events(self, *names: str, **facts: Any) -> list[dict[str, Any]]:
        return self.log.events(*names, **facts)

    def live(self, object_id: ObjectId) -> Json | None:
        return self.cluster.objects.get(object_id)

    async def until(self, fact: Callable[[], Any], *, within: float = PATIENCE_S) -> None:
        """Until it holds, in small steps of virtual time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while not fact():
            assert loop.time() < deadline, "waited in vain"
            await asyncio.sleep(0.01 if loop.time() < deadline - within + 60 else 1.0)

    async def in_sync(self, *names: str, commit: str = "") -> None:
        """Until these targets (or all) are in sync, at this commit."""
        loops = [self.loop(name) for name in names] if names else self.parts.targets
        await self.until(
            lambda: all(
                loop.state == "in-sync" and (not commit or (loop.revision and loop.revision.commit == commit))
                for loop in loops
            )
        )

    async def settled(self) -> None:
        """All in sync, and their histories written: nothing is left to say to any cluster."""
        await self.in_sync()
        await self.rest(3)

    async def rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Ended(Exception):
    pass


def config_map(
    name: str, *, namespace: str = "default", annotations: Json | None = None, **data: str
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data or {"color": "blue"}}


def map_id(name: str, *, namespace: str = "default") -> ObjectId:
    return ObjectId(group="", kind="ConfigMap", namespace=namespace, name=name)


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def definition(kind: str = "Widget", group: str = "example.com") -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": True, "storage": True}],
        },
    }


def widget(name: str, *, kind: str = "Widget", group: str = "example.com") -> dict[str, Any]:
    return {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"size": 1},
    }


def widget_id(name: str, *, kind: str = "Widget", group: str = "example.com") -> ObjectId:
    return ObjectId(group=group, kind=kind, namespace="default", name=name)


def recolor(color: str) -> Callable[[dict[str, Any]], None]:
    """An edit of a ConfigMap by hand."""

    def change(live: dict[str, Any]) -> None:
        live["data"]["color"] = color

    return change
