"""Registries and a repository of YAML files in memory, for the loops that lead from the one to the other."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from gitsyncd.automation import Automation, Makers
from gitsyncd.edges.store import MemoryStore
from gitsyncd.edges.yaml.images import Files
from gitsyncd.engine.image_control import ImageControl
from gitsyncd.engine.supervise import Tasks
from gitsyncd.model.errors import SourceUnreachable
from gitsyncd.model.image import Found, ImagePolicy, Rule, Select
from gitsyncd.model.source import Repository
from gitsyncd.model.target import Images
from gitsyncd.model.update import Author, MergeRequest, Proposal, Tip, Update, Written
from tests.engine.virtualtime import VirtualClock
from tests.engine.world import Diary, VirtualCalendar

IMAGE = "registry.example.com/team/front"
AGENT: Any = type("Agent", (), {"name": "edge"})()


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def policy(name: str = "front", wanted: str = ">=1.0 <2", **facts: Any) -> ImagePolicy:
    select = facts.pop("select", Select(rule=Rule.SEMVER, wanted=wanted))
    return ImagePolicy(name=name, image=f"registry.example.com/team/{name}", select=select, **facts)


def update(*policies: str, **facts: Any) -> Update:
    return Update(
        **{
            "name": "fleet",
            "source": "fleet",
            "repository": Repository(url="https://git.example/fleet.git"),
            "branch": "main",
            "timeout": timedelta(seconds=60),
            "author": Author(name="gitsyncd", email="gitsyncd@example.com"),
            "policies": policies or ("front",),
            **facts,
        }
    )


def deployment(tag: str, name: str = "front", mark: str = "front") -> bytes:
    return (
        f"kind: Deployment\nspec:\n  image: registry.example.com/team/{name}:{tag}"
        f'  # {{"$imagepolicy": "{mark}"}}\n  replicas: 3 # people count\n'
    ).encode()


class MemoryRegistry:
    """Satisfies the engine's `ImageRegistry`."""

    def __init__(self) -> None:
        self.images: dict[str, dict[str, Found]] = {}
        self.fault: Exception | None = None
        self.asked: list[tuple[str, str]] = []

    def push(self, tag: str, *, name: str = "front", content: str = "", **facts: Any) -> Found:
        found = Found(tag=tag, digest=digest(content or f"{name}:{tag}"), **facts)
        self.images.setdefault(f"registry.example.com/team/{name}", {})[tag] = found
        return found

    async def tags(self, image: str) -> Sequence[str]:
        self.asked.append(("tags", image))
        await asyncio.sleep(0.01)
        if self.fault:
            raise self.fault
        return list(self.images.get(image, ()))

    async def look(self, policy: ImagePolicy, tag: str) -> Found | None:
        self.asked.append((tag, policy.image))
        await asyncio.sleep(0.01)
        if self.fault:
            raise self.fault
        return self.images.get(policy.image, {}).get(tag)

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Pushed:
    """One commit of the repository."""

    files: Mapping[str, bytes]
    message: str


class MemoryWriter:
    """A branch. Satisfies the engine's `Writer`; people push by `push`."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.commits = [Pushed(dict(files), "begin")]
        self.fault: Exception | None = None
        self.refusal: Exception | None = None
        """Raised in place of a push."""
        self.rival: Callable[[], None] | None = None
        """Called once between a proposal and its push: somebody who is faster."""
        self.asked = 0
        self.apart: dict[str, bytes] = {}
        """What the branch of its own has changed."""
        self.others = ""
        """A commit of somebody else's on that branch."""
        self.lost = False
        """Whether the next push arrives without an answer."""
        self.meanwhile: Callable[[], object] | None = None
        """Called once between a proposal and the last word on it."""
        self._late: list[Written] = []

    @property
    def files(self) -> Mapping[str, bytes]:
        return self.commits[-1].files

    def push(self, files: Mapping[str, bytes], message: str = "by a person") -> None:
        self.commits.append(Pushed({**self.files, **files}, message))

    async def write(
        self,
        propose: Callable[[Tip], Proposal | None],
        *,
        branch: str,
        onto: str = "",
        paths: Sequence[str] = (),
        unless: str = "",
        ready: Callable[[], bool] = lambda: True,
    ) -> Written | None:
        for attempt in range(1, 11):
            self.asked += 1
            await asyncio.sleep(0.01)
            if self.fault:
                raise self.fault
            if self._late:
                return replace(self._late.pop(), late=True)
            stand = len(self.commits)
            if unless == f"{stand:040}":
                return None
            base = {**self.files, **self.apart} if onto and self.others else dict(self.files)
            proposal = propose(Tip(commit=f"{stand:040}", files=base, others=self.others if onto else ""))
            if proposal is None:
                return None
            is_there = all(self.files.get(path) == new for path, new in proposal.files.items())
            if onto:  # that and no more
                is_there = self.apart == dict(proposal.files)
            if is_there and not proposal.restored:
                return None
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile:
                meanwhile()
            if not ready():
                return None
            if self.refusal:
                raise self.refusal
            rival, self.rival = self.rival, None
            if rival:
                rival()
            if len(self.commits) != stand:
                continue
            if onto:
                self.apart = dict(proposal.files)  # made anew from what is followed
                commit = "a" * 40
            else:
                self.push(proposal.files, proposal.message)
                commit = f"{len(self.commits):040}"
            written = Written(
                commit=commit,
                branch=onto or branch,
                parent=f"{stand:040}",
                attempts=attempt,
                changes=proposal.changes,
            )
            if self.lost:
                self.lost = False
                self._late.append(written)
                raise SourceUnreachable("the connection ended in the middle of the answer")
            return written
        raise AssertionError("nobody is that fast")

    async def close(self) -> None: ...


class MemoryForge:
    """Satisfies the engine's `MergeRequests`."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, str], MergeRequest] = {}
        self.asked: list[str] = []
        self.fault: Exception | None = None

    async def ensure(self, request: MergeRequest) -> str:
        self.asked.append("ensure")
        if self.fault:
            raise self.fault
        self.open[request.head, request.base] = request
        return "https://git.example/fleet/pulls/1"

    async def withdraw(self, head: str, base: str, reason: str) -> bool:
        self.asked.append(f"withdraw: {reason}")
        return self.open.pop((head, base), None) is not None


class Workshop:
    """The loops of one section `images`. `async with` starts and stops them."""

    def __init__(
        self,
        *policies: ImagePolicy,
        files: Mapping[str, bytes],
        updates: Sequence[Update] | None = None,
        registry: MemoryRegistry | None = None,
        store: MemoryStore | None = None,
        writer: MemoryWriter | None = None,
        forge: MemoryForge | None = None,
    ) -> None:
        self.registry = registry or MemoryRegistry()
        self.writer = writer or MemoryWriter(files)
        self.store = store or MemoryStore()
        self.log = Diary()
        self.clock = VirtualClock()
        self.pushed: list[str] = []
        self.forge = forge
        self.images = Images(
            policies=policies,
            updates=tuple(updates if updates is not None else [update(*(each.name for each in policies))]),
        )
        makers = Makers(
            registries=lambda _agent, _images: self.registry,
            writer=lambda _agent, _update: self.writer,
            editor=Files,
            requests=lambda _agent, _update: self.forge,
        )
        self.automation = Automation(
            makers, clock=self.clock, calendar=VirtualCalendar(), log=self.log, store=self.store
        )
        self.control = ImageControl(self.automation.policies, self.automation.updates, clock=self.clock)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self.tasks = Tasks(group, clock=self.clock, log=self.log)
        await self.adopt(self.images)
        return self

    async def adopt(self, images: Images) -> None:
        await self.automation.adopt(images, AGENT, self.tasks, lambda pushed: self.pushed.append(pushed.name))
        self.automation.start(self.tasks)

    async def __aexit__(self, *_: object) -> None:
        await self.automation.adopt(replace(self.images, policies=(), updates=()), AGENT, self.tasks, lambda _: None)
        await self._stack.aclose()
        bugs = self.log.events("internal error")
        assert not bugs, bugs

    async def until(self, is_so: Callable[[], bool], *, within_s: float = 3600) -> None:
        """In virtual seconds. Looks less and less often: days pass by in an instant then."""
        begun = self.clock.monotonic()
        while not is_so():
            waited = self.clock.monotonic() - begun
            assert waited < within_s, self.log.lines
            await asyncio.sleep(max(0.05, waited / 50))

    async def settled(self) -> None:
        """Until one more look of each policy is over, and what follows from it is written."""
        before = {loop.policy.name: loop.looks for loop in self.automation.policies}
        for loop in self.automation.policies:
            loop.bell.ring()
        await self.until(lambda: all(loop.looks > before[loop.policy.name] for loop in self.automation.policies))
        await asyncio.sleep(1)

    def state(self, name: str = "front") -> dict[str, Any]:
        found: dict[str, Any] = self.control.status([name])["policies"][0]
        return found

    def now(self) -> datetime:
        return self.clock.now()
