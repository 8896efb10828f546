"""`GitWriter`: commits on branches of one repository, as the engine sees it (`gitsyncd.engine.ports.Writer`).

One round: ask for the tip, let somebody say what to change on it, make the commit, ask the remote to move the branch
from that tip to it. The remote compares and swaps, so that whoever was faster is seen, and nothing is ever forced: a
lost round is begun again on the new tip. What a commit consists of is `compose`; how a push travels is the transports'.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from gitsyncd.model.address import is_ssh, redacted
from gitsyncd.model.errors import PushContended, RevisionNotFound, SourceUnreachable
from gitsyncd.model.image import QUARANTINE_FILE
from gitsyncd.model.source import Repository
from gitsyncd.model.update import Author, Proposal, SigningKey, Tip, Written

ATTEMPTS = 10
_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 3.0
_OWN_TRAILER = "\nGitsyncd-"
_MOST_AHEAD = 1000
"""Commits of a branch of its own that are looked at: whether somebody else wrote there."""


class _Remote(Protocol):
    async def push(self, move: Move, pack: bytes) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What a commit stands on."""

    base: str
    """Whose tree is changed."""
    parents: tuple[str, ...]
    move_from: str
    """What the pushed branch has now; empty for nothing."""


class GitWriter:
    """One repository. Calls take turns."""

    def __init__(
        self,
        mirror: GitMirror,
        repository: Repository,
        timeout: timedelta,
        *,
        agent: str,
        author: Author,
        signing: SigningKey | None = None,
        caps: Caps | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`mirror` is this writer's own, of the same repository. Raises `ConfigError` for a URL that none can ask."""
        self._mirror = mirror
        self._timeout = timeout
        self._author = author
        self._signing = signing
        self._caps = caps or Caps()
        self._now = now
        self._shown = redacted(repository.url)
        self._turn = asyncio.Lock()
        self._unsure: Written | None = None
        """A push of which nobody knows whether it arrived."""
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
    ) -> Written | None:
        """See the port. Raises `SourceError`, `LocalError`, `ConfigError`, and what `propose` raises."""
        async with self._turn:
            said = ""
            for attempt in range(1, ATTEMPTS + 1):
                heads = await self._mirror.update([branch, onto] if onto else [branch])
                if (written := await self._arrived(heads)) is not None:
                    return written
                tip = heads[branch]
                if tip is None:
                    raise RevisionNotFound(
                        f"{self._shown} has no branch {branch}", hint="Push it, or name another one."
                    )
                if tip == unless:
                    return None
                ground, draft = await self._mirror.read(
                    partial(
                        self._draft, tip=tip, ahead=heads.get(onto), propose=propose, paths=paths, is_apart=bool(onto)
                    )
                )
                if draft is None:
                    return None
                written = Written(
                    commit=draft.commit, branch=onto or branch, parent=ground.parents[0], attempts=attempt
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
        self._unsure = written
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
            self._unsure = None
            raise
        self._unsure = None

    async def _arrived(self, heads: Mapping[str, str | None]) -> Written | None:
        """What was pushed before, if it turns out that it did arrive."""
        unsure, self._unsure = self._unsure, None
        if unsure is None:
            return None
        head = heads.get(unsure.branch)
        return unsure if head is not None and await self._mirror.descends(head, unsure.commit) else None

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
    ) -> tuple[_Ground, Draft | None]:
        ground = self._ground(store, tip, ahead) if is_apart else _Ground(base=tip, parents=(tip,), move_from=tip)
        files = readable_files(store, self._caps, ground.base, paths)
        if paths:
            files |= readable_files(store, self._caps, ground.base, [QUARANTINE_FILE])
        proposal = propose(Tip(commit=ground.base, files=files))
        if proposal is None:
            return ground, None
        return ground, compose(
            store,
            self._caps,
            proposal,
            base=ground.base,
            parents=ground.parents,
            author=self._author,
            now=self._now(),
            sign=self._sign if self._signing is not None else None,
        )

    def _ground(self, store: ObjectStore, tip: str, ahead: str | None) -> _Ground:
        """Of a branch of its own: the followed branch's tip, unless people wrote there."""
        if ahead is None:
            return _Ground(base=tip, parents=(tip,), move_from="")
        if history.descends(store, tip, ahead):
            return _Ground(base=tip, parents=(tip,), move_from=ahead)
        if not self._is_ours(store, tip, ahead):
            return _Ground(base=ahead, parents=(ahead,), move_from=ahead)
        parents = (ahead,) if history.descends(store, ahead, tip) else (ahead, tip)
        return _Ground(base=tip, parents=parents, move_from=ahead)

    def _is_ours(self, store: ObjectStore, tip: str, ahead: str) -> bool:
        """Whether all that `ahead` has beyond the tip was written by this hand."""
        queue, seen = [ahead], {ahead}
        while queue:
            commit = queue.pop()
            if history.descends(store, tip, commit):
                continue
            found = history.read_commit(store, commit)
            if found.committer != self._author.email or _OWN_TRAILER not in found.message or len(seen) > _MOST_AHEAD:
                return False
            queue += [parent for parent in found.parents if parent not in seen]
            seen.update(found.parents)
        return True

    def _sign(self, payload: bytes) -> bytes:
        assert self._signing is not None
        return signature(payload, self._signing, shown=self._shown, now=self._now())


def _pause_s(attempt: int) -> float:
    """Longer each time and never the same, so that many do not meet again."""
    return random.uniform(0.0, min(_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S))
