"""Writing choices into a repository: one loop per update, one commit for everything that is due.

Belongs here: when something is written, how much of it an hour, and what is told. Does not belong here: what is written
at a mark (`core.tagging`), how a file is changed and a commit pushed (edges), and choosing (`image_loop`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from gitsyncd.core.backoff import next_delay
from gitsyncd.core.images import is_quarantined
from gitsyncd.core.request_text import update_request
from gitsyncd.core.tagging import message, move, new_values
from gitsyncd.engine.trigger import Bell
from gitsyncd.model.errors import GitsyncdError, TooManyCommits
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
        self.last: Written | None = None
        self.last_at: datetime | None = None
        self.request_url = ""
        """Of the request to merge that is open, if any is known."""
        self.error: GitsyncdError | None = None
        self._editor = editor
        self._requests = requests
        self._requested: MergeRequest | None = None
        self._settled_requests = False
        """Whether the forge has been told what there is to merge, or that there is nothing."""
        self._agent = agent
        self._pushed = pushed
        self._clock = clock
        self._log = log
        self._store = store
        self._failures = 0
        self._commits: list[datetime] = []
        self._remembered()

    # --- Writing -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.bell.wait(self._pause_s())
            for policy in self.policies:
                await policy.settled()  # what is chosen at the same time is one commit
            self.bell.take()
            await self.write()

    def _pause_s(self) -> float | None:
        if not self._failures:
            return None
        if isinstance(self.error, TooManyCommits) and self._commits:
            return max(1.0, (self._commits[0] + _HOUR - self._clock.now()).total_seconds())
        return next_delay(self._failures, base=_RETRY, cap=_CAP, jitter=self._clock.jitter()).total_seconds()

    async def write(self) -> None:
        """Commit what is due, if anything is."""
        chosen = {
            loop.policy.name: (loop.policy, loop.selected)
            for loop in self.policies
            if loop.selected is not None and loop.may_write and loop.error is None
        }
        if not chosen:
            return
        try:
            sight = await self.branch.sight()
            pending = _moves(_due(sight, chosen), chosen)
            written, changes = await self._commit(chosen) if pending else (None, [])
            if written is not None:
                self._done(written, changes)
            await self._request(pending)
        except GitsyncdError as error:
            self._failed(error)
            return
        self.error, self._failures = None, 0
        if written is not None:
            with suppress(GitsyncdError):  # told at the next look
                await self.branch.sight()

    async def _commit(self, chosen: Choices) -> tuple[Written | None, list[ImageChange]]:
        """What was pushed, and what it changes. Raises `SourceError`, `ManifestInvalid`."""
        changes: list[ImageChange] = []
        spent = self._spent()

        def propose(tip: Tip) -> Proposal | None:
            due = _due(self.branch.of(tip), chosen)
            changes[:] = _moves(due, chosen)
            if not changes or spent:
                return None
            files = {file: self._editor.edited(file, tip.files[file], values) for file, values in due.items()}
            return Proposal(message=message(self.update.message, changes, agent=self._agent), files=files)

        written = await self.branch.write(propose)
        if spent and changes:
            update = self.update
            raise TooManyCommits(f"update {update.name} has made {update.max_commits_per_hour} commits within an hour")
        return written, changes

    async def _request(self, changes: Sequence[ImageChange]) -> None:
        """Let the forge have one request for all that is not merged yet, or none. Raises `ForgeError`.

        It is asked when something moved, and once after a start: a person who closed the request is not overruled.
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
        if self._settled_requests and wanted == self._requested:
            return
        if wanted is not None:
            self.request_url = await self._requests.ensure(wanted)
        else:
            await self._requests.withdraw(update.pushed, update.branch, "Everything of this has arrived otherwise.")
            self.request_url = ""
        self._requested, self._settled_requests = wanted, True

    def _done(self, written: Written, changes: Sequence[ImageChange]) -> None:
        self.last, self.last_at = written, self._clock.now()
        self._commits.append(self.last_at)
        self._remember()
        self._log.info(
            "images committed",
            update=self.update.name,
            source=self.update.source,
            branch=written.branch,
            commit=written.commit,
            changes=[
                {"file": change.file, "policy": change.policy, "old": change.old, "new": change.new}
                for change in changes
            ],
            attempts=written.attempts,
        )
        self._pushed()

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
        self._store.save(self._file, {"commits": [rfc3339(at) for at in self._commits]})

    def _remembered(self) -> None:
        try:
            self._commits = [datetime.fromisoformat(at) for at in self._store.load(self._file).get("commits", ())]
        except (TypeError, ValueError):
            self._commits = []


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
