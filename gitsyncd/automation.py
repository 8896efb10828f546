"""Everything that the section `images` asks for, built and wired: registries, policies, and what writes their choices.

A room beside `wiring`, since most agents have no such section. What has state of its own keeps it on disk and in Git,
so that a section that changed is simply built anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from gitsyncd.engine.image_loop import PolicyLoop
from gitsyncd.engine.marked_branch import MarkedBranch
from gitsyncd.engine.update_loop import UpdateLoop
from gitsyncd.model.immutable import immutable
from gitsyncd.model.target import Images

if TYPE_CHECKING:
    from gitsyncd.core.reference import Reference
    from gitsyncd.engine.ports import Calendar, Clock, FileEditor, ImageRegistry, Log, MergeRequests, Store, Writer
    from gitsyncd.engine.supervise import Tasks
    from gitsyncd.model.target import Agent
    from gitsyncd.model.update import Update


@immutable
class Makers:
    """How registries, repositories and files are reached: one maker for each port."""

    registries: Callable[[Agent, Images], ImageRegistry]
    writer: Callable[[Agent, Update], Writer]
    editor: Callable[[], FileEditor]
    requests: Callable[[Agent, Update], MergeRequests | None]


class Automation:
    """The loops of one section `images`. The lists are always the same ones: whoever was given them sees what is."""

    def __init__(self, makers: Makers, *, clock: Clock, calendar: Calendar, log: Log, store: Store) -> None:
        self.policies: list[PolicyLoop] = []
        self.updates: list[UpdateLoop] = []
        self._makers = makers
        self._clock = clock
        self._calendar = calendar
        self._log = log
        self._store = store
        self._images = Images()
        self._agent: Agent | None = None
        self._registry: ImageRegistry | None = None
        self._writers: list[Writer] = []

    def digest_of(self, image: Reference) -> str:
        """Of an image that some policy selected, as far as it is known; else empty."""
        return next((digest for loop in self.policies if (digest := loop.digest_of(image))), "")

    async def adopt(self, images: Images, agent: Agent, tasks: Tasks | None, pushed: Callable[[Update], None]) -> None:
        """Make what there is what is wanted. `pushed` is told of each commit that a remote has taken."""
        if (images, agent) == (self._images, self._agent):
            return
        if tasks is not None:
            for name in self._names():
                await tasks.end(name)
        await self.close()
        self._images, self._agent = images, agent
        if not images.policies:
            return
        self._registry = self._makers.registries(agent, images)
        editor = self._makers.editor()
        for policy in images.policies:
            self.policies.append(
                PolicyLoop(
                    policy,
                    self._registry,
                    clock=self._clock,
                    calendar=self._calendar,
                    log=self._log,
                    store=self._store,
                )
            )
        for update in images.updates:
            writer = self._makers.writer(agent, update)
            self._writers.append(writer)
            loop = UpdateLoop(
                update,
                MarkedBranch(update, writer, editor, clock=self._clock),
                editor,
                self._makers.requests(agent, update),
                agent=agent.name,
                pushed=partial(pushed, update),
                clock=self._clock,
                log=self._log,
                store=self._store,
            )
            self.updates.append(loop)
            for policy_loop in self.policies:
                if policy_loop.policy.name in update.policies:
                    policy_loop.branches.append(loop.branch)
                    policy_loop.due.append(loop.bell)
                    loop.policies.append(policy_loop)

    def start(self, tasks: Tasks) -> None:
        """Run what does not run yet."""
        for name, work in self._names().items():
            tasks.start(name, work)

    def _names(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            **{f"images {loop.policy.name}": loop.run for loop in self.policies},
            **{f"update {loop.update.name}": loop.run for loop in self.updates},
        }

    async def close(self) -> None:
        """End every connection; nothing is left of what there was."""
        self.policies.clear()
        self.updates.clear()
        for writer in self._writers:
            await writer.close()
        self._writers.clear()
        if self._registry is not None:
            await self._registry.close()
            self._registry = None
