"""`GitWriter`: commits on branches of one repository, as the engine sees it (`gitsyncd.engine.ports.Writer`).

One round: ask for the tip, let somebody say what to change on it, make the commit, ask the remote to move the branch
from that tip to it. The remote compares and swaps, so that whoever was faster is seen, and nothing is ever forced: a
lost round is begun again on the new tip. What a commit consists of is `compose`; how a push travels is the transports'.

Each commit has a trailer that says whose it is: `Gitsyncd-Update: <agent>/<update>`. By it, and by its committer, a
commit on a branch of its own is known again as one that may be replaced. All others are somebody else's.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

from gitsyncd.edges.git import history, local
from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.compose import Draft, compose, readable_files
from gitsyncd.edges.git.http import HttpRemote
from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.edges.git.receive import LocalRemote
from gitsyncd.edges.git.remote import LostRace, Move
from gitsyncd.edges.git.sign import signature
from gitsyncd.edges.git.ssh import SshRemote
from gitsyncd.edges.git.store import ObjectStore
from gitsyncd.edges.git.tree import identity
from gitsyncd.model.address import is_ssh, redacted
from gitsyncd.model.errors import PushContended, RevisionNotFound, SourceUnreachable
from gitsyncd.model.image import QUARANTINE_FILE, ImageChange
from gitsyncd.model.immutable import immutable
from gitsyncd.model.source import Repository
from gitsyncd.model.update import Author, Proposal, SigningKey, Tip, Written

ATTEMPTS = 10
_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 3.0
_OWN_TRAILER = "Gitsyncd-Update"
_MOST_UNSURE = 16
"""Pushes at a time of which nobody knows whether they arrived."""


class _Remote(Protocol):
    async def push(self, move: Move, pack: bytes) -> None: ...

    async def close(self) -> None: ...


@immutable
class _Ground:
    """What a commit stands on."""

    base: str
    """Whose tree is changed."""
    parents: tuple[str, ...]
    move_from: str
    """What the pushed branch has now; empty for nothing."""
    others: str = ""
    """A commit of the pushed branch that is somebody else's."""
    made_from: str = ""
    """The commit of the followed branch from which the pushed one was last made anew; empty where it has no more."""


@immutable(kw_only=False)
class _Unsure:
    """A push of which nobody knows whether it arrived, and what its branch had before."""

    written: Written
    before: str


class GitWriter:
    """One repository. Calls take turns."""

    def __init__(
        self,
        mirror: GitMirror,
        repository: Repository,
        timeout: timedelta,
        *,
        agent: str,
        name: str,
        author: Author,
        signing: SigningKey | None = None,
        caps: Caps | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`mirror` is this writer's own, of the same repository. `name` is what its commits are known by.

        Raises `ConfigError` for a URL that none can ask.
        """
        self._mirror = mirror
        self._name = name
        self._timeout = timeout
        self._author = author
        self._signing = signing
        self._caps = caps or Caps()
        self._now = now
        self._shown = redacted(repository.url)
        self._turn = asyncio.Lock()
        self._unsure: deque[_Unsure] = deque(maxlen=_MOST_UNSURE)
        self._last_ground: tuple[tuple[str, str], _Ground] | None = None
        """Of a branch of its own, by the commits of both branches."""
        self._remote: _Remote
        if repository.url.startswith("file:"):
            path = local.path_of(repository.url)
            self._remote = LocalRemote(path, shown=self._shown, agent=agent, timeout=timeout)
        else:
            kind = SshRemote if is_ssh(repository.url) else HttpRemote
            self._remote = kind(repository, agent=agent, caps=self._caps)

    async def close(self) -> None:
        await self._remote.close()
        await self._mirror.close()

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
        """See the port. Raises `SourceError`, `LocalError`, `ConfigError`, and what `propose` and `ready` raise."""
        async with self._turn:
            said = ""
            for attempt in range(1, ATTEMPTS + 1):
                asked = {branch, onto, *(unsure.written.branch for unsure in self._unsure)} - {""}
                heads = await self._mirror.update(sorted(asked))
                if (written := await self._arrived(heads)) is not None:
                    return written
                tip = heads[branch]
                if tip is None:
                    raise RevisionNotFound(
                        f"{self._shown} has no branch {branch}", hint="Push it, or name another one."
                    )
                if tip == unless:
                    return None
                ground, draft, changes = await self._mirror.read(
                    partial(
                        self._draft, tip=tip, ahead=heads.get(onto), propose=propose, paths=paths, is_apart=bool(onto)
                    )
                )
                if draft is None or not ready():
                    return None
                written = Written(
                    commit=draft.commit,
                    branch=onto or branch,
                    parent=ground.parents[0],
                    attempts=attempt,
                    changes=changes,
                )
                try:
                    await self._push(
                        Move(branch=written.branch, old=ground.move_from, new=draft.commit), draft, written
                    )
                except LostRace as lost:
                    said = str(lost)
                    await asyncio.sleep(_pause_s(attempt))
                else:
                    return written
        raise PushContended(f"{self._shown}: others were faster on {onto or branch}, {ATTEMPTS} times ({said})")

    async def _push(self, move: Move, draft: Draft, written: Written) -> None:
        """Raises `LostRace`, `SourceError`. Not knowing is remembered, and found out at the next look."""
        unsure = _Unsure(written, move.old)
        self._unsure.append(unsure)
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                await self._remote.push(move, draft.pack)
        except TimeoutError as error:
            raise SourceUnreachable(
                f"{self._shown}: the push was not over in time", hint="Give the source a longer `timeout`."
            ) from error
        except SourceUnreachable:
            raise
        except Exception:
            self._unsure.remove(unsure)
            raise
        # Whatever else was on its way to this branch has lost to it.
        for other in [other for other in self._unsure if other.written.branch == written.branch]:
            self._unsure.remove(other)

    async def _arrived(self, heads: Mapping[str, str | None]) -> Written | None:
        """What was pushed before, if it turns out that it did arrive.

        As long as its branch has not moved it may still do so: a server goes on with what it has taken.
        """
        for unsure in tuple(self._unsure):
            head = heads[unsure.written.branch] or ""
            if head == unsure.before:
                continue
            has_arrived = bool(head) and await self._mirror.descends(head, unsure.written.commit)
            self._unsure.remove(unsure)
            if has_arrived:
                return replace(unsure.written, late=True)
        return None

    # --- In a thread, with the mirror open -----------------------------------------------------------------------

    def _draft(
        self,
        store: ObjectStore,
        *,
        tip: str,
        ahead: str | None,
        propose: Callable[[Tip], Proposal | None],
        paths: Sequence[str],
        is_apart: bool,
    ) -> tuple[_Ground, Draft | None, Sequence[ImageChange]]:
        ground = self._ground(store, tip, ahead) if is_apart else _Ground(base=tip, parents=(tip,), move_from=tip)
        files = readable_files(store, self._caps, ground.base, paths)
        if paths:
            files |= readable_files(store, self._caps, ground.base, [QUARANTINE_FILE])
        proposal = propose(Tip(commit=ground.base, files=files, others=ground.others))
        if proposal is None or self._is_there(store, ground, proposal):
            return ground, None, ()
        draft = compose(
            store,
            self._caps,
            replace(proposal, message=history.with_trailer(proposal.message, _OWN_TRAILER, self._name)),
            base=ground.base,
            parents=ground.parents,
            author=self._author,
            now=self._now(),
            sign=self._sign if self._signing is not None else None,
        )
        return ground, draft, proposal.changes

    def _ground(self, store: ObjectStore, tip: str, ahead: str | None) -> _Ground:
        """Of a branch of its own: the followed branch's tip, unless others wrote there."""
        if ahead is None:
            return _Ground(base=tip, parents=(tip,), move_from="")
        # It takes a walk of the whole history, and is asked for at each look as long as nobody has merged the branch.
        if self._last_ground is None or self._last_ground[0] != (tip, ahead):
            self._last_ground = (tip, ahead), self._ground_ahead(store, tip, ahead)
        return self._last_ground[1]

    def _ground_ahead(self, store: ObjectStore, tip: str, ahead: str) -> _Ground:
        own = dict(history.beyond(store, ahead, tip))
        if not own:
            return _Ground(base=tip, parents=(tip,), move_from=ahead)
        if others := self._others(store, own):
            return _Ground(base=ahead, parents=(ahead,), move_from=ahead, others=others)
        has_tip = any(tip in parents for parents in own.values())
        return _Ground(
            base=tip,
            parents=(ahead,) if has_tip else (ahead, tip),
            move_from=ahead,
            made_from=_made_from(own, ahead),
        )

    def _is_there(self, store: ObjectStore, ground: _Ground, proposal: Proposal) -> bool:
        """Whether the pushed branch has that and no more, and can be merged: that others move on is no news for it."""
        if not ground.made_from or proposal.restored:
            return False
        for path in proposal.files:
            if identity(store, self._caps, ground.made_from, path) != identity(store, self._caps, ground.base, path):
                return False
        return (
            compose(
                store,
                self._caps,
                proposal,
                base=ground.made_from,
                parents=(ground.move_from,),
                author=self._author,
                now=self._now(),
                sign=None,
            )
            is None
        )

    def _others(self, store: ObjectStore, commits: Iterable[str]) -> str:
        """One of these that was not written by this hand; empty for none."""
        for commit in commits:
            found = history.read_commit(store, commit)
            names = history.trailers(found.message, _OWN_TRAILER)
            if found.committer != self._author.email or self._name not in names:
                return commit
        return ""

    def _sign(self, payload: bytes) -> bytes:
        assert self._signing is not None
        return signature(payload, self._signing, shown=self._shown, now=self._now())


def _made_from(own: Mapping[str, Sequence[str]], ahead: str) -> str:
    """The first commit that is not of the branch's own, from its head on."""
    commit = ahead
    while parents := own.get(commit):
        if outside := [parent for parent in parents if parent not in own]:
            return outside[-1]
        commit = parents[0]
    return ""


def _pause_s(attempt: int) -> float:
    """Longer each time and never the same, so that many do not meet again."""
    return random.uniform(0.0, min(_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S))
