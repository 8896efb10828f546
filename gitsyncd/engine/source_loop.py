"""Following repositories: one loop per repository, one conversation per look, one admitted commit per branch.

Belongs here: when the remote is asked, which head is admitted, and whom to tell. Does not belong here: how a remote is
asked (an edge), and what a commit means for a cluster (`target_loop`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from gitsyncd.core.admission import REWOUND, admit
from gitsyncd.core.backoff import next_delay
from gitsyncd.engine.journal import held_hint
from gitsyncd.engine.meter import Meter
from gitsyncd.engine.trigger import Bell
from gitsyncd.model.errors import (
    GitsyncdError,
    ManifestInvalid,
    RevisionNotFound,
    RevisionNotTrusted,
    SourceDenied,
    SourceTooLarge,
)
from gitsyncd.model.image import QUARANTINE_FILE
from gitsyncd.model.source import OnRewind
from gitsyncd.model.units import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from gitsyncd.engine.ports import Clock, FileEditor, Log, Mirror, Store
    from gitsyncd.model.image import QuarantinedCommit
    from gitsyncd.model.source import Revision, Source

_RETRY = timedelta(seconds=5)
_CAP = timedelta(minutes=5)


class Track:
    """One branch of one source: its head, and the commit that may be applied."""

    def __init__(
        self, source: Source, mirror: Mirror, editor: FileEditor, *, clock: Clock, log: Log, store: Store
    ) -> None:
        self.source = source
        self.mirror = mirror
        self.head: str | None = None
        self.admitted: Revision | None = None
        self.admitted_at: datetime | None = None
        """By this process: when the admitted commit became that."""
        self.held = ""
        """Why the head is not admitted; empty when it is."""
        self.error: GitsyncdError | None = None
        self.since: datetime = clock.now()
        self.answered_at: datetime | None = None
        """When the remote last said what its heads are."""
        self.bells: list[Bell] = []
        self.looked = asyncio.Event()
        """Set after the first answer, good or bad."""
        self.answered = clock.monotonic()
        """When the remote last gave a usable answer; at first, when this was made."""
        self._clock = clock
        self._log = log
        self._store = store
        self._editor = editor
        self._approved: set[str] = set()
        self._mistrusted: set[str] = set()
        """Admitted commits that the record of some cluster speaks against."""
        self._told = ""
        """The revision that was last said to be held."""
        self._descends_from: set[tuple[str, str]] = set()

    @property
    def _file(self) -> str:
        return f"source-{self.source.name}-{self.source.branch.replace('%', '%25').replace('/', '%2F')}"

    def _remembered(self) -> str:
        """The commit that was admitted last, before a restart; empty when that is not known."""
        stored = self._store.load(self._file)
        if stored.get("url") != self.source.repository.url:
            return ""
        self._approved.update(str(commit) for commit in stored.get("approved", ()))
        return str(stored.get("admitted", ""))

    def _remember(self) -> None:
        admitted = self.admitted.commit if self.admitted else ""
        approved = sorted(self._approved & {self.head, admitted})
        self._store.save(self._file, {"url": self.source.repository.url, "admitted": admitted, "approved": approved})

    async def arrived(self, head: str | None) -> None:
        """The remote answered. Raises nothing for a branch that is gone: the last admitted commit stays."""
        self.answered_at = self._clock.now()
        if head is None:
            await self.failed(
                RevisionNotFound(
                    f"branch {self.source.branch!r} is not in the repository, or it has no commit yet",
                    subject=f"source {self.source.name}",
                    hint="Push the branch, or correct `ref.branch` of this source.",
                )
            )
            return
        if self.error is not None:
            self._log.info(
                "source recovered",
                source=self.source.name,
                branch=self.source.branch,
                since=rfc3339(self.since),
                error=self.error.message,
            )
            self.error, self.since = None, self._clock.now()
        if head != self.head or self.admitted is None:
            self.head = head
            await self._admit()
        self.answered = self._clock.monotonic()
        self.looked.set()

    async def failed(self, error: GitsyncdError) -> None:
        """No usable answer. What was admitted before stays in force, also across a restart of the daemon."""
        if self.error is None or type(self.error) is not type(error):
            self.since = self._clock.now()
            self._log.warning(
                "source unreachable",
                source=self.source.name,
                branch=self.source.branch,
                since=rfc3339(self.since),
                error=error.message,
                remedy=error.remedy,
                hint=error.hint,
            )
        self.error = error
        remembered = self._remembered() if self.admitted is None else ""
        if remembered:
            try:
                self.admitted = await self.mirror.revision(self.source.name, self.source.branch, remembered)
            except GitsyncdError:
                pass  # the mirror was lost, too: nothing can be healed before the remote answers
            else:
                self._ring()
        if not self.looked.is_set():
            self.looked.set()
            self._ring()  # whoever waits for the first answer, good or bad

    async def approve(self, commit: str) -> bool:
        """Admit exactly this held head, once. False when it is not the head that is held."""
        if self.head != commit or not (self.held or commit in self._mistrusted):
            return False
        self._mistrusted.discard(commit)
        self._approved.add(commit)
        self._remember()
        await self._admit()
        return True

    async def trusted(self, admitted: Revision, floor: str) -> Revision:
        """`admitted`, if it descends from `floor`: the commit that a cluster's own record says was applied there.

        If not, the head is held for that cluster and the answer is `floor`, towards which drift goes on being healed.
        Raises `RevisionNotTrusted` when the mirror does not know `floor`.
        """
        known = (admitted.commit, floor)
        if not floor or floor == admitted.commit or known in self._descends_from:
            return admitted
        if self.source.on_rewind is OnRewind.FOLLOW or admitted.commit in self._approved:
            return admitted
        if await self.mirror.descends(*known):
            self._descends_from.add(known)
            return admitted
        self._mistrusted.add(admitted.commit)
        self._say_held(str(admitted), floor)
        try:
            return await self.mirror.revision(self.source.name, self.source.branch, floor)
        except RevisionNotFound as error:
            raise RevisionNotTrusted(
                f"{admitted} does not descend from {floor}, which was applied before",
                subject=f"source {self.source.name}",
                hint=held_hint(self.source.name, admitted.commit),
            ) from error

    async def _admit(self) -> None:
        assert self.head is not None
        before = self.admitted.commit if self.admitted else self._remembered()
        descends = not before or before == self.head or await self.mirror.descends(self.head, before)
        decision = admit(
            head=self.head,
            admitted=before,
            descends=descends,
            on_rewind=self.source.on_rewind,
            approved=self._approved,
            quarantined=await self._is_quarantined(self.head, before),
        )
        if decision.held:
            head = await self.mirror.revision(self.source.name, self.source.branch, self.head)
            self._hold(str(head), before, decision.held)
            if self.admitted is None and before:
                await self._fall_back(before)
            return
        previous = self.admitted
        if self.held:
            self.held, self.since = "", self._clock.now()
        revision = await self.mirror.revision(self.source.name, self.source.branch, decision.commit)
        self.admitted = revision
        if previous is None or previous.commit != revision.commit:
            self.admitted_at = self._clock.now()
            self._log.info(
                "source updated",
                source=self.source.name,
                revision=str(revision),
                previous=str(previous) if previous else None,
            )
        self._ring()
        self._remember()  # last: a full disk must not keep a commit from being applied

    async def _is_quarantined(self, head: str, before: str) -> bool:
        """Whether the head, or what was admitted before it, says that such a tree must not come back."""
        if head == before:
            return False
        listed = {entry.commit for commit in (head, before) if commit for entry in await self._quarantine(commit)}
        if not listed or head in listed:
            return head in listed
        tree = await self.mirror.tree_id(head, "")
        for commit in listed:
            with suppress(RevisionNotFound):  # of another branch, or of before a rewritten history
                if await self.mirror.tree_id(commit, "") == tree:
                    return True
        return False

    async def _quarantine(self, commit: str) -> Sequence[QuarantinedCommit]:
        """Commits that must not come back. A file that cannot be read is told where images are chosen by it."""
        try:
            found = await self.mirror.snapshot(commit, QUARANTINE_FILE)
            return self._editor.quarantined(QUARANTINE_FILE, found.files[0].content).commits if found.files else ()
        except (RevisionNotFound, ManifestInvalid):
            return ()

    async def _fall_back(self, commit: str) -> None:
        """Drift heals towards the admitted commit also while a newer head is held."""
        try:
            self.admitted = await self.mirror.revision(self.source.name, self.source.branch, commit)
        except GitsyncdError:
            return
        self._ring()

    def _hold(self, revision: str, admitted: str, reason: str) -> None:
        if self.held != reason:
            self.held, self.since = reason, self._clock.now()
        if self._say_held(revision, admitted, reason):
            self._ring()

    def _say_held(self, revision: str, admitted: str, reason: str = REWOUND) -> bool:
        """Once per head. Whether it was said now."""
        if self._told == revision:
            return False
        self._told = revision
        self._log.error(
            "revision held",
            source=self.source.name,
            revision=revision,
            admitted=f"{self.source.branch}@sha1:{admitted}" if admitted else None,
            reason=reason,
            remedy="approve",
            hint=held_hint(self.source.name, revision.rpartition(":")[2], reason),
        )
        return True

    def _ring(self) -> None:
        for bell in self.bells:
            bell.ring()


class SourceLoop:
    """All branches of one repository that some target follows: one conversation for them together."""

    def __init__(self, mirror: Mirror, *, clock: Clock, meter: Meter | None = None) -> None:
        self.tracks: list[Track] = []
        self._meter = meter or Meter()
        self.bell = Bell()
        """Rung to look at once."""
        self.mirror = mirror
        self._mirror = mirror
        self._clock = clock
        self._failures = 0
        self._turn = asyncio.Lock()
        self._spared: dict[str, tuple[int, float]] = {}
        """Branches that hold something too large: how often they failed alone, and when each is asked for again."""

    async def run(self) -> None:
        """Look, wait, look again: for ever."""
        while True:
            await self.look(spare=True)
            interval = min((track.source.interval for track in self.tracks), default=_CAP)
            delay = interval
            # A server that says no is there: mended credentials are used within one interval.
            denied = any(isinstance(track.error, SourceDenied) for track in self.tracks)
            if self._failures and not denied:
                delay = next_delay(self._failures, base=min(_RETRY, interval), cap=_CAP, jitter=self._clock.jitter())
            await self.bell.wait(delay.total_seconds())

    async def look(self, *, spare: bool = False) -> None:
        """Ask the remote once and tell the tracks. Never raises what an edge foresees.

        With `spare`, branches that held something too large a short while ago are left out.
        """
        async with self._turn:
            now = self._clock.monotonic()
            spared = {branch for branch, (_, until) in self._spared.items() if spare and now < until}
            branches = sorted({track.source.branch for track in self.tracks} - spared)
            if not branches:
                return
            try:
                answers = await self._ask(branches)
            except GitsyncdError as error:
                answers = dict.fromkeys(branches, error)
            told = [
                await self._tell(track, answers[track.source.branch])
                for track in tuple(self.tracks)
                if track.source.branch in answers
            ]
            alone = [branch for branch, answer in answers.items() if isinstance(answer, GitsyncdError)]
            if len(alone) < len(answers):
                self._spare(alone, answers)
            self._failures = 0 if any(told) else self._failures + 1
            self._count([track for track in self.tracks if track.source.branch in answers])

    def _count(self, asked: Iterable[Track]) -> None:
        """Once per source, however many of its branches are followed."""
        errors: dict[str, GitsyncdError | None] = {}
        for track in asked:
            errors[track.source.name] = errors.get(track.source.name) or track.error
        for source, error in errors.items():
            self._meter.polled(source, error)

    def _spare(self, failed: Sequence[str], asked: Iterable[str]) -> None:
        """Ask for branches that failed alone less and less often, up to every five minutes."""
        for branch in asked:
            times, _ = self._spared.pop(branch, (0, 0.0))
            if branch in failed:
                delay = next_delay(times + 1, base=_RETRY, cap=_CAP, jitter=self._clock.jitter())
                self._spared[branch] = times + 1, self._clock.monotonic() + delay.total_seconds()

    async def _ask(self, branches: Sequence[str]) -> dict[str, str | GitsyncdError | None]:
        """Head of each branch, None where it is gone, or why it alone cannot be had. Raises `SourceError` for all."""
        try:
            return dict(await self._mirror.update(branches))
        except SourceTooLarge as error:
            if len(branches) == 1:
                return {branches[0]: error}
        # One branch must not keep the others from being followed.
        answers: dict[str, str | GitsyncdError | None] = {}
        for branch in branches:
            answers |= await self._ask([branch])
        return answers

    async def _tell(self, track: Track, answer: str | GitsyncdError | None) -> bool:
        """Whether the track could use the answer."""
        try:
            if isinstance(answer, GitsyncdError):
                raise answer
            await track.arrived(answer)
        except GitsyncdError as error:
            await track.failed(error)
            return False
        return True
