"""Writing down which revision of a target ran when, and how it fared: beside its inventory, in its cluster.

Belongs here: when something is worth a line, and when it is written. It follows the target's loop and never holds it
up: what cannot be written now is written later. Does not belong here: what a history is (`core.history`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from gitsyncd.core import history as core
from gitsyncd.core.containers import images_of
from gitsyncd.model.errors import ClusterError, GitsyncdError, StandingBy
from gitsyncd.model.history import History
from gitsyncd.model.report import HealthStatus, TargetState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gitsyncd.engine.cluster_view import ClusterView
    from gitsyncd.engine.facts import Gatherer
    from gitsyncd.engine.ports import Clock
    from gitsyncd.engine.target_loop import TargetLoop
    from gitsyncd.model.manifest import Manifest
    from gitsyncd.model.source import Revision

_CALM_S = 1.0
"""Between two looks at the health of a target whose objects change all the time."""


class Shelf:
    """The histories of all targets on one cluster, read together and once."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._read: Mapping[str, str] | None = None
        """As it is kept, as far as is known."""
        self._reading = asyncio.Lock()

    async def find(self, target: str) -> History:
        """Raises `ClusterError`."""
        async with self._reading:
            if self._read is None:
                self._read = await self._view.api.load_histories()
        text = self._read.get(target)
        return core.read(text) if text is not None else History()

    def keep(self, target: str, text: str) -> None:
        """This was written, or (empty) removed: whoever asks next may be another chronicle of the target."""
        if self._read is not None:
            self._read = {**self._read, target: text} if text else {k: v for k, v in self._read.items() if k != target}

    def forget(self) -> None:
        """Somebody else wrote."""
        self._read = None


class Chronicle:
    """The history of one target."""

    def __init__(self, loop: TargetLoop, gatherer: Gatherer, shelf: Shelf, *, clock: Clock) -> None:
        self.loop = loop
        self._gatherer = gatherer
        self._shelf = shelf
        self._clock = clock
        self._history: History | None = None
        self._saved = ""
        self._known = ("", "")
        """A commit, and the identity of what it wants."""
        self._news = asyncio.Event()
        loop.over.add(self._news)

    async def run(self) -> None:
        """For ever."""
        view = self.loop.view
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                if await self._note():
                    view.news.discard(self._news)
                else:
                    view.news.add(self._news)  # its health is still to be seen
                    await asyncio.sleep(_CALM_S)
        finally:
            view.news.discard(self._news)

    async def history(self) -> History:
        """What is known. Raises `ClusterError` where nothing is yet and the cluster does not answer."""
        if self._history is None:
            own = await self._shelf.find(self.loop.target.name)
            self._saved = core.written(own)
            self._history = own if own.passages or own.damage else await self._before()
        return self._history

    async def _before(self) -> History:
        """That of the name which the target had before, as long as nobody else has that name."""
        old = self.loop.target.was
        return await self._shelf.find(old) if old and old not in self.loop.view.bells else History()

    async def _save(self, text: str) -> None:
        """Raises `ClusterError`."""
        api, target = self.loop.view.api, self.loop.target
        await api.save_history(target.name, text)
        self._saved = text
        self._shelf.keep(target.name, text)
        if (await self._before()).passages:
            # What is left under the old name is in nobody's way, and no reason to try again and again.
            with suppress(ClusterError):
                await api.drop_history(target.was)
            self._shelf.keep(target.was, "")

    async def _note(self) -> bool:
        """Write down what is new. Whether there is nothing more to wait for."""
        loop = self.loop
        if loop.view.error is not None or not loop.view.asked or isinstance(loop.problems.get(None), StandingBy):
            return True  # the turn that comes when it answers is news
        try:
            before = await self.history()
            self._history = after = self._grown(before)
            text = core.written(after)
            if text != self._saved and after.passages and _says_something(after):
                await self._save(text)
        except GitsyncdError:
            self._history = None
            self._shelf.forget()
            return True  # with the next turn
        latest = after.passages[0] if after.passages else None
        return latest is None or latest.in_sync is None or latest.healthy is not None

    def _grown(self, history: History) -> History:
        loop, now = self.loop, self._clock.now()
        unreadable = self._unreadable()
        revision = unreadable or loop.revision
        if revision is None or loop.state in {TargetState.SYNCING, TargetState.SUSPENDED, TargetState.UNKNOWN}:
            return history
        history = core.begun(
            history,
            str(revision),
            self._content(revision) if unreadable is None else "",
            admitted=loop.track.admitted_at or now,
            applied=loop.last_turn if unreadable is None else None,
        )
        if loop.state is TargetState.FAILED:
            return core.failed(history, now, _worst(loop))
        if loop.state is not TargetState.IN_SYNC:
            return history
        if history.passages[0].in_sync is None:
            history = core.synced(history, now, self._images(revision))
        if history.passages[0].healthy is None:
            health = loop.health()
            if health.status is HealthStatus.CURRENT or not loop.objects:
                return core.became_healthy(history, now)
            if health.status is HealthStatus.FAILED:
                return core.failed(history, now, health.message)
        return history

    def _unreadable(self) -> Revision | None:
        """The admitted revision, if it cannot be rendered: the one before goes on."""
        admitted = self.loop.track.admitted
        return admitted if admitted is not None and admitted.commit == self.loop.unreadable else None

    def _content(self, revision: Revision) -> str:
        """Told once per revision: it takes a look at each object."""
        if self._known[0] != revision.commit:
            self._known = (revision.commit, core.identity(self._manifests(revision)))
        return self._known[1]

    def _images(self, revision: Revision) -> list[str]:
        return sorted({found.image for found in images_of(self._manifests(revision))})

    def _manifests(self, revision: Revision) -> Collection[Manifest]:
        rendered = self._gatherer.rendered
        return rendered.wanted.manifests.values() if rendered and rendered.commit == revision.commit else ()


def _says_something(history: History) -> bool:
    """A revision that has only begun is not worth a write: what comes of it will be, soon."""
    latest = history.passages[0]
    return latest.in_sync is not None or latest.failed is not None


def _worst(loop: TargetLoop) -> str:
    first: GitsyncdError | None = next(iter(loop.problems.values()), None)
    return str(first) if first is not None else ""
