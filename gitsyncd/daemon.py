"""One run of the agent: what is started, in which order, and how it stops."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from gitsyncd import __version__
from gitsyncd.core.backoff import next_delay
from gitsyncd.core.headline import headline
from gitsyncd.edges.schedule import Calendar
from gitsyncd.edges.store import FileStore, alone_in
from gitsyncd.edges.systemd import Notifier, report
from gitsyncd.edges.web import local
from gitsyncd.engine.cluster_view import ClusterView
from gitsyncd.engine.control import Control
from gitsyncd.engine.supervise import bug, supervise
from gitsyncd.model.errors import ClusterError, ConfigError, GitsyncdError, LocalError, StateError
from gitsyncd.model.report import TargetState
from gitsyncd.model.units import parse_duration
from gitsyncd.wiring import Edges, build

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from gitsyncd.engine import ports
    from gitsyncd.engine.ports import Log, Store
    from gitsyncd.model.target import Configuration
    from gitsyncd.wiring import Parts

_CONNECT_BASE = timedelta(seconds=1)
_CONNECT_CAP = timedelta(seconds=30)
_STOP_WITHIN_S = 10.0


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
        self._manager = Notifier.from_environment(os.environ)
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
            group.tasks.create_task(_inform(self._manager, parts))
            stopping = group.tasks.create_task(self._stop.wait())
            first = group.tasks.create_task(self._first_turns(parts, wait=wait, once=once))
            await asyncio.wait({stopping, first} if once else {stopping}, return_when=asyncio.FIRST_COMPLETED)
            if once and first.done():
                code = 0 if first.result() else 1
            self._log.info("daemon stopping", signal=self._signal or None)
            self._manager.stopping()
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
        self._manager.ready(_headline(parts))
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


def _headline(parts: Parts) -> str:
    return headline({str(loop.target.id): loop.state for loop in parts.targets})


async def _inform(manager: Notifier, parts: Parts) -> None:
    """Signs of life while no target is dropped: by them systemd restarts a daemon that runs and does nothing."""
    await report(
        manager,
        alive=lambda: all(loop.on_schedule for loop in parts.targets),
        status=lambda: _headline(parts),
    )


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
