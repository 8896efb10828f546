"""One run of the agent: what is started, in which order, what a changed agent file does, and how it stops."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

from gitsyncd import __version__, endpoints
from gitsyncd.calls import calls
from gitsyncd.core.headline import headline
from gitsyncd.core.reload import changes, unchangeable
from gitsyncd.edges.child.process import STARTING
from gitsyncd.edges.config.follow import Follower
from gitsyncd.edges.schedule import Calendar
from gitsyncd.edges.store import FileStore, alone_in, has_ended, holder_name
from gitsyncd.edges.systemd import STOPPING, Notifier, report
from gitsyncd.edges.web import local
from gitsyncd.engine.control import Control
from gitsyncd.engine.removal import Removal
from gitsyncd.engine.status import Status
from gitsyncd.engine.supervise import bug
from gitsyncd.model.errors import ConfigError, GitsyncdError, LocalError
from gitsyncd.model.report import TargetState
from gitsyncd.wiring import Edges, Fleet, Holder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from gitsyncd.engine import ports
    from gitsyncd.engine.ports import Log, Store
    from gitsyncd.model.target import Configuration

_STOP_WITHIN_S = 10.0
_LOOK_AT_FILE_S = 1.0
_UNREAD_S = 15.0
"""Until a file is looked at again that there was no child to read."""
_COLLECT_EVERY_S = 60.0
"""Failed requests leave behind what refers to itself and to whole objects. Python alone would look for it only after
the many new containers that `cli` lets it have: by then the process has grown."""


class Daemon:
    """One run of the agent, from an agent file to the exit code."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        log: Log,
        edges: Edges | None = None,
        store: Store | None = None,
        load: Callable[[], Awaitable[Configuration]] | None = None,
        follower: Follower | None = None,
    ) -> None:
        """`load` reads the agent file afresh; without it the file is not followed. It raises `ConfigError`, and
        `LocalError` for what may pass. `follower` knows the file as it was read.
        """
        self._configuration = configuration
        self._log = log
        self._edges = edges or Edges()
        self._clock = self._edges.clock
        self._store = store or FileStore(configuration.agent.state_dir)
        self._on_disk = store is None
        self._manager = Notifier.from_environment(os.environ)
        self._load = load
        self._file = follower or Follower(configuration.file)
        self._asked = asyncio.Event()
        """For the agent file to be read anew, by a signal or by somebody who waits for what comes of it."""
        self._askers: list[asyncio.Future[dict[str, Any]]] = []
        self._stop = asyncio.Event()
        self._ready = False
        self._signal = ""
        self.control: Control | None = None
        """Answers what people ask; None before `run`."""

    async def run(self, *, once: bool = False, wait: bool = False) -> int:
        """Until a signal (exit code 0), or with `once` until every target had its turn.

        With `once` 0 when all are in sync, else 1, also when a signal came before that was known.
        """
        configuration = self._configuration
        self._install_signals()
        self._log.info("configuration loaded", file=str(configuration.file), changed=[])
        code = 1 if once else 0  # a pass that a signal cut short has not shown that all is in sync
        async with AsyncExitStack() as edges, AsyncExitStack() as stack:
            if self._on_disk:
                edges.enter_context(alone_in(configuration.agent.state_dir))
            group = await stack.enter_async_context(_Scope())
            calendar = Calendar()
            edges.callback(calendar.close)
            fleet = self._fleet(group.tasks, None if once else calendar)
            edges.push_async_callback(fleet.close)
            await fleet.adopt(configuration)
            control = self.control = self._control(fleet, calendar)
            control.restore_suspensions()
            if not once:
                answers = calls(control, reload=self._reload)
                await stack.enter_async_context(local.serve(configuration.agent.socket, answers))
                facts = endpoints.Facts(
                    fleet=fleet, status=control.status.of, ready=lambda: self._ready and not self._stop.is_set()
                )
                await stack.enter_async_context(endpoints.serve(facts, log=self._log))
                if configuration.agent.webhook is not None:
                    from gitsyncd import bells  # for agents that listen alone

                    await stack.enter_async_context(bells.serve(fleet, log=self._log))
            self._say_started()
            fleet.start()
            group.tasks.create_task(self._inform(fleet, control))
            group.tasks.create_task(_collect_garbage())
            if not once:
                group.tasks.create_task(self._follow_file(fleet, control))
            stopping = group.tasks.create_task(self._stop.wait())
            first = group.tasks.create_task(self._first_turns(fleet, control, wait=wait, once=once))
            await asyncio.wait({stopping, first} if once else {stopping}, return_when=asyncio.FIRST_COMPLETED)
            if once and first.done():
                code = 0 if first.result() else 1
            self._log.info("daemon stopping", signal=self._signal or None)
            self._manager.stopping()
            await fleet.finish(within_s=_STOP_WITHIN_S)
        self._log.info("daemon stopped", signal=self._signal or None)
        return code

    def _fleet(self, group: asyncio.TaskGroup, calendar: ports.Calendar | None) -> Fleet:
        return Fleet(
            self._configuration,
            log=self._log,
            store=self._store,
            edges=self._edges,
            calendar=calendar,
            group=group,
            holder=Holder(holder_name(), has_ended),
        )

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

    def _install_signals(self) -> None:
        def stop(name: str) -> None:
            self._signal = name
            self._stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number.name)
        loop.add_signal_handler(signal.SIGHUP, self._asked.set)

    async def _first_turns(self, fleet: Fleet, control: Control, *, wait: bool, once: bool) -> bool:
        """Until every target had its first turn, or failed it.

        Whether all are in sync with what the remotes say now (and, asked to wait, healthy).
        """
        while untried := [loop for loop in fleet.targets if not loop.tried.is_set()]:
            await untried[0].tried.wait()
        self._ready = True
        self._log.info("daemon ready")
        self._manager.ready(self._headline(fleet, control))
        # What was read and built so far lives as long as the process: keep the collector from walking it again and
        # again.
        gc.collect()
        gc.freeze()
        if not once:
            return True
        for loop in fleet.targets:
            while loop.state is TargetState.SYNCING:
                await loop.until_turned(loop.finished)
        synced = all(loop.state is TargetState.IN_SYNC and loop.track.error is None for loop in fleet.targets)
        if synced and wait:
            waits = (loop.until_healthy(lambda: True) for loop in fleet.targets if loop.target.wait)
            return all(await asyncio.gather(*waits))
        return synced

    # --- what systemd hears ------------------------------------------------------------------------------------------

    async def _inform(self, fleet: Fleet, control: Control) -> None:
        """Signs of life while everything runs: by them systemd restarts a daemon that is there and does nothing."""
        await report(self._manager, alive=lambda: fleet.alive, status=lambda: self._headline(fleet, control))

    def _headline(self, fleet: Fleet, control: Control) -> str:
        if self._stop.is_set():
            return STOPPING
        states = {str(loop.target.id): loop.state for loop in fleet.targets}
        return headline(states, refused=control.status.refusal is not None)

    # --- the agent file ------------------------------------------------------------------------------------------

    async def _follow_file(self, fleet: Fleet, control: Control) -> None:
        """Take up what the file says whenever it has changed, or a SIGHUP asks for it. For ever."""
        pause_s = _LOOK_AT_FILE_S
        while self._load is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._asked.wait()
            pause_s = _LOOK_AT_FILE_S
            if not self._asked.is_set() and not self._file.settled_anew():
                continue
            self._asked.clear()
            askers, self._askers = self._askers, []
            try:
                answer = await self._reread(fleet, control)
            except (ConfigError, LocalError) as error:
                _tell(askers, error)
                if isinstance(error, LocalError):  # no memory, no process: nothing that the file could help
                    self._file.unread()
                    pause_s = _UNREAD_S
            except Exception as error:
                _tell(askers, bug(error))
                raise
            else:
                for asker in askers:
                    if not asker.done():
                        asker.set_result(answer)

    async def _reload(self) -> dict[str, Any]:
        """Have the file read, and wait for what comes of it: which file, and what is new in it.

        Raises `ConfigError` for a file that is refused, and `LocalError` when it could not be read to its end.
        """
        if self._stop.is_set():
            raise LocalError("the daemon is stopping", hint="Its next start reads the file.")
        asker: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._askers.append(asker)
        self._asked.set()
        return await asker

    async def _reread(self, fleet: Fleet, control: Control) -> dict[str, Any]:
        """Read and check the file whole, then exchange it whole. One that cannot be used changes nothing and is told.

        Raises `ConfigError`, `LocalError` for such a file; what goes wrong after that is a bug.
        """
        self._file.taken()
        self._manager.reloading()
        try:
            try:
                wanted = await self._wanted()
            except (ConfigError, LocalError) as error:
                self._refused(control, error)
                raise
            control.status.refusal = None
            changed = changes(self._configuration, wanted)
            if changed:
                await fleet.adopt(wanted)
                self._configuration = control.status.configuration = wanted
                control.restore_suspensions()
                fleet.start()
            self._log.info("configuration loaded", file=str(wanted.file), changed=changed)
        finally:
            self._manager.reloaded(self._headline(fleet, control))
        return {"file": str(wanted.file), "changed": changed}

    async def _wanted(self) -> Configuration:
        """What the file says now. Raises `ConfigError`, `LocalError`."""
        assert self._load is not None
        wanted = await self._load()
        if fixed := unchangeable(self._configuration.agent, wanted.agent):
            raise ConfigError(
                f"{', '.join(fixed)} cannot change while the daemon runs",
                hint="Restart the daemon, or take that change back.",
            )
        return wanted

    def _refused(self, control: Control, error: GitsyncdError) -> None:
        """Tell of it; of what is tried again by itself, only once."""
        before, control.status.refusal = control.status.refusal, error
        if isinstance(error, LocalError) and before is not None and before.message == error.message:
            return
        self._log.error(
            "configuration refused",
            file=str(self._configuration.file),
            error=error.message,
            remedy=error.remedy,
            hint=error.hint,
        )

    def _control(self, fleet: Fleet, calendar: ports.Calendar) -> Control:
        return Control(
            fleet.targets,
            fleet.sources,
            fleet.chronicles,
            fleet.rollbacks,
            status=Status(self._configuration, __version__, fleet.targets, fleet.sources, fleet.views),
            images=fleet.images,
            removal=Removal(fleet.targets, fleet.views, clock=self._clock, log=self._log),
            calendar=calendar,
            clock=self._clock,
            store=self._store,
        )


def _tell(askers: list[asyncio.Future[Any]], error: Exception) -> None:
    for asker in askers:
        if not asker.done():
            asker.set_exception(error)


async def _collect_garbage() -> None:
    while True:
        await asyncio.sleep(_COLLECT_EVERY_S)
        gc.collect()  # walks only what came after the first turns: what was there by then is frozen


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
        while starting := [task for task in asyncio.all_tasks() if task.get_name() == STARTING]:
            await asyncio.wait(starting)
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
