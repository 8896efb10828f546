"""`plan`, `diff` and `rbac` as one pass: parts built, remotes and clusters asked once, nothing written, all closed."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gitsyncd.core.ledger import inherited
from gitsyncd.core.rbac import Wants
from gitsyncd.edges.git.folder import read_folder
from gitsyncd.edges.store import FileStore, MemoryStore
from gitsyncd.engine.preview import Preview
from gitsyncd.engine.rights import Rights
from gitsyncd.engine.source_loop import Track
from gitsyncd.engine.status import choose
from gitsyncd.engine.target_loop import TargetLoop
from gitsyncd.engine.tenure import Roster
from gitsyncd.model.errors import ClusterDenied, ConfigError, GitsyncdError, RevisionNotFound, SourceError, UsageError
from gitsyncd.model.immutable import immutable
from gitsyncd.model.inventory import Inventory
from gitsyncd.model.source import Revision
from gitsyncd.wiring import Fleet, Silence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from gitsyncd.engine.cluster_view import ClusterView
    from gitsyncd.model.rights import Scope, Subject
    from gitsyncd.model.target import Configuration


async def preview(
    configuration: Configuration, names: Sequence[str], *, ref: str | None, directory: Path | None, fields: bool
) -> dict[str, Any]:
    """What turns would do now: the JSON of `plan` and `diff`, and under `errors` what could not be told.

    Writes nothing.

    Raises `UsageError` for a target that is not in the agent file.
    """
    store = MemoryStore(FileStore(configuration.agent.state_dir))
    fleet = Fleet(configuration, log=Silence(), store=store)
    await fleet.adopt(configuration)
    for view in fleet.views.values():
        view.read_only = True
    try:
        chosen = choose(fleet.targets, names) if names else fleet.targets
        failed = await _prepare(fleet, chosen, ref)
        if directory is not None:
            for loop in chosen:
                await _pin(fleet, loop, directory, failed)
        for loop in fleet.targets:
            old = loop.view.heritage(loop.target)
            if old is not None:  # as its next turn will do it for good
                own = loop.view.inventories.get(loop.target.name, Inventory(target=loop.target.id))
                loop.view.inventories[loop.target.name] = inherited(own, old)
        await asyncio.gather(*(_claim(fleet, loop, failed) for loop in fleet.targets))
        shown, errors = [], []
        for loop in chosen:
            try:
                if loop.target.id in failed:
                    raise failed[loop.target.id]
                assert loop.track.admitted is not None
                gatherer = fleet.gatherers[loop.target.id]
                look = Preview(loop.target, loop.view, gatherer, loop.reconciler)
                shown.append(await look.show(loop.track.admitted, fields=fields) | {"held": _held(loop.track)})
            except GitsyncdError as error:
                error.subject = error.subject or loop.target.id
                errors.append(error)
        if ref is None and directory is None:
            errors += _unasked(loop.track for loop in chosen if loop.target.id not in failed)
        return {"targets": shown, "errors": errors}
    finally:
        await fleet.close()


def _unasked(tracks: Iterable[Track]) -> list[GitsyncdError]:
    """Remotes that gave no answer. What was planned is what the mirror holds, and may be old."""
    return [track.error for track in dict.fromkeys(tracks) if track.error is not None]


def _held(track: Track) -> dict[str, Any] | None:
    """A head that is not admitted: whoever has just pushed it should not read that there is nothing to do."""
    if not track.held or track.head is None:
        return None
    return {"source": track.source.name, "revision": track.head, "reason": track.held}


async def _prepare(fleet: Fleet, chosen: Sequence[TargetLoop], ref: str | None) -> dict[str, GitsyncdError]:
    """Ask the remotes and the clusters once; what failed, by target."""
    await asyncio.gather(*(source.look() for source in fleet.sources))
    errors: dict[str, GitsyncdError] = {}
    opened: dict[str, GitsyncdError | None] = {}
    roster = Roster(holder="")
    for name, view in fleet.views.items():
        try:
            roster.claim((await view.identify()).uid, name)
            await view.read()
        except GitsyncdError as error:
            opened[name] = error
    for loop in fleet.targets:
        try:
            if ref is not None and loop in chosen:
                await _at_ref(loop.track, ref)
        except GitsyncdError as error:
            errors[loop.target.id] = error
        missing = loop.track.admitted is None
        problem = opened.get(loop.target.cluster) or (loop.track.error if missing else None)
        if problem is not None:
            errors[loop.target.id] = problem
    return errors


async def _at_ref(track: Track, ref: str) -> None:
    """Plan another branch, or a commit that the mirror holds, in place of the source's branch."""
    branch, source = ref.removeprefix("refs/heads/"), track.source.name
    if re.fullmatch(r"[0-9a-f]{7,40}", ref):
        with suppress(RevisionNotFound):
            track.admitted = await track.mirror.revision(source, ref, ref)
            return
    try:
        commit = (await track.mirror.update([branch])).get(branch)
    except ConfigError:
        commit = None  # no branch can have that name
    if commit is None:
        raise UsageError(
            f"{ref!r} is neither a branch of source {source} nor a commit that was fetched",
            hint="Give a branch, or at least seven digits of the id of a commit on a branch that a target follows.",
        )
    track.admitted = await track.mirror.revision(source, branch, commit)


async def _pin(fleet: Fleet, loop: TargetLoop, directory: Path, failed: dict[str, GitsyncdError]) -> None:
    """Plan a local folder: the whole tree of the repository, or the target's own path."""
    if loop.target.id in failed and loop.view.resources:
        failed.pop(loop.target.id)
    if loop.target.id in failed:
        return
    gatherer = fleet.gatherers[loop.target.id]
    inner = directory / loop.target.path
    try:
        snapshot = await asyncio.to_thread(read_folder, inner if inner.is_dir() else directory, loop.target.path)
        gatherer.pin(await gatherer.settle(snapshot))
    except GitsyncdError as error:
        failed[loop.target.id] = error
    if loop.track.admitted is None:
        loop.track.admitted = Revision(
            source=loop.track.source.name, branch=str(directory), commit="0" * 40, committed_at=datetime.now(UTC)
        )


async def _claim(fleet: Fleet, loop: TargetLoop, failed: Mapping[str, GitsyncdError]) -> None:
    """Have a target say what it wants, so that the plans of the others know it."""
    if loop.target.id not in failed and loop.track.admitted is not None:
        with suppress(GitsyncdError):
            await fleet.gatherers[loop.target.id].desire(loop.track.admitted)


# --- rbac -------------------------------------------------------------------------------------------------------------

_NO_KEY = b"-"
"""In place of the key for digests of Secrets, which a credential without rights could not read: no digest is shown."""


@immutable
class RightsQuestion:
    """What is asked of `rbac` beside the names of targets."""

    scope: Scope
    ref: str | None = None
    directory: Path | None = None
    subject: Subject | None = None
    """Whom the printed roles are to be bound to; nobody when None."""


async def rights(configuration: Configuration, names: Sequence[str], question: RightsQuestion) -> dict[str, Any]:
    """What targets need on their clusters, and what the credentials have: the JSON of `rbac`, and under `errors` what
    could not be told.

    Writes nothing, and works with a credential that may do nothing yet.

    Raises `UsageError` for a target that is not in the agent file.
    """
    store = MemoryStore(FileStore(configuration.agent.state_dir))
    fleet = Fleet(configuration, log=Silence(), store=store)
    await fleet.adopt(configuration)
    try:
        chosen = choose(fleet.targets, names) if names else fleet.targets
        await asyncio.gather(*(source.look() for source in fleet.sources))
        clusters: list[dict[str, Any]] = []
        errors: list[GitsyncdError] = []
        for name, view in fleet.views.items():
            loops = [loop for loop in chosen if loop.view is view]
            try:
                if loops:
                    clusters.append(await _rights_on(fleet, view, loops, question, errors))
            except GitsyncdError as error:
                error.subject = error.subject or f"cluster {name}"
                errors.append(error)
        return {"scope": question.scope, "clusters": clusters, "errors": errors}
    finally:
        await fleet.close()


async def _rights_on(
    fleet: Fleet,
    view: ClusterView,
    chosen: Sequence[TargetLoop],
    question: RightsQuestion,
    errors: list[GitsyncdError],
) -> dict[str, Any]:
    """The answer for one cluster. All of its targets are rendered: only together they say what is too much."""
    view.read_only, view.key = True, _NO_KEY
    await view.rediscover()
    recorded = True
    try:
        view.inventories = dict(await view.api.load_inventories())
    except ClusterDenied:
        recorded = False
    wants, whole = [], True
    for loop in fleet.targets:
        if loop.view is view:
            picked = loop in chosen
            try:
                wants.append(await _wants(fleet, loop, question if picked else RightsQuestion(scope=question.scope)))
            except GitsyncdError as error:
                whole = False
                if picked:
                    error.subject = error.subject or loop.target.id
                    errors.append(error)
    names = {loop.target.name for loop in chosen}
    answer = await Rights(view, wants, scope=question.scope).report(names, whole=whole, subject=question.subject)
    return answer | {"targets": sorted({want.target.name for want in wants} & names), "recorded": recorded}


async def _wants(fleet: Fleet, loop: TargetLoop, question: RightsQuestion) -> Wants:
    gatherer, track = fleet.gatherers[loop.target.id], loop.track
    gatherer.autoscalers_stale = False  # what an autoscaler has taken from a manifest makes no difference here
    if question.ref is not None:
        await _at_ref(track, question.ref)
    failed: dict[str, GitsyncdError] = {}
    if question.directory is not None:
        await _pin(fleet, loop, question.directory, failed)
    if failed:
        raise failed[loop.target.id]
    if track.admitted is None:
        raise track.error or SourceError(f"nothing of source {track.source.name} is admitted yet")
    desired = await gatherer.desire(track.admitted)
    heritage = loop.view.heritage(loop.target)
    return Wants(target=loop.target, desired=desired, inventory=gatherer.inventory(), heritage=heritage)
