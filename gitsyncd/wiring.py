"""The only place where edges meet engine: everything that the agent file asks for, built, wired, and exchanged."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from dataclasses import field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gitsyncd import __version__
from gitsyncd.automation import Automation, Makers
from gitsyncd.core.writers import WriterTable
from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.edges.kube.cluster import KubeCluster
from gitsyncd.edges.kube.fence import seconds
from gitsyncd.edges.render.plain import PlainRenderer
from gitsyncd.engine.apply import Actuator
from gitsyncd.engine.chronicle import Chronicle, Shelf
from gitsyncd.engine.cluster_loop import QUIET_WITHIN_S, ClusterLoop, turns_ended
from gitsyncd.engine.cluster_view import ClusterView
from gitsyncd.engine.facts import Gatherer, Siblings
from gitsyncd.engine.image_control import ImageControl
from gitsyncd.engine.journal import Journal
from gitsyncd.engine.meter import Meter
from gitsyncd.engine.reconcile import Reconciler
from gitsyncd.engine.rollback import Rollback
from gitsyncd.engine.source_loop import SourceLoop, Track
from gitsyncd.engine.supervise import Tasks
from gitsyncd.engine.target_loop import TargetLoop
from gitsyncd.engine.tenure import Roster, Tenure
from gitsyncd.engine.watch_loop import Watches
from gitsyncd.model.immutable import immutable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import timedelta

    from gitsyncd.engine.ports import (
        Calendar,
        Clock,
        ClusterApi,
        FileEditor,
        ImageRegistry,
        Log,
        MergeRequests,
        Mirror,
        Renderer,
        Store,
        Writer,
    )
    from gitsyncd.model.source import Repository, Source
    from gitsyncd.model.target import Agent, Cluster, Configuration, Images, Target
    from gitsyncd.model.update import Update


class SystemClock:
    """Satisfies the engine's `Clock`."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return seconds()

    def jitter(self) -> float:
        return random.random()


def _git_mirror(agent: Agent, source: Source) -> GitMirror:
    return _mirror_of(agent, source.repository, source.timeout)


def _mirror_of(agent: Agent, repository: Repository, timeout: timedelta) -> GitMirror:
    folder = agent.state_dir / "mirrors" / mirror_name(repository)
    return GitMirror(folder, repository, timeout, agent=_product(agent))


def _git_writer(agent: Agent, update: Update) -> Writer:
    from gitsyncd.edges.git.writer import GitWriter  # for agents with updates alone

    # A mirror of its own, which shares its folder with that of a source that is read with the same credentials.
    return GitWriter(
        _mirror_of(agent, update.repository, update.timeout),
        update.repository,
        update.timeout,
        agent=_product(agent),
        name=f"{agent.name}/{update.name}",
        author=update.author,
        signing=update.signing,
    )


def _registries(agent: Agent, images: Images) -> ImageRegistry:
    from gitsyncd.edges.registry.registries import Registries  # for agents with policies alone

    return Registries(images.registries, agent=_product(agent), home=agent.state_dir / "helpers")


def _editor() -> FileEditor:
    from gitsyncd.edges.yaml.images import Files  # for agents with policies alone

    return Files()


def _requests(agent: Agent, update: Update) -> MergeRequests | None:
    if update.pull_request is None:
        return None
    from gitsyncd.edges.forge.client import ForgeClient  # for updates by pull request alone

    return ForgeClient(
        update.repository.url,
        update.pull_request,
        ca_file=update.repository.ca_file,
        timeout=update.timeout,
        agent=_product(agent),
    )


def _product(agent: Agent) -> str:
    return f"gitsyncd/{__version__} ({agent.name})"


_MAKERS = Makers(registries=_registries, writer=_git_writer, editor=_editor, requests=_requests)


@immutable(kw_only=False)
class Holder:
    """What this process calls itself in leases, and what it knows of others on its machine."""

    name: str
    has_ended: Callable[[str], bool] = lambda _holder: False


@immutable
class Edges:
    """How the outside world is reached: one maker for each port of the engine."""

    cluster: Callable[[Cluster, Agent], ClusterApi] = KubeCluster
    mirror: Callable[[Agent, Source], Mirror] = _git_mirror
    renderer: Callable[[], Renderer] = PlainRenderer
    images: Makers = _MAKERS
    clock: Clock = field(default_factory=SystemClock)


class Fleet:
    """Everything that the agent file asks for, built and wired; what a changed file asks for instead takes its place.

    The containers are always the same ones: whoever was given them sees what there is now.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        log: Log,
        store: Store,
        calendar: Calendar | None = None,
        edges: Edges | None = None,
        group: asyncio.TaskGroup | None = None,
        holder: Holder | None = None,
    ) -> None:
        """Nothing is there before `adopt`. With a task group, `start` runs the loops, and clusters are watched;
        without, every look lists afresh. Without a calendar no registry is asked and no repository written.
        """
        self.edges = edges or Edges()
        self.clock = self.edges.clock
        self.configuration = configuration
        self.mirrors: dict[Repository, Mirror] = {}
        self.tracks: dict[tuple[str, str], Track] = {}
        self.sources: list[SourceLoop] = []
        self.views: dict[str, ClusterView] = {}
        self.clusters: dict[str, ClusterLoop] = {}
        self.targets: list[TargetLoop] = []
        self.gatherers: dict[str, Gatherer] = {}
        self.meter = Meter()
        self.chronicles: dict[str, Chronicle] = {}
        self.rollbacks = Rollback(
            self.gatherers,
            lambda: self.configuration.images,
            lambda update: self.edges.images.writer(self.configuration.agent, update),
            lambda update: self.edges.images.requests(self.configuration.agent, update),
            self.edges.images.editor(),
            digest=lambda image: self.automation.digest_of(image) if self.automation is not None else "",
            clock=self.clock,
            log=log,
            pushed=self._look_at,
        )
        self.automation = (
            Automation(self.edges.images, clock=self.clock, calendar=calendar, log=log, store=store)
            if calendar is not None
            else None
        )
        self._log = log
        self._store = store
        self._shelves: dict[str, Shelf] = {}
        self._tasks = Tasks(group, clock=self.clock, log=log) if group is not None else None
        holder = holder or Holder("nobody")
        self._roster = Roster(holder=holder.name, shares=configuration.agent.shares, has_ended=holder.has_ended)
        self._renderers: dict[str, Renderer] = defaultdict(self.edges.renderer)

    @property
    def images(self) -> ImageControl:
        """What may be asked of image policies; of none where none run."""
        found = self.automation
        return ImageControl(found.policies if found else [], found.updates if found else [], clock=self.clock)

    # --- what there is -------------------------------------------------------------------------------------------

    async def adopt(self, wanted: Configuration) -> None:
        """Make what there is what is wanted. What stays as it was is not touched, and nothing is deleted anywhere."""
        anew = self.configuration.agent != wanted.agent
        self.configuration = wanted
        clusters = {cluster.name: cluster for cluster in wanted.clusters}
        left = [name for name, view in self.views.items() if anew or clusters.get(name) != view.cluster]
        targets = set(wanted.targets)
        for loop in list(self.targets):
            if loop.target not in targets or loop.target.cluster in left:
                await self._remove_target(loop)
        await asyncio.gather(*(self._remove_cluster(name) for name in left))
        await self._remove_tracks(targets)
        for cluster in wanted.clusters:
            if cluster.name not in self.views:
                self._add_cluster(cluster)
        known = {loop.target for loop in self.targets}
        for target in wanted.targets:
            if target not in known:
                self._add_target(target)
        if self.automation is not None:
            await self.automation.adopt(wanted.images, wanted.agent, self._tasks, self._look_at)
        order = {target: place for place, target in enumerate(wanted.targets)}
        self.targets.sort(key=lambda loop: order[loop.target])

    def start(self) -> None:
        """Run what does not run yet."""
        if self._tasks is None:
            return
        for source in self.sources:
            self._tasks.start(_name(source), source.run)
        for name, cluster in self.clusters.items():
            self._tasks.start(f"cluster {name}", cluster.run)
        for loop in self.targets:
            self._tasks.start(f"target {loop.target.id}", loop.run)
            self._tasks.start(f"history {loop.target.id}", self.chronicles[loop.target.id].run)
        if self.automation is not None:
            self.automation.start(self._tasks)

    @property
    def alive(self) -> bool:
        """Whether every loop that was started runs, and every target is in a turn or has one coming."""
        loops = self._tasks is None or self._tasks.all_run
        return loops and all(loop.on_schedule for loop in self.targets)

    async def finish(self, *, within_s: float) -> None:
        """Let turns end at the next object, so that what was done is recorded, and hand the clusters on."""
        for loop in self.targets:
            loop.stop()
        await turns_ended(self.targets, within_s=within_s)
        await asyncio.gather(*(self._let_go(name) for name in self.clusters))

    async def close(self) -> None:
        """End every connection."""
        if self.automation is not None:
            await self.automation.close()
        for view in self.views.values():
            await view.api.close()
        for mirror in self.mirrors.values():
            await mirror.close()

    # --- adding and removing -------------------------------------------------------------------------------------

    def _add_cluster(self, cluster: Cluster) -> None:
        api = self.edges.cluster(cluster, self.configuration.agent)
        writers = WriterTable.build(self.configuration.agent.writers)
        view = ClusterView(
            cluster, api, self.configuration.agent, writers=writers, clock=self.clock, log=self._log, store=self._store
        )
        group = self._tasks.group if self._tasks is not None else None
        watches = Watches(view, group, clock=self.clock, log=self._log)
        tenure = Tenure(cluster.name, api, self._roster, clock=self.clock)
        self.views[cluster.name] = view
        self._shelves[cluster.name] = Shelf(view)
        self.clusters[cluster.name] = ClusterLoop(view, watches, tenure, self._roster, clock=self.clock)

    async def _remove_cluster(self, name: str) -> None:
        await self._let_go(name)
        self._roster.forget(name)
        view = self.views.pop(name)
        del self._shelves[name]
        self.clusters.pop(name).watches.stop()
        await view.api.close()

    async def _let_go(self, name: str) -> None:
        """Write nothing there any more, and let another daemon have it."""
        if self._tasks is not None:
            await self._tasks.end(f"cluster {name}")
        await self.clusters[name].tenure.pass_on()

    def _add_target(self, target: Target) -> None:
        track = self._track(target.source)
        cluster = self.clusters[target.cluster]
        view = cluster.view
        gatherer = Gatherer(target, view, cluster.watches, track.mirror, self._renderers[target.source.name])
        journal = Journal(target.id, log=self._log, clock=self.clock, meter=self.meter)
        siblings = Siblings(view, target.name, lambda: _wanted_commits(cluster))
        actuator = Actuator(target, view, journal, clock=self.clock)
        reconciler = Reconciler(target, view, gatherer, siblings, actuator, journal, clock=self.clock)
        loop = TargetLoop(target, view, track, gatherer, reconciler, journal, clock=self.clock)
        track.bells.append(loop.bell)
        view.bells[target.name] = loop.bell
        cluster.targets.append(loop)
        self.targets.append(loop)
        self.gatherers[target.id] = gatherer
        self.chronicles[target.id] = Chronicle(loop, gatherer, self._shelves[target.cluster], clock=self.clock)

    async def _remove_target(self, loop: TargetLoop) -> None:
        """Its objects and its record stay as they are."""
        loop.stop()
        await turns_ended([loop], within_s=QUIET_WITHIN_S)
        if self._tasks is not None:
            await self._tasks.end(f"history {loop.target.id}")
            await self._tasks.end(f"target {loop.target.id}")
        name = loop.target.name
        loop.track.bells.remove(loop.bell)
        cluster = self.clusters[loop.target.cluster]
        cluster.targets.remove(loop)
        cluster.watches.drop(name)
        del loop.view.bells[name]
        loop.view.claims.pop(name, None)
        self.targets.remove(loop)
        del self.gatherers[loop.target.id]
        del self.chronicles[loop.target.id]

    def _track(self, source: Source) -> Track:
        key = (source.name, source.branch)
        if key not in self.tracks:
            mirror = self.mirrors.get(source.repository)
            if mirror is None:
                mirror = self.mirrors[source.repository] = self.edges.mirror(self.configuration.agent, source)
            track = self.tracks[key] = Track(
                source, mirror, self.edges.images.editor(), clock=self.clock, log=self._log, store=self._store
            )
            loop = next((loop for loop in self.sources if loop.mirror is mirror), None)
            if loop is None:
                loop = SourceLoop(mirror, clock=self.clock, meter=self.meter)
                self.sources.append(loop)
            loop.tracks.append(track)
            loop.bell.ring()
        return self.tracks[key]

    def _look_at(self, update: Update) -> None:
        """A commit was pushed to this repository: ask it now."""
        for loop in self.sources:
            if any(track.source.name == update.source for track in loop.tracks):
                loop.bell.ring()

    async def _remove_tracks(self, targets: Collection[Target]) -> None:
        """What no target follows any more, or not in this way."""
        followed = {target.source for target in targets}
        for key, track in list(self.tracks.items()):
            if track.source not in followed:
                del self.tracks[key]
                loop = next(loop for loop in self.sources if track in loop.tracks)
                loop.tracks.remove(track)
        for loop in [loop for loop in self.sources if not loop.tracks]:
            self.sources.remove(loop)
            if self._tasks is not None:
                await self._tasks.end(_name(loop))
        in_use = {track.source.repository for track in self.tracks.values()}
        for repository in [repository for repository in self.mirrors if repository not in in_use]:
            await self.mirrors.pop(repository).close()


def _name(source: SourceLoop) -> str:
    return f"source {id(source)}"


def mirror_name(repository: Repository) -> str:
    """A folder's name for a repository and the credentials that it is read with."""
    return sha256(repr(repository).encode()).hexdigest()[:20]


def _wanted_commits(cluster: ClusterLoop) -> Mapping[str, str]:
    return {loop.target.name: loop.track.admitted.commit if loop.track.admitted else "" for loop in cluster.targets}


class Silence:
    """A log for commands: what they have to say is their answer."""

    def debug(self, event: str, **facts: Any) -> None: ...

    def info(self, event: str, **facts: Any) -> None: ...

    def warning(self, event: str, **facts: Any) -> None: ...

    def error(self, event: str, **facts: Any) -> None: ...
