"""Writing choices into a repository: one loop per update, one commit for everything that is due.

Belongs here: when something is written, how much of it an hour, and what is told. Does not belong here: what is written
at a mark (`core.tagging`), how a file is changed and a commit pushed (edges), and choosing (`image_loop`).

A branch of its own is made anew from the followed one with each commit, and what is not proposed again is gone from it.
So nothing is done to it, nor to the request to merge it, as long as it is not known what each policy wants. One that is
locked is known to want nothing: what was proposed for it is taken back, so that nobody merges it meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from gitsyncd.core.backoff import next_delay
from gitsyncd.core.images import is_quarantined
from gitsyncd.core.request_text import update_request
from gitsyncd.core.tagging import message, move, new_values
from gitsyncd.engine.trigger import Bell
from gitsyncd.model.errors import GitsyncdError, ManifestInvalid, PushRefused, TooManyCommits
from gitsyncd.model.image import Found, ImageChange, ImagePolicy, Mark
from gitsyncd.model.units import rfc3339
from gitsyncd.model.update import Proposal, Tip, Update, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gitsyncd.engine.image_loop import PolicyLoop
    from gitsyncd.engine.marked_branch import MarkedBranch, Sight
    from gitsyncd.engine.ports import Clock, FileEditor, Log, MergeRequests, Store
    from gitsyncd.model.update import MergeRequest

_RETRY = timedelta(seconds=15)
_CAP = timedelta(minutes=5)
_HOUR = timedelta(hours=1)
_GATHER_S = 5.0
"""What is chosen so soon after each other is one commit. Registries that take longer hold up no others."""

Choices = Mapping[str, tuple[ImagePolicy, Found]]
"""By policy: it, and what it has come to."""


class UpdateLoop:
    """One repository and branch to write to."""

    def __init__(
        self,
        update: Update,
        branch: MarkedBranch,
        editor: FileEditor,
        requests: MergeRequests | None,
        *,
        agent: str,
        pushed: Callable[[], None],
        clock: Clock,
        log: Log,
        store: Store,
    ) -> None:
        """`pushed` is called when the remote has taken a commit: whoever follows the repository looks."""
        self.update = update
        self.policies: list[PolicyLoop] = []
        self.bell = Bell()
        self.branch = branch
        self.commits = 0
        """That were pushed since this loop was made."""
        self.last: Written | None = None
        self.last_at: datetime | None = None
        self.request_url = ""
        """Of the request to merge that is open, if any is known."""
        self.error: GitsyncdError | None = None
        self._editor = editor
        self._requests = requests
        self._requested: MergeRequest | None = None
        self._proposing: frozenset[str] = frozenset()
        """Policies that it is about."""
        self._settled_requests = False
        """Whether the forge has been told what there is to merge, or that there is nothing."""
        self._agent = agent
        self._pushed = pushed
        self._clock = clock
        self._log = log
        self._store = store
        self._failures = 0
        self._commits: list[datetime] = []
        self._is_remembered = True
        self._unwritable: dict[str, ManifestInvalid] = {}
        """By file, at the last attempt."""
        self._told: set[tuple[str, int, str]] = set()
        """Of what is wrong with files."""
        branch.late = self._done
        self._remembered()

    # --- Writing -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.bell.wait(self._pause_s())
            await self._gathered()
            self.bell.take()
            await self.write()

    async def _gathered(self) -> None:
        """Until no policy looks any more, or one takes its time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GATHER_S):
                for policy in self.policies:
                    await policy.settled()

    def _pause_s(self) -> float | None:
        if not self._failures:
            return None
        if isinstance(self.error, TooManyCommits) and self._commits:
            return max(1.0, (self._commits[0] + _HOUR - self._clock.now()).total_seconds())
        return next_delay(self._failures, base=_RETRY, cap=_CAP, jitter=self._clock.jitter()).total_seconds()

    async def write(self) -> None:
        """Commit what is due, if anything is, and let the forge know."""
        self._say_problems()
        chosen = self._chosen()
        if chosen is None or not (chosen or self._requests):
            self.error, self._failures = None, 0  # nothing is wanted that could fail
            return
        try:
            try:
                has_written = await self._write(chosen)
            finally:
                self._say_problems()
                self._remember()
        except GitsyncdError as error:
            self._failed(error)
            return
        self.error, self._failures = None, 0
        if has_written:
            with suppress(GitsyncdError):  # told at the next look
                await self.branch.sight()

    def _chosen(self) -> Choices | None:
        """What is known to be wanted now. None where to write only that would take back what was proposed before."""
        if self.waits_for:
            return None
        return {
            loop.policy.name: (loop.policy, loop.selected)
            for loop in self.policies
            if loop.selected is not None and not loop.is_locked and not loop.is_in_doubt
        }

    @property
    def waits_for(self) -> Sequence[str]:
        """Policies in doubt for which a branch of its own stays as it is."""
        return [loop.policy.name for loop in self.policies if self.update.push_branch and loop.is_in_doubt]

    def _holds(self, chosen: Choices, changes: Sequence[ImageChange]) -> bool:
        """Whether these changes are what is wanted still. A policy that none of them is of does not matter."""
        now = self._chosen()
        return now is not None and all(now.get(change.policy) == chosen[change.policy] for change in changes)

    async def _write(self, chosen: Choices) -> bool:
        """Whether anything was pushed. Raises `SourceError`, `ManifestInvalid`, `ForgeError`."""
        sight = await self.branch.sight()
        pending = _moves(_due(sight, chosen), chosen)
        self._unwritable = {}
        written = await self._commit(chosen) if pending else None
        if written is not None:
            self._done(written)
        pending = [change for change in pending if change.file not in self._unwritable]
        if self._holds(chosen, pending):
            await self._request(pending, has_moved=written is not None)
        return written is not None

    async def _commit(self, chosen: Choices) -> Written | None:
        """What was pushed. Raises `SourceError`, `ManifestInvalid`."""
        changes: list[ImageChange] = []

        def propose(tip: Tip) -> Proposal | None:
            files, self._unwritable = self._edited(tip, _due(self.branch.of(tip), chosen))
            if not files:
                return None
            if tip.others:
                raise PushRefused(
                    f"branch {self.update.pushed} has commits of others, such as {tip.others[:12]}: it stays as it is",
                    hint="Merge that branch or delete it: a fresh one is made. If another agent or update pushes to "
                    "it, give each a `push.branch` of its own.",
                )
            changes[:] = _moves({file: values for file, (values, _) in files.items()}, chosen)
            return Proposal(
                message=message(self.update.message, changes, agent=self._agent),
                files={file: content for file, (_, content) in files.items()},
                changes=tuple(changes),
            )

        def ready() -> bool:
            """The last word before a push: what was decided since the choice holds."""
            if not self._holds(chosen, changes):
                self.bell.ring()
                return False
            if self._spent():
                most = self.update.max_commits_per_hour
                raise TooManyCommits(f"update {self.update.name} has made {most} commits within an hour")
            return True

        return await self.branch.write(propose, ready)

    def _edited(
        self, tip: Tip, due: Mapping[str, Mapping[Mark, str]]
    ) -> tuple[dict[str, tuple[Mapping[Mark, str], bytes]], dict[str, ManifestInvalid]]:
        """By file: what is written to it and what comes of that, and what is wrong with those that it cannot be."""
        files, wrong = {}, {}
        for file, values in due.items():
            try:
                files[file] = (values, self._editor.edited(file, tip.files[file], values))
            except ManifestInvalid as error:
                wrong[file] = error
        return files, wrong

    async def _request(self, changes: Sequence[ImageChange], *, has_moved: bool) -> None:
        """Let the forge have one request for all that is not merged yet, or none. Raises `ForgeError`.

        It is asked when something moved (the branch has, or what is wanted), and once after a start: a person who
        closed the request is not overruled.
        """
        update = self.update
        if self._requests is None or update.pull_request is None:
            return
        wanted = None
        if changes:
            wanted = update_request(
                changes,
                head=update.pushed,
                base=update.branch,
                labels=update.pull_request.labels,
                agent=self._agent,
            )
        if self._settled_requests and wanted == self._requested and not has_moved:
            return
        if wanted is not None:
            self.request_url = await self._requests.ensure(wanted)
        elif not await self._others():
            await self._requests.withdraw(update.pushed, update.branch, self._why_nothing())
            self.request_url = ""
        self._requested, self._settled_requests = wanted, True
        self._proposing = frozenset(change.policy for change in changes)

    def _why_nothing(self) -> str:
        """What there is to say to those who follow a request that is closed."""
        names = [loop.policy.name for loop in self.policies if loop.is_locked]
        if locked := [f"`{name}`" for name in names if name in self._proposing]:
            return f"Nothing of this is wanted now: locked is {', '.join(locked)}. A new request comes after."
        return "Nothing of this is wanted any more, or it has arrived otherwise."

    async def _others(self) -> bool:
        """Whether the branch that is pushed has something of others, whose request it then is. Raises `SourceError`."""
        found = ""

        def look(tip: Tip) -> None:
            nonlocal found
            found = tip.others

        await self.branch.write(look)
        return bool(found)

    # --- What is told --------------------------------------------------------------------------------------------

    def _done(self, written: Written) -> None:
        """Tell of it, whatever the disk says of remembering it."""
        self.commits += 1
        self.last, self.last_at = written, self._clock.now()
        self._commits.append(self.last_at)
        self._is_remembered = False
        self._log.info(
            "images committed",
            update=self.update.name,
            source=self.update.source,
            branch=written.branch,
            commit=written.commit,
            changes=[
                {"file": change.file, "policy": change.policy, "old": change.old, "new": change.new}
                for change in written.changes
            ],
            attempts=written.attempts,
        )
        self._pushed()

    @property
    def problems(self) -> Sequence[ManifestInvalid]:
        """What is wrong with files: they are left alone, and the others are written."""
        return [*self.branch.seen.problems, *self._unwritable.values()]

    def _say_problems(self) -> None:
        """The first of each file, once until it is another one."""
        first = {problem.file: problem for problem in reversed(self.problems)}
        told = {(problem.file, problem.line, problem.message) for problem in first.values()}
        for file, problem in sorted(first.items()):
            if (file, problem.line, problem.message) not in self._told:
                self._log.error(
                    "image update failed",
                    update=self.update.name,
                    source=self.update.source,
                    file=file,
                    line=problem.line,
                    error=str(problem),
                    remedy=problem.remedy,
                    hint=problem.hint,
                )
        self._told = told

    def _failed(self, error: GitsyncdError) -> None:
        self._failures += 1
        if self.error is None or str(self.error) != str(error):
            self._log.error(
                "image update failed",
                update=self.update.name,
                source=self.update.source,
                error=str(error),
                remedy=error.remedy,
                hint=error.hint,
            )
        self.error = error

    # --- How often -----------------------------------------------------------------------------------------------

    def _spent(self) -> bool:
        """Whether this hour has had its commits."""
        now = self._clock.now()
        # A clock that was set back leaves commits in the future; they count as made now.
        self._commits = [min(at, now) for at in self._commits if now - at < _HOUR]
        return len(self._commits) >= self.update.max_commits_per_hour

    @property
    def _file(self) -> str:
        return f"update-{self.update.name}"

    def _remember(self) -> None:
        """What counts after a restart. Raises `LocalError`."""
        if not self._is_remembered:
            self._store.save(self._file, {"commits": [rfc3339(at) for at in self._commits]})
            self._is_remembered = True

    def _remembered(self) -> None:
        """What cannot be used is as good as lost."""
        try:
            commits = [datetime.fromisoformat(at) for at in self._store.load(self._file).get("commits", ())]
        except (TypeError, ValueError):
            commits = []
        self._commits = [at for at in commits if at.tzinfo is not None]


def _due(sight: Sight, chosen: Choices) -> dict[str, dict[Mark, str]]:
    """By file: the marks that hold something else than what was chosen, and what they should hold."""
    due: dict[str, dict[Mark, str]] = {}
    for name, (policy, selected) in chosen.items():
        if is_quarantined(policy, selected, sight.quarantined):
            continue
        by_file: dict[str, list[Mark]] = {}
        for file, mark in sight.marks.get(name, ()):
            by_file.setdefault(file, []).append(mark)
        for file, marks in by_file.items():
            if values := new_values(policy, selected, marks):
                due.setdefault(file, {}).update(values)
    return due


def _moves(due: Mapping[str, Mapping[Mark, str]], chosen: Choices) -> list[ImageChange]:
    """In the order of the policies, and of the files within each."""
    return [
        move(file, policy, mark, value)
        for name, (policy, _) in chosen.items()
        for file, values in due.items()
        for mark, value in values.items()
        if mark.policy == name
    ]
