"""The only place where edges meet engine: everything that one agent file asks for, built and wired, nothing started."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gitsyncd import __version__
from gitsyncd.core.writers import WriterTable
from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.edges.kube.cluster import KubeCluster
from gitsyncd.edges.render.plain import PlainRenderer
from gitsyncd.engine.apply import Actuator
from gitsyncd.engine.cluster_view import ClusterView
from gitsyncd.engine.facts import Gatherer, Siblings
from gitsyncd.engine.journal import Journal
from gitsyncd.engine.meter import Meter
from gitsyncd.engine.reconcile import Reconciler
from gitsyncd.engine.source_loop import SourceLoop, Track
from gitsyncd.engine.target_loop import TargetLoop
from gitsyncd.engine.watch_loop import Watches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gitsyncd.engine.ports import Clock, ClusterApi, Log, Mirror, Renderer, Store
    from gitsyncd.model.source import Repository, Source
    from gitsyncd.model.target import Agent, Cluster, Configuration


class SystemClock:
    """Satisfies the engine's `Clock`."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def jitter(self) -> float:
        return random.random()


def _git_mirror(agent: Agent, source: Source) -> GitMirror:
    folder = agent.state_dir / "mirrors" / mirror_name(source.repository)
    return GitMirror(folder, source.repository, source.timeout, agent=f"gitsyncd/{__version__} ({agent.name})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """How the outside world is reached: one maker for each port of the engine."""

    cluster: Callable[[Cluster, Agent], ClusterApi] = KubeCluster
    mirror: Callable[[Agent, Source], Mirror] = _git_mirror
    renderer: Callable[[], Renderer] = PlainRenderer
    clock: Clock = field(default_factory=SystemClock)


@dataclass(slots=True)
class Parts:
    """Everything that one agent file asks for, built and wired, nothing started."""

    configuration: Configuration
    edges: Edges = field(default_factory=Edges)
    mirrors: dict[Repository, Mirror] = field(default_factory=dict)
    tracks: dict[tuple[str, str], Track] = field(default_factory=dict)
    sources: list[SourceLoop] = field(default_factory=list)
    views: dict[str, ClusterView] = field(default_factory=dict)
    targets: list[TargetLoop] = field(default_factory=list)
    gatherers: dict[str, Gatherer] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)

    async def close(self) -> None:
        for view in self.views.values():
            await view.api.close()
        for mirror in self.mirrors.values():
            await mirror.close()


def build(
    configuration: Configuration,
    *,
    log: Log,
    store: Store,
    group: asyncio.TaskGroup | None,
    edges: Edges | None = None,
) -> Parts:
    """Wire the parts. With a task group, clusters are watched; without, every look lists afresh."""
    parts = Parts(configuration, edges or Edges())
    clock = parts.edges.clock
    writers = WriterTable.build(configuration.agent.writers)
    feeds: dict[str, Watches] = {}
    for cluster in configuration.clusters:
        api = parts.edges.cluster(cluster, configuration.agent)
        view = ClusterView(cluster, api, configuration.agent, writers=writers, clock=clock, log=log, store=store)
        parts.views[cluster.name] = view
        feeds[cluster.name] = Watches(view, group, clock=clock, log=log)
    renderers: dict[str, Renderer] = defaultdict(parts.edges.renderer)
    for target in configuration.targets:
        track = _track(parts, target.source, log=log, store=store, clock=clock)
        view, watches = parts.views[target.cluster], feeds[target.cluster]
        gatherer = Gatherer(target, view, watches, track.mirror, renderers[target.source.name])
        journal = Journal(target.id, log=log, clock=clock, meter=parts.meter)
        siblings = Siblings(view, target.name, lambda view=view: _wanted_commits(parts, view))  # type: ignore[misc]
        actuator = Actuator(target, view, journal, clock=clock)
        reconciler = Reconciler(target, view, gatherer, siblings, actuator, journal, clock=clock)
        loop = TargetLoop(target, view, track, gatherer, reconciler, journal, clock=clock)
        track.bells.append(loop.bell)
        view.bells[target.name] = loop.bell
        parts.targets.append(loop)
        parts.gatherers[target.id] = gatherer
    by_mirror: dict[int, list[Track]] = defaultdict(list)
    for track in parts.tracks.values():
        by_mirror[id(track.mirror)].append(track)
    parts.sources = [
        SourceLoop(tracks[0].mirror, tracks, clock=clock, meter=parts.meter) for tracks in by_mirror.values()
    ]
    return parts


def _track(parts: Parts, source: Source, *, log: Log, store: Store, clock: Clock) -> Track:
    key = (source.name, source.branch)
    if key not in parts.tracks:
        mirror = parts.mirrors.get(source.repository)
        if mirror is None:
            mirror = parts.edges.mirror(parts.configuration.agent, source)
            parts.mirrors[source.repository] = mirror
        parts.tracks[key] = Track(source, mirror, clock=clock, log=log, store=store)
    return parts.tracks[key]


def mirror_name(repository: Repository) -> str:
    """A folder's name for a repository and the credentials that it is read with."""
    return sha256(repr(repository).encode()).hexdigest()[:20]


def _wanted_commits(parts: Parts, view: ClusterView) -> Mapping[str, str]:
    return {
        loop.target.name: loop.track.admitted.commit if loop.track.admitted else ""
        for loop in parts.targets
        if loop.view is view
    }


class Silence:
    """A log for commands: what they have to say is their answer."""

    def debug(self, event: str, **facts: Any) -> None: ...

    def info(self, event: str, **facts: Any) -> None: ...

    def warning(self, event: str, **facts: Any) -> None: ...

    def error(self, event: str, **facts: Any) -> None: ...
