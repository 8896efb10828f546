"""The only place where edges meet engine: what is built from an agent file, how it is started, and how it stops."""

from __future__ import annotations

import asyncio
import gc
import random
import re
import signal
import time
from collections import defaultdict
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self

from gitsyncd import __version__
from gitsyncd.core.backoff import next_delay
from gitsyncd.core.writers import WriterTable
from gitsyncd.edges.git.folder import read_folder
from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.edges.kube.cluster import KubeCluster
from gitsyncd.edges.render.plain import PlainRenderer
from gitsyncd.edges.schedule import Calendar
from gitsyncd.edges.store import FileStore, MemoryStore, alone_in
from gitsyncd.edges.web import local
from gitsyncd.engine.apply import Actuator
from gitsyncd.engine.cluster_view import ClusterView
from gitsyncd.engine.control import Control, choose
from gitsyncd.engine.facts import Gatherer, Siblings
from gitsyncd.engine.journal import Journal
from gitsyncd.engine.preview import Preview
from gitsyncd.engine.reconcile import Reconciler
from gitsyncd.engine.source_loop import SourceLoop, Track
from gitsyncd.engine.supervise import bug, supervise
from gitsyncd.engine.target_loop import TargetLoop
from gitsyncd.engine.watch_loop import Watches
from gitsyncd.model.errors import ClusterError, ConfigError, GitsyncdError, LocalError, StateError, UsageError
from gitsyncd.model.report import TargetState
from gitsyncd.model.source import Revision
from gitsyncd.model.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from gitsyncd.engine import ports
    from gitsyncd.engine.ports import Clock, ClusterApi, Log, Mirror, Renderer, Store
    from gitsyncd.model.source import Repository, Source
    from gitsyncd.model.target import Agent, Cluster, Configuration

_CONNECT_BASE = timedelta(seconds=1)
_CONNECT_CAP = timedelta(seconds=30)
_STOP_WITHIN_S = 10.0


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
        journal = Journal(target.id, log=log, clock=clock)
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
    parts.sources = [SourceLoop(tracks[0].mirror, tracks, clock=clock) for tracks in by_mirror.values()]
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


class Daemon:
    """One run of the agent, from an agent file to the exit code."""

    def __init__(
        self, configuration: Configuration, *, log: Log, edges: Edges | None = None, store: Store | None = None
    ) -> None:
        self._configuration = configuration
        self._log = log
        self._edges = edges or Edges()
        self._clock = self._edges.clock
        self._store = store or FileStore(configuration.agent.state_dir)
        self._on_disk = store is None
        self._stop = asyncio.Event()
        self._signal = ""

    async def run(self, *, once: bool = False, wait: bool = False) -> int:
        """Until a signal (exit code 0), or with `once` until every target had its turn.

        With `once` 0 when all are in sync, else 1, also when a signal came before that was known.
        """
        configuration = self._configuration
        _install_signals(self._stopped_by)
        self._log.info("configuration loaded", file=str(configuration.file), changed=[])
        code = 1 if once else 0  # a pass that a signal cut short has not shown that all is in sync
        async with AsyncExitStack() as edges, AsyncExitStack() as stack:
            if self._on_disk:
                edges.enter_context(alone_in(configuration.agent.state_dir))
            group = await stack.enter_async_context(_Scope())
            parts = build(configuration, log=self._log, store=self._store, group=group.tasks, edges=self._edges)
            edges.push_async_callback(parts.close)
            calendar = Calendar()
            edges.callback(calendar.close)
            control = self._control(parts, calendar)
            control.restore_suspensions()
            if not once:
                await stack.enter_async_context(local.serve(configuration.agent.socket, _calls(control)))
            self._say_started()
            self._start(parts, group.tasks)
            stopping = group.tasks.create_task(self._stop.wait())
            first = group.tasks.create_task(self._first_turns(parts, wait=wait, once=once))
            await asyncio.wait({stopping, first} if once else {stopping}, return_when=asyncio.FIRST_COMPLETED)
            if once and first.done():
                code = 0 if first.result() else 1
            self._log.info("daemon stopping", signal=self._signal or None)
            await self._finish_objects(parts)
        self._log.info("daemon stopped", signal=self._signal or None)
        return code

    def _say_started(self) -> None:
        configuration = self._configuration
        self._log.info(
            "daemon started",
            version=__version__,
            agent=configuration.agent.name,
            sources=len(configuration.sources),
            clusters=len(configuration.clusters),
            targets=len(configuration.targets),
        )

    def _stopped_by(self, name: str) -> None:
        self._signal = name
        self._stop.set()

    def _start(self, parts: Parts, tasks: asyncio.TaskGroup) -> None:
        works: list[tuple[str, Callable[[], Awaitable[None]]]] = [("source", source.run) for source in parts.sources]
        works += [(f"cluster {name}", partial(self._connect, view)) for name, view in parts.views.items()]
        works += [(f"target {loop.target.id}", loop.run) for loop in parts.targets]
        for name, work in works:
            tasks.create_task(supervise(name, work, clock=self._clock, log=self._log), name=name)

    async def _connect(self, view: ClusterView) -> None:
        """Until the cluster has answered for the first time; from then on its watches notice what happens to it."""
        failures = 0
        while True:
            try:
                await view.open()
            except (ClusterError, StateError, ConfigError, LocalError) as error:
                failures += 1
                view.down(error)
                for target in view.bells.values():
                    target.ring()
                delay = next_delay(failures, base=_CONNECT_BASE, cap=_CONNECT_CAP, jitter=self._clock.jitter())
                await asyncio.sleep(delay.total_seconds())
            else:
                view.up()
                for bell in view.bells.values():
                    bell.ring()
                return

    async def _first_turns(self, parts: Parts, *, wait: bool, once: bool) -> bool:
        """Until every target had its first turn, or failed it.

        Whether all are in sync (and, asked to wait, healthy).
        """
        for loop in parts.targets:
            await loop.tried.wait()
        self._log.info("daemon ready")
        # What was read and built so far lives as long as the process: keep the collector from walking it again and
        # again.
        gc.collect()
        gc.freeze()
        if not once:
            return True
        for loop in parts.targets:
            while loop.state is TargetState.SYNCING:
                await loop.until_turned(loop.finished)
        synced = all(loop.state is TargetState.IN_SYNC for loop in parts.targets)
        if synced and wait:
            waits = (loop.until_healthy(lambda: True) for loop in parts.targets if loop.target.wait)
            return all(await asyncio.gather(*waits))
        return synced

    async def _finish_objects(self, parts: Parts) -> None:
        """Let turns in progress end at the next object, so that what was done is recorded.

        A kill harms nothing, either.
        """
        for loop in parts.targets:
            loop.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_WITHIN_S):
                for loop in parts.targets:
                    async with loop.turning:
                        pass

    def _control(self, parts: Parts, calendar: ports.Calendar) -> Control:
        return Control(
            self._configuration,
            __version__,
            parts.targets,
            parts.sources,
            parts.views,
            calendar=calendar,
            clock=self._clock,
            log=self._log,
            store=self._store,
        )


class _Scope:
    """A task group that ends by cancelling what is still in it."""

    def __init__(self) -> None:
        self.tasks = asyncio.TaskGroup()
        self._others: set[asyncio.Task[Any]] = set()
        """Tasks that were there before, and are not ours to cancel."""

    async def __aenter__(self) -> Self:
        self._others = asyncio.all_tasks()
        await self.tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        current = asyncio.current_task()
        for task in asyncio.all_tasks() - self._others:
            if task is not current:
                task.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await self.tasks.__aexit__(kind, error, trace)
        except BaseExceptionGroup:
            if isinstance(error, GitsyncdError):
                raise error from None  # what stops the daemon is said by its own name, not as a group of one
            raise


def _install_signals(stop: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)


def _calls(control: Control) -> dict[str, local.Call]:
    """The local API: names and arguments of what commands may ask."""

    async def status(request: Mapping[str, Any]) -> Any:
        return control.status(request.get("targets", []))

    async def sync(request: Mapping[str, Any]) -> Any:
        return await control.sync(request["targets"], wait=bool(request.get("wait")))

    async def approve_plan(request: Mapping[str, Any]) -> Any:
        return control.approve_plan(request["target"], request["plan"])

    async def approve_revision(request: Mapping[str, Any]) -> Any:
        return await control.approve_revision(request["source"], request["revision"])

    async def suspend(request: Mapping[str, Any]) -> Any:
        return control.suspend(request["target"], parse_duration(request["for"]), request["reason"])

    async def resume(request: Mapping[str, Any]) -> Any:
        return control.resume(request["target"])

    async def delete(request: Mapping[str, Any]) -> Any:
        return await control.delete(request["target"])

    calls: dict[str, local.Call] = {
        "status": status,
        "sync": sync,
        "approve-plan": approve_plan,
        "approve-revision": approve_revision,
        "suspend": suspend,
        "resume": resume,
        "delete": delete,
    }
    return {name: _foreseen(call) for name, call in calls.items()}


def _foreseen(call: local.Call) -> local.Call:
    """A bug met in a call is its answer: whoever asked would read that no daemon is there."""

    async def answer(request: Mapping[str, Any]) -> Any:
        try:
            return await call(request)
        except GitsyncdError:
            raise
        except Exception as error:
            raise bug(error) from error

    return answer


async def preview(
    configuration: Configuration, names: Sequence[str], *, ref: str | None, directory: Path | None, fields: bool
) -> dict[str, Any]:
    """What turns would do now: the JSON of `plan` and `diff`, and under `errors` what could not be told.

    Writes nothing.

    Raises `UsageError` for a target that is not in the agent file.
    """
    store = MemoryStore(FileStore(configuration.agent.state_dir))
    parts = build(configuration, log=Silence(), store=store, group=None)
    for view in parts.views.values():
        view.read_only = True
    try:
        chosen = choose(parts.targets, names) if names else parts.targets
        failed = await _prepare(parts, chosen, ref)
        if directory is not None:
            for loop in chosen:
                await _pin(parts, loop, directory, failed)
        await asyncio.gather(*(_claim(parts, loop, failed) for loop in parts.targets))
        shown, errors = [], []
        for loop in chosen:
            try:
                if loop.target.id in failed:
                    raise failed[loop.target.id]
                assert loop.track.admitted is not None
                gatherer = parts.gatherers[loop.target.id]
                look = Preview(loop.target, loop.view, gatherer, loop.reconciler)
                shown.append(await look.show(loop.track.admitted, fields=fields) | {"held": _held(loop.track)})
            except GitsyncdError as error:
                error.subject = error.subject or loop.target.id
                errors.append(error)
        return {"targets": shown, "errors": errors}
    finally:
        await parts.close()


def _held(track: Track) -> dict[str, Any] | None:
    """A head that is not admitted: whoever has just pushed it should not read that there is nothing to do."""
    if not track.held or track.head is None:
        return None
    return {"source": track.source.name, "revision": track.head, "reason": track.held}


async def _prepare(parts: Parts, chosen: Sequence[TargetLoop], ref: str | None) -> dict[str, GitsyncdError]:
    """Ask the remotes and the clusters once; what failed, by target."""
    await asyncio.gather(*(source.look() for source in parts.sources))
    errors: dict[str, GitsyncdError] = {}
    opened: dict[str, GitsyncdError | None] = {}
    for name, view in parts.views.items():
        try:
            await view.open()
        except GitsyncdError as error:
            opened[name] = error
    for loop in parts.targets:
        try:
            if ref is not None and loop in chosen:
                await _at_ref(loop.track, ref)
        except GitsyncdError as error:
            errors[loop.target.id] = error
        missing = loop.track.admitted is None
        problem = opened.get(loop.target.cluster) or (loop.track.error if missing else None)
        if problem is not None:
            errors[loop.target.id] = problem
    return errors


async def _at_ref(track: Track, ref: str) -> None:
    """Plan another branch, or a commit that the mirror holds, in place of the source's branch."""
    if re.fullmatch(r"[0-9a-f]{40}", ref):
        commit: str | None = ref
    else:
        commit = (await track.mirror.update([ref])).get(ref)
    if commit is None:
        raise UsageError(
            f"{ref!r} is no branch of source {track.source.name}", hint="Give a branch or a full commit id."
        )
    track.admitted = await track.mirror.revision(track.source.name, ref, commit)


async def _pin(parts: Parts, loop: TargetLoop, directory: Path, failed: dict[str, GitsyncdError]) -> None:
    """Plan a local folder: the whole tree of the repository, or the target's own path."""
    if loop.target.id in failed and loop.view.uid:
        failed.pop(loop.target.id)
    if loop.target.id in failed:
        return
    gatherer = parts.gatherers[loop.target.id]
    inner = directory / loop.target.path
    try:
        snapshot = await asyncio.to_thread(read_folder, inner if inner.is_dir() else directory, loop.target.path)
        gatherer.pin(await gatherer.settle(snapshot))
    except GitsyncdError as error:
        failed[loop.target.id] = error
    if loop.track.admitted is None:
        loop.track.admitted = Revision(
            source=loop.track.source.name, branch=str(directory), commit="0" * 40, committed_at=datetime.now(UTC)
        )


async def _claim(parts: Parts, loop: TargetLoop, failed: Mapping[str, GitsyncdError]) -> None:
    """Have a target say what it wants, so that the plans of the others know it."""
    if loop.target.id not in failed and loop.track.admitted is not None:
        with suppress(GitsyncdError):
            await parts.gatherers[loop.target.id].desire(loop.track.admitted)


class Silence:
    """A log for commands: what they have to say is their answer."""

    def debug(self, event: str, **facts: Any) -> None: ...

    def info(self, event: str, **facts: Any) -> None: ...

    def warning(self, event: str, **facts: Any) -> None: ...

    def error(self, event: str, **facts: Any) -> None: ...
