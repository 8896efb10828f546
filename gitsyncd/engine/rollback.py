"""Going back by going forward: a commit that gives one target's path what it had, and says what must not come back.

Belongs here: which commit to go back to, what is quarantined, and who is told. Does not belong here: how a commit is
made and pushed (an edge), and applying it, which happens by the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gitsyncd.core.containers import images_of
from gitsyncd.core.history import identity, last_good
from gitsyncd.core.reference import reference
from gitsyncd.core.request_text import rollback_request
from gitsyncd.model.errors import (
    ClusterError,
    RenderError,
    RevisionNotFound,
    SourceError,
    SourceUnreachable,
    UsageError,
)
from gitsyncd.model.image import QUARANTINE_FILE, Quarantined, QuarantinedCommit
from gitsyncd.model.units import rfc3339
from gitsyncd.model.update import Author, MergeRequest, Proposal, Tip, Update

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gitsyncd.engine.facts import Gatherer
    from gitsyncd.engine.ports import Clock, FileEditor, Log, MergeRequests, Writer
    from gitsyncd.engine.target_loop import TargetLoop
    from gitsyncd.model.history import History

TRAILER = "Gitsyncd-Rollback"
_FEWEST_DIGITS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """From which commit to which, and what is kept from coming back."""

    target: str
    path: str
    source: str
    branch: str
    start: str
    end: str
    images: tuple[Quarantined, ...]
    """Images of the start that the end does not have."""

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
        }


class Rollback:
    """Writes such commits, with the credentials of an update of the same source, or else of the source itself."""

    def __init__(
        self,
        gatherers: Mapping[str, Gatherer],
        updates: Callable[[], Sequence[Update]],
        writer: Callable[[Update], Writer],
        requests: Callable[[Update], MergeRequests | None],
        editor: FileEditor,
        *,
        clock: Clock,
        log: Log,
        pushed: Callable[[Update], None],
    ) -> None:
        self._gatherers = gatherers
        self._updates = updates
        self._writer = writer
        self._requests = requests
        self._editor = editor
        self._clock = clock
        self._log = log
        self._pushed = pushed

    async def way(self, loop: TargetLoop, to: str, history: History) -> Way:
        """What a rollback would do; `to` names a commit, or (empty) the last good one.

        Raises `UsageError`, `SourceError`.
        """
        if loop.track.admitted is None:
            raise UsageError(
                f"{loop.target.id} has no revision yet: there is nothing to go back from",
                hint="See what it waits for: gitsyncd status",
            )
        start = loop.track.admitted.commit
        if to:
            end = await self._end(loop, start, to, history)
        else:
            found = last_good(history, await self._content(loop, start))
            if found is None:
                raise UsageError(
                    f"no other revision of {loop.target.id} is known to have been in sync and healthy",
                    hint=f"Name one: gitsyncd rollback {loop.target.id} --to COMMIT",
                )
            end = found
        source = loop.track.source
        return Way(
            target=loop.target.id,
            path=loop.target.path,
            source=source.name,
            branch=source.branch,
            start=start,
            end=end,
            images=await self._images(loop, start, end),
        )

    async def _end(self, loop: TargetLoop, start: str, to: str, history: History) -> str:
        """The whole id of a commit of the branch; the first digits are enough for one of the history.

        Raises `UsageError`.
        """
        mirror, source = loop.track.mirror, loop.track.source
        if len(to) < _FEWEST_DIGITS:
            raise UsageError(f"{to!r} is too short for a commit", hint="Write at least seven digits of its id.")
        known = {passage.commit for passage in history.passages if passage.commit.startswith(to)}
        try:
            revision = await mirror.revision(source.name, source.branch, known.pop() if len(known) == 1 else to)
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

    async def _content(self, loop: TargetLoop, commit: str) -> str:
        """The identity of what a commit wants; empty for one that cannot be read: it is none of the good ones."""
        try:
            return identity((await self._gatherers[loop.target.id].at(commit)).manifests.values())
        except RenderError:
            return ""

    async def _images(self, loop: TargetLoop, start: str, end: str) -> tuple[Quarantined, ...]:
        """What the start runs and the end does not. What cannot be rendered has no images to speak of."""
        gatherer = self._gatherers[loop.target.id]
        try:
            before = {found.image for found in images_of((await gatherer.at(start)).manifests.values())}
            after = {found.image for found in images_of((await gatherer.at(end)).manifests.values())}
        except (RenderError, ClusterError):
            return ()
        found = []
        for image in sorted(before - after):
            try:
                named = reference(image)
            except ValueError:
                continue
            if named.tag or named.digest:
                found.append(Quarantined(image=named.name, tag=named.tag, digest=named.digest))
        return tuple(found)

    async def commit(self, loop: TargetLoop, way: Way, reason: str, *, by_request: bool = False) -> dict[str, Any]:
        """Write it and push it, or (`by_request`) push it to a branch of its own and ask for it to be merged.

        Raises `SourceError`, `ForgeError`: it was not pushed, or not asked for. `UsageError` where nobody can be asked.
        """
        update = self._update(loop)
        requests = self._requests(update) if by_request else None
        if by_request and requests is None:
            raise UsageError(
                f"no update of source {way.source} has a pull_request",
                hint="Leave --pull-request out, or give an update of that source `push` and `pull_request`.",
            )
        apart = f"gitsyncd-rollback-{way.target.replace('@', '-')}" if by_request else ""
        now = rfc3339(self._clock.now())
        images = [replace(entry, reason=reason, since=now, commit=way.start) for entry in way.images]
        commits = [QuarantinedCommit(commit=way.start, reason=reason, since=now)]

        def propose(tip: Tip) -> Proposal:
            content = tip.files.get(QUARANTINE_FILE, b"")
            listed = self._editor.with_quarantined(QUARANTINE_FILE, content, images=images, commits=commits)
            return Proposal(
                message=_message(way, reason), files={QUARANTINE_FILE: listed}, restored={way.path: way.end}
            )

        writer = self._writer(update)
        try:
            written = await writer.write(propose, branch=way.branch, onto=apart, paths=[QUARANTINE_FILE])
        except SourceUnreachable as error:
            raise SourceUnreachable(
                f"the rollback could not be pushed: {error.message}",
                hint="Until the remote answers, the cluster can be kept as it is by hand: "
                f"gitsyncd suspend {way.target} --for 1h --reason rollback",
            ) from error
        finally:
            await writer.close()
        if written is None and not by_request:
            raise SourceError(
                f"{way.branch} has the content of {way.end[:12]} under {way.path or '/'} already",
                hint=f"Look at it now: gitsyncd sync {way.target}",
            )
        url = await requests.ensure(_request(way, reason, apart, update)) if requests is not None else ""
        if written is None:
            return {**way.as_json(), "commit": None, "pull_request": url}
        self._log.warning(
            "rollback committed",
            target=way.target,
            **{"from": way.start},
            to=way.end,
            commit=written.commit,
            quarantined=[str_of(entry) for entry in way.images],
        )
        self._pushed(update)
        return {**way.as_json(), "commit": written.commit, "pull_request": url or None}

    def _update(self, loop: TargetLoop) -> Update:
        source = loop.track.source
        for update in self._updates():
            if update.source == source.name:
                return replace(update, branch=source.branch)
        return Update(
            name=f"rollback-{source.name}",
            source=source.name,
            repository=source.repository,
            branch=source.branch,
            timeout=source.timeout,
            author=Author(name="gitsyncd", email="gitsyncd@localhost"),
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
    return "\n".join([*lines, "", f"{TRAILER}: {way.start} -> {way.end}"])
