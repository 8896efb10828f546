"""Going back by going forward: a commit that gives one target's path what it had, and says what must not come back.

Belongs here: which commit to go back to, what is quarantined, and who is told. Does not belong here: how a commit is
made and pushed (an edge), and applying it, which happens by the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gitsyncd.core.containers import images_of
from gitsyncd.core.going_back import Barred, contents_of, kept_out
from gitsyncd.core.history import good_ones, identity
from gitsyncd.core.request_text import rollback_request
from gitsyncd.model.errors import (
    ClusterError,
    PushContended,
    PushRefused,
    RenderError,
    RevisionNotFound,
    SourceError,
    SourceUnreachable,
    UsageError,
)
from gitsyncd.model.image import QUARANTINE_FILE, Quarantine, Quarantined, QuarantinedCommit
from gitsyncd.model.immutable import immutable
from gitsyncd.model.units import rfc3339
from gitsyncd.model.update import Author, MergeRequest, Proposal, Restored, Tip, Update

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gitsyncd.core.reference import Reference
    from gitsyncd.engine.facts import Gatherer
    from gitsyncd.engine.ports import Clock, FileEditor, Log, MergeRequests, Writer
    from gitsyncd.engine.target_loop import TargetLoop
    from gitsyncd.model.history import History, Passage
    from gitsyncd.model.target import Images

TRAILER = "Gitsyncd-Rollback"
_FEWEST_DIGITS = 7


@immutable
class Way:
    """From which commit to which, and what is kept from coming back."""

    target: str
    path: str
    source: str
    branch: str
    start: str
    end: str
    tip: str
    """The branch as it was looked at: what is below the path there gives way."""
    commits: tuple[str, ...]
    """What must not come back: the commit that brought what the start has, and the start if it changed it, too."""
    images: tuple[Quarantined, ...]
    """Of the start, and not of the end, as they are named there."""
    listed: tuple[Quarantined, ...]
    """The same, with the digest of each as far as it is known."""
    reverted: tuple[str, ...] = ()
    """Commits on the way from the start to the tip: never looked at, and taken back as well."""
    passed_over: tuple[str, ...] = ()
    """Good ones after the end that are quarantined."""

    def as_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "source": self.source,
            "branch": self.branch,
            "path": self.path,
            "from": self.start,
            "to": self.end,
            "quarantined": [
                {"image": entry.image, "tag": entry.tag, "digest": entry.digest or None} for entry in self.images
            ],
            "reverted": list(self.reverted),
            "passed_over": list(self.passed_over),
        }


class Rollback:
    """Writes such commits, with the credentials of an update of the same source, or else of the source itself."""

    def __init__(
        self,
        gatherers: Mapping[str, Gatherer],
        images: Callable[[], Images],
        writer: Callable[[Update], Writer],
        requests: Callable[[Update], MergeRequests | None],
        editor: FileEditor,
        *,
        digest: Callable[[Reference], str],
        clock: Clock,
        log: Log,
        pushed: Callable[[Update], None],
    ) -> None:
        """`digest` is that of an image that some policy selected, or empty."""
        self._gatherers = gatherers
        self._images = images
        self._writer = writer
        self._requests = requests
        self._editor = editor
        self._digest = digest
        self._clock = clock
        self._log = log
        self._pushed = pushed

    # --- which way -----------------------------------------------------------------------------------------------

    async def way(self, loop: TargetLoop, to: str, history: History, *, by_request: bool = False) -> Way:
        """What a rollback would do; `to` names a commit, or (empty) the last good one.

        The branch is looked at, and what it has now is not admitted by that. Raises `UsageError` for what cannot be
        meant, `SourceError`, `ManifestInvalid` for a quarantine file that cannot be read.
        """
        if loop.track.admitted is None:
            raise UsageError(
                f"{loop.target.id} has no revision yet: there is nothing to go back from",
                hint="See what it waits for: gitsyncd status",
            )
        self._update(loop, by_request=by_request)
        start, source = loop.track.admitted.commit, loop.track.source
        tip = await self._tip(loop)
        reverted = await self._unseen(loop, start, tip, is_meant=bool(to))
        barred = await self._barred(loop, tip, history)
        content = await self._content(loop, start)
        passed_over: list[str] = []
        if to:
            end = await self._named(loop, start, to)
            await self._check(loop, end, barred, present=content)
        else:
            others = good_ones(history, content)
            end = await self._last_good(loop, start, others, barred, passed_over)
        before, after = await self._images_of(loop, start), await self._images_of(loop, end)
        if before is None or after is None:
            before = after = set()  # what cannot be rendered has no images to speak of
        policies = self._images().policies
        latest = history.passages[0] if history.passages else None
        brought = [latest.commit] if latest is not None and content and latest.content == content else []
        if not brought or await loop.track.mirror.touching(loop.target.path, start):
            brought = [start, *brought]  # else it is of others, and may be a good one of theirs
        return Way(
            target=loop.target.id,
            path=loop.target.path,
            source=source.name,
            branch=source.branch,
            start=start,
            end=end,
            tip=tip,
            commits=tuple(dict.fromkeys(brought)),
            images=kept_out(before, after, policies),
            listed=kept_out(before, after, policies, self._digest),
            reverted=reverted,
            passed_over=tuple(passed_over),
        )

    async def _tip(self, loop: TargetLoop) -> str:
        source = loop.track.source
        try:
            heads = await loop.track.mirror.update([source.branch])
        except SourceUnreachable as error:
            raise _out_of_reach(error, loop.target.id) from error
        if (tip := heads[source.branch]) is None:
            raise RevisionNotFound(f"branch {source.branch} is not in the repository any more", hint="Push it again.")
        return tip

    async def _barred(self, loop: TargetLoop, tip: str, history: History) -> Barred:
        mirror, path = loop.track.mirror, loop.target.path
        quarantine = await self._quarantine(loop, tip)
        commits = {entry.commit.lower(): entry for entry in quarantine.commits}
        trees = set()
        for commit in commits:
            with suppress(RevisionNotFound):  # of another branch, or of before a rewritten history
                if await mirror.touching(path, commit):
                    trees.add(await self._tree(loop, commit))
        return Barred(
            commits=commits, contents=contents_of(history, commits), trees=trees - {""}, images=quarantine.images
        )

    async def _quarantine(self, loop: TargetLoop, tip: str) -> Quarantine:
        try:
            found = await loop.track.mirror.snapshot(tip, QUARANTINE_FILE)
        except RevisionNotFound:
            return Quarantine()
        return self._editor.quarantined(QUARANTINE_FILE, found.files[0].content) if found.files else Quarantine()

    async def _unseen(self, loop: TargetLoop, start: str, tip: str, *, is_meant: bool) -> tuple[str, ...]:
        """Commits of others, pushed below the path since the start. Raises `UsageError` where nobody meant them."""
        path, branch = loop.target.path, loop.track.source.branch
        if await self._tree(loop, tip) == await self._tree(loop, start):
            return ()
        unseen = tuple(await loop.track.mirror.touching(path, tip, since=start)) or (tip,)
        if not is_meant:
            raise UsageError(
                f"{branch} has newer commits below {path or '/'} than the one that {loop.target.id} has: "
                + ", ".join(commit[:12] for commit in unseen),
                hint=f"They may be the cure: look at them, and let them arrive with gitsyncd sync {loop.target.id}. "
                f"To take them back as well: gitsyncd rollback {loop.target.id} --to COMMIT",
            )
        return unseen

    async def _last_good(
        self, loop: TargetLoop, start: str, good: Sequence[Passage], barred: Barred, passed_over: list[str]
    ) -> str:
        """The first that nothing speaks against. Raises `UsageError`."""
        present = await self._tree(loop, start)
        for passage in good:
            tree = await self._tree(loop, passage.commit)
            # What a commit wants is told by the agent file, too, and that may have changed: its files have not.
            if tree == present:
                continue
            if barred.against(passage.commit, passage.content, tree, passage.images or ()):
                passed_over.append(passage.commit)
            elif tree:
                return passage.commit
        others = " and is not quarantined" if passed_over else ""
        raise UsageError(
            f"no other revision of {loop.target.id} is known to have been in sync and healthy{others}",
            hint=f"Name one: gitsyncd rollback {loop.target.id} --to COMMIT",
        )

    async def _named(self, loop: TargetLoop, start: str, to: str) -> str:
        """The whole id of a commit of the branch, of which the first digits are enough.

        Raises `UsageError`.
        """
        mirror, source = loop.track.mirror, loop.track.source
        to = to.lower()
        if len(to) < _FEWEST_DIGITS:
            raise UsageError(f"{to!r} is too short for a commit", hint="Write at least seven digits of its id.")
        try:
            revision = await mirror.revision(source.name, source.branch, to)
        except RevisionNotFound as error:
            raise UsageError(
                f"{to} is no commit that the mirror of {source.name} has",
                hint=f"See which there were: gitsyncd history {loop.target.id}",
            ) from error
        if not await mirror.descends(start, revision.commit):
            raise UsageError(
                f"{revision.commit} is not in the history of {source.branch}",
                hint=f"Name a commit of {source.branch}: gitsyncd history {loop.target.id}",
            )
        return revision.commit

    async def _check(self, loop: TargetLoop, end: str, barred: Barred, *, present: str) -> None:
        """Raises `UsageError` for a commit that is no place to go back to."""
        target = loop.target
        another = f"Name another one: gitsyncd history {target.id}"
        tree, content = await self._tree(loop, end), await self._content(loop, end)
        if not content:
            raise UsageError(
                f"what {end[:12]} has at {target.path or '/'} cannot be read, or is not there", hint=another
            )
        if content == present:
            raise UsageError(f"{target.id} has what {end[:12]} wants: there is nothing to go back from", hint=another)
        if why := barred.against(end, content, tree, await self._images_of(loop, end) or ()):
            raise UsageError(
                f"{end[:12]} {why}",
                hint=f"Name another one, or let it come back first: remove its entry from {QUARANTINE_FILE}.",
            )

    async def _tree(self, loop: TargetLoop, commit: str) -> str:
        """The identity of the files below the path; empty where there are none, or the mirror has no such commit."""
        try:
            return await loop.track.mirror.tree_id(commit, loop.target.path)
        except RevisionNotFound:
            return ""

    async def _content(self, loop: TargetLoop, commit: str) -> str:
        """The identity of what a commit wants; empty for one that cannot be read: it is none of the good ones."""
        try:
            return identity((await self._gatherers[loop.target.id].at(commit)).manifests.values())
        except (RenderError, RevisionNotFound):
            return ""

    async def _images_of(self, loop: TargetLoop, commit: str) -> set[str] | None:
        """As its manifests name them; None where they cannot be read."""
        try:
            wanted = await self._gatherers[loop.target.id].at(commit)
        except (RenderError, ClusterError, RevisionNotFound):
            return None
        return {found.image for found in images_of(wanted.manifests.values())}

    # --- going it ------------------------------------------------------------------------------------------------

    async def commit(self, loop: TargetLoop, way: Way, reason: str, *, by_request: bool = False) -> dict[str, Any]:
        """Write it and push it, or (`by_request`) push it to a branch of its own and ask for it to be merged.

        Raises `SourceError`, `ForgeError`: it was not pushed, or not asked for. `UsageError` where nobody can be asked,
        and `ManifestInvalid` for a quarantine file that cannot be read.
        """
        update = self._update(loop, by_request=by_request)
        requests = self._requests(update) if by_request else None
        apart = f"gitsyncd-rollback-{way.target.replace('@', '-')}" if by_request else ""
        now = rfc3339(self._clock.now())
        images = [replace(entry, reason=reason, since=now, commit=way.start) for entry in way.listed]
        commits = [QuarantinedCommit(commit=commit, reason=reason, since=now) for commit in way.commits]

        def propose(tip: Tip) -> Proposal:
            if apart and tip.others:
                raise PushRefused(
                    f"branch {apart} has commits of others, such as {tip.others[:12]}: it stays as it is",
                    hint="Merge that branch or delete it, and ask again: a fresh one is made.",
                )
            content = tip.files.get(QUARANTINE_FILE, b"")
            known = self._editor.quarantined(QUARANTINE_FILE, content).commits if content else ()
            if way.end in {entry.commit.lower() for entry in known}:
                raise PushContended(f"somebody has just quarantined {way.end[:12]}", hint="Ask again.")
            listed = self._editor.with_quarantined(QUARANTINE_FILE, content, images=images, commits=commits)
            return Proposal(
                message=_message(way, reason),
                files={QUARANTINE_FILE: listed},
                restored={way.path: Restored(commit=way.end, over=way.tip)},
            )

        writer = self._writer(update)
        try:
            written = await writer.write(propose, branch=way.branch, onto=apart, paths=[QUARANTINE_FILE])
        except SourceUnreachable as error:
            raise _out_of_reach(error, way.target) from error
        finally:
            await writer.close()
        if written is None and not by_request:
            raise SourceError(
                f"{way.branch} has the content of {way.end[:12]} under {way.path or '/'} already",
                hint=f"Look at it now: gitsyncd sync {way.target}",
            )
        if written is not None:
            self._log.warning(
                "rollback committed",
                target=way.target,
                **{"from": way.start},
                to=way.end,
                commit=written.commit,
                quarantined=[str_of(entry) for entry in way.images],
                reverted=list(way.reverted),
            )
            self._pushed(update)
        url = await requests.ensure(_request(way, reason, apart, update)) if requests is not None else None
        return {**way.as_json(), "commit": written.commit if written is not None else None, "pull_request": url}

    def _update(self, loop: TargetLoop, *, by_request: bool) -> Update:
        """Whose credentials are used. Raises `UsageError` where nobody can be asked to merge."""
        source = loop.track.source
        for update in self._images().updates:
            if update.source == source.name and (update.pull_request is not None or not by_request):
                return replace(update, branch=source.branch)
        if by_request:
            raise UsageError(
                f"no update of source {source.name} has a pull_request",
                hint="Leave --pull-request out, or give an update of that source `push` and `pull_request`.",
            )
        return Update(
            name=f"rollback-{source.name}",
            source=source.name,
            repository=source.repository,
            branch=source.branch,
            timeout=source.timeout,
            author=Author(name="gitsyncd", email="gitsyncd@localhost"),
        )


def _out_of_reach(error: SourceUnreachable, target: str) -> SourceUnreachable:
    return SourceUnreachable(
        f"the rollback could not be pushed: {error.message}",
        hint="Until the remote answers, the cluster can be kept as it is by hand: "
        f"gitsyncd suspend {target} --for 1h --reason rollback",
    )


def str_of(entry: Quarantined) -> str:
    """As references are written."""
    return entry.image + (f":{entry.tag}" if entry.tag else "") + (f"@{entry.digest}" if entry.digest else "")


def _request(way: Way, reason: str, head: str, update: Update) -> MergeRequest:
    labels = update.pull_request.labels if update.pull_request is not None else ()
    return rollback_request(
        target=way.target,
        end=way.end,
        reason=reason,
        quarantined=[str_of(entry) for entry in way.images],
        head=head,
        base=way.branch,
        labels=labels,
    )


def _message(way: Way, reason: str) -> str:
    lines = [f"Roll {way.target} back to {way.end[:12]}", "", reason]
    if way.images:
        lines += ["", "Quarantined:", *(f"- {str_of(entry)}" for entry in way.images)]
    if way.reverted:
        lines += ["", "Taken back as well, without having been applied:", *(f"- {commit}" for commit in way.reverted)]
    return "\n".join([*lines, "", f"{TRAILER}: {way.start} -> {way.end}"])
