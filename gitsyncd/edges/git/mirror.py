"""`GitMirror`: one repository's mirror, as the engine sees it (`gitsyncd.engine.ports.Mirror`).

Here the parts meet: who is asked (`http`, `ssh`, `local`), what runs in a child (`fetch`), whose turn it is
(`directory`), and what is read (`store`, `history`, `tree`). A warm poll ends after the answer of the server: no lock,
no child, no open file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from gitsyncd.edges.child.command import Limits, python_module
from gitsyncd.edges.child.process import ChildAhead, ChildResult, Ending, started_ahead
from gitsyncd.edges.git import history, local, tree
from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.directory import MirrorDirectory, local_error, private
from gitsyncd.edges.git.format import COMMIT, Commit
from gitsyncd.edges.git.http import HttpRemote
from gitsyncd.edges.git.remote import Remote
from gitsyncd.edges.git.ssh import SshRemote
from gitsyncd.edges.git.store import IndexChecks, ObjectMissing, ObjectStore
from gitsyncd.model.address import is_ssh, redacted
from gitsyncd.model.errors import (
    ConfigError,
    LocalError,
    MirrorDamaged,
    SourceError,
    SourceTooLarge,
    SourceUnreachable,
)
from gitsyncd.model.source import Repository, Revision, Snapshot
from gitsyncd.model.units import format_duration

_T = TypeVar("_T")

_HAVES = 64
_TOUCHING = 10
_WRITE_BYTES = 1 << 20
_LARGEST_FILE = 1 << 50
"""A join writes as much as there is; a pack has a cap of its own."""
_FETCH_ADDRESS_SPACE = 1 << 40
"""Mapped files count as well, so the child sets its own limit once it knows their sizes."""
_POISON_FIRST = timedelta(minutes=1)
_POISON_LAST = timedelta(hours=1)
_BAD_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|/\.|[/.]$|\.lock(/|$)")
"""What git-check-ref-format refuses, and a leading dash."""


@dataclass(slots=True)
class _Poison:
    """A commit that cannot be fetched, and until when it is not tried again."""

    error: SourceTooLarge
    until: float
    delay: timedelta


class GitMirror:
    """The mirror of one repository in one directory. Any number of readers; updates take turns."""

    def __init__(
        self,
        directory: Path,
        repository: Repository,
        timeout: timedelta,
        *,
        agent: str,
        caps: Caps | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout` is for one whole update, `agent` such as `gitsyncd/1.0`, `clock` counts seconds and never jumps.

        Nothing is opened or asked yet. Raises `ConfigError` for a URL that cannot be asked.
        """
        self._directory = MirrorDirectory(directory)
        self._timeout = timeout
        self._caps = caps or Caps()
        self._clock = clock
        self._turn = asyncio.Lock()
        self._checked: IndexChecks = set()
        self._settled: tuple[Mapping[str, str | None], tuple[int, ...]] | None = None
        """The last answer, and the state of the packs in which nothing of it was missing."""
        self._poison: dict[str, _Poison] = {}
        self._died_of = ""
        self._remote: Remote | None = None
        self._local: Path | None = None
        if repository.url.startswith("file:"):
            self._local = local.path_of(repository.url)
        else:
            kind = SshRemote if is_ssh(repository.url) else HttpRemote
            self._remote = kind(repository, agent=agent, caps=self._caps)
        self._shown = redacted(repository.url)

    async def close(self) -> None:
        """Close connections. The mirror on disk stays."""
        if self._remote is not None:
            await self._remote.close()

    async def update(self, branches: Sequence[str]) -> Mapping[str, str | None]:
        """Ask the remote once for these branches and fetch what is missing. Branch to commit; None for one not there.

        One conversation; a fetch is one more request in it. When one of several branches holds something above a cap,
        `SourceTooLarge` is raised for all of them, and the others can still be asked for without it. A commit that was
        too large is not fetched again before a while has passed (a minute, doubling up to an hour).
        Raises `SourceError`, `LocalError`, `ConfigError`. A call that raises changes nothing.
        """
        for branch in branches:
            if _BAD_BRANCH.search(branch) or not branch:
                raise ConfigError(f"{branch!r} is not the name of a branch")
        if not branches:
            return {}
        try:
            async with asyncio.timeout(self._timeout.total_seconds()), self._turn:
                return await self._update(tuple(dict.fromkeys(branches)))
        except TimeoutError as error:
            raise SourceUnreachable(
                f"{self._shown}: no complete answer within {format_duration(self._timeout)}",
                hint="If the repository is large or the line slow, give the source a longer `timeout`.",
            ) from error

    async def revision(self, source: str, branch: str, commit: str) -> Revision:
        """The facts of a commit that the mirror holds; the first digits of its id are enough where no other has them.

        Raises `RevisionNotFound`, `MirrorDamaged`.
        """

        def look(store: ObjectStore) -> tuple[str, Commit]:
            name = history.whole_id(store, commit)
            return name, history.read_commit(store, name)

        name, found = await self.read(look)
        return Revision(
            source=source,
            branch=branch,
            commit=name,
            committed_at=found.committed_at,
            approvals=history.approvals(found.message),
        )

    async def descends(self, commit: str, ancestor: str) -> bool:
        """Whether `ancestor` is reachable from `commit` (or is it). False when the mirror does not know `ancestor`.

        Raises `RevisionNotFound` for an unknown `commit`, `MirrorDamaged`.
        """
        return await self.read(lambda store: history.descends(store, commit, ancestor))

    async def tree_id(self, commit: str, path: str) -> str:
        """Identity of the files below `path`: equal ids, equal files. Reads no file.

        Raises `RevisionNotFound` for a missing path, `MirrorDamaged`.
        """
        return (await self.read(lambda store: tree.locate(store, self._caps, commit, path))).id

    async def touching(self, path: str, commit: str, *, since: str | None = None) -> Sequence[str]:
        """Commits that `commit` has and `since` has not, and that changed what is below `path`; the newest first.

        Without `since` it is about that one commit alone. The first of many are enough to say who it was.
        Raises `RevisionNotFound`, `MirrorDamaged`.
        """
        return await self.read(
            lambda store: tree.touching(store, self._caps, path, commit, since=since, most=_TOUCHING)
        )

    async def snapshot(self, commit: str, path: str) -> Snapshot:
        """The manifest files below `path` (`*.yaml`, `*.yml`, `*.json`, `Kustomization`), read and verified, by path.

        Other files are not read; names, links and modes of all of them are checked. A path that names a file gives that
        file. Raises `RevisionNotFound`, `SourceTooLarge`, `MirrorDamaged`, `ManifestInvalid`.
        """
        return await self.read(lambda store: tree.snapshot(store, self._caps, commit, path))

    async def read(self, work: Callable[[ObjectStore], _T]) -> _T:
        """Do it in a thread with the mirror open; set the mirror aside when it turns out to be damaged.

        Raises `MirrorDamaged`, and what `work` raises.
        """
        state = self._directory.state()
        try:
            return await asyncio.to_thread(self._with_store, work)
        except MirrorDamaged:
            # When another process keeps it busy, the next one to meet the damage sets it aside.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout.total_seconds()), self._directory.turn():
                    await asyncio.to_thread(self._set_aside, state)
            raise

    def _with_store(self, work: Callable[[ObjectStore], _T]) -> _T:
        with ObjectStore(self._directory, self._checked) as store:
            return work(store)

    def _set_aside(self, state: tuple[int, ...]) -> None:
        self._checked.clear()
        self._settled = None
        if self._directory.set_aside(state):
            self._directory.prepare()

    async def _update(self, branches: tuple[str, ...]) -> Mapping[str, str | None]:
        source: Path | None = None
        if self._remote is not None:
            found = await self._remote.heads(branches)
        else:
            assert self._local is not None
            repository = await asyncio.to_thread(local.find, self._local)
            found = await asyncio.to_thread(local.heads, repository, branches)
            source = repository.objects
        heads = {branch: found.get(branch) for branch in branches}
        if self._settled == (heads, self._directory.state()):
            return heads
        for commit in found.values():
            self._refuse_poison(commit)
        async with self._directory.turn():
            state = self._directory.state()
            try:
                await self._bring_in(sorted(set(found.values())), source)
            except MirrorDamaged:
                await asyncio.to_thread(self._set_aside, state)
                raise
            await asyncio.to_thread(self._remember, found)
            self._settled = (heads, self._directory.state())
        self._poison = {commit: poison for commit, poison in self._poison.items() if commit in found.values()}
        return heads

    def _remember(self, found: Mapping[str, str]) -> None:
        """Write the heads down, if they say something new. A branch that is gone keeps its last commit."""
        before = self._directory.heads()
        after = {**before, **found}
        if after != before:
            self._directory.write_heads(after)

    async def _bring_in(self, wanted: list[str], source: Path | None) -> None:
        """Fetch what the mirror lacks. In a turn."""
        state = self._directory.state()
        try:
            missing, haves = await asyncio.to_thread(self._compare, wanted)
        except MirrorDamaged:
            # Found before anything was read from it: the same update clones it afresh.
            await asyncio.to_thread(self._set_aside, state)
            missing, haves = wanted, []
        if not missing:
            return
        try:
            await self._fetch(missing, haves, source)
        except SourceTooLarge as error:
            await self._isolate(missing, haves, source, error)
        await asyncio.to_thread(self._verify, missing)
        await self._join_packs()

    async def _isolate(self, missing: list[str], haves: list[str], source: Path | None, error: SourceTooLarge) -> None:
        """Find the commit that is to blame, so that the others are had. Raises what was wrong."""
        if len(missing) == 1:
            self._note_poison(missing[0], error)
            raise error
        failure = error
        for commit in missing:
            try:
                self._refuse_poison(commit)
                await self._fetch([commit], haves, source)
            except SourceTooLarge as own:
                self._note_poison(commit, own)
                failure = own
        raise failure

    def _refuse_poison(self, commit: str) -> None:
        poison = self._poison.get(commit)
        if poison is not None and self._clock() < poison.until:
            wait = format_duration(timedelta(seconds=round(poison.until - self._clock()) or 1))
            raise SourceTooLarge(f"{poison.error.message} (looked at again in {wait})", hint=poison.error.hint)

    def _note_poison(self, commit: str, error: SourceTooLarge) -> None:
        before = self._poison.get(commit)
        delay = min(before.delay * 2, _POISON_LAST) if before else _POISON_FIRST
        self._poison[commit] = _Poison(error=error, until=self._clock() + delay.total_seconds(), delay=delay)

    def _compare(self, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
        """Which of the commits the mirror lacks, and what it has to tell the server instead."""
        with ObjectStore(self._directory, self._checked) as store:
            missing = [commit for commit in wanted if commit not in store]
            if missing:
                store.check_indexes(again=True)
            known = sorted(set(self._directory.heads().values()) | (set(wanted) - set(missing)))
            return missing, history.recent(store, known, _HAVES) if missing else []

    def _verify(self, wanted: Sequence[str]) -> None:
        """Everything that came is complete (the child saw to it); that it is what was asked for is seen here."""
        with ObjectStore(self._directory, self._checked) as store:
            for commit in wanted:
                try:
                    kind, _ = store.find(commit)
                except ObjectMissing as error:
                    raise SourceUnreachable(f"{self._shown} sent a pack without commit {commit}") from error
                if kind != COMMIT:
                    raise SourceUnreachable(f"{self._shown} names {commit} as a head, which is no commit")

    async def _fetch(self, wants: Sequence[str], haves: Sequence[str], source: Path | None) -> None:
        """One pack: download, ingest in a child, admit."""
        # A name of its own: a thread of a cancelled update may still be writing to the one before.
        pack = self._directory.incoming / f"{secrets.token_hex(4)}.pack"
        request = {"task": "fetch", "source": str(source) if source else "", "wants": list(wants)}
        try:
            async with self._child() as child:
                if source is None:
                    await self._download(wants, haves, pack)
                await self._in_child(child, request, pack, self._directory.pack_names())
        finally:
            self._directory.clear_incoming()

    async def _download(self, wants: Sequence[str], haves: Sequence[str], pack: Path) -> None:
        assert self._remote is not None
        buffer = bytearray()

        def append(data: bytes) -> None:
            try:
                with open(pack, "ab", opener=private) as file:
                    file.write(data)
            except OSError as error:
                raise local_error(f"what {self._shown} sent cannot be written to {pack.parent}", error) from error

        async def write(piece: bytes) -> None:
            buffer.extend(piece)
            if len(buffer) >= _WRITE_BYTES:
                data = bytes(buffer)
                buffer.clear()
                await asyncio.to_thread(append, data)

        await self._remote.download(wants, haves, write)
        await asyncio.to_thread(append, bytes(buffer))

    async def _join_packs(self) -> None:
        names = self._directory.pack_names()
        if len(names) <= self._caps.packs:
            return
        joined = self._directory.incoming / f"{secrets.token_hex(4)}.pack"
        try:
            async with self._child() as child:
                await self._in_child(child, {"task": "join", "source": "", "wants": []}, joined, names)
        except (SourceTooLarge, LocalError):
            return  # what was fetched is there; too many packs cost speed alone, and the next fetch tries again
        finally:
            self._directory.clear_incoming()
        await asyncio.to_thread(self._directory.retire, names)

    def _child(self) -> contextlib.AbstractAsyncContextManager[ChildAhead]:
        """What takes packs in. It starts while they are downloaded."""
        return started_ahead(
            python_module("gitsyncd.edges.git.fetch"),
            limits=Limits(
                memory_bytes=_FETCH_ADDRESS_SPACE,
                cpu_seconds=round(self._timeout.total_seconds()) + 2,  # behind the deadline, which says what it was
                file_bytes=_LARGEST_FILE,
                open_files=4096,
            ),
            max_output=1 << 16,
        )

    async def _in_child(
        self, child: ChildAhead, request: Mapping[str, object], pack: Path, mirror: Sequence[str]
    ) -> None:
        """Let the child make a verified pack and index, and admit them. Raises what the child says."""
        index = pack.with_suffix(".idx")
        bases = [self._directory.packs / name for name in mirror]
        files = {"pack": str(pack), "index": str(index), "mirror": [str(base) for base in bases]}
        asked = json.dumps({**request, **files, "caps": asdict(self._caps)}).encode()
        result = await child.run(asked, deadline=self._timeout)
        if not result.succeeded:
            raise self._blame(result, str(request["wants"]))
        self._died_of = ""
        answer = json.loads(result.stdout)
        if "refused" in answer:
            raise self._refusal(answer["refused"], answer["message"])
        await asyncio.to_thread(self._directory.admit, pack, index, answer["checksum"])

    def _blame(self, result: ChildResult, work: str) -> Exception:
        """What it means that a child ended without an answer: once is chance, twice in a row is what it was given."""
        if result.ending is Ending.TIMED_OUT:
            return TimeoutError()
        again, self._died_of = self._died_of == work, work
        message = f"{self._shown}: the process that takes in what was fetched ended with {result}"
        return SourceTooLarge(f"{message}, twice") if again else SourceUnreachable(message)

    def _refusal(self, kind: str, message: str) -> SourceError | LocalError:
        if kind == "large":
            return SourceTooLarge(
                f"{self._shown}: {message}",
                hint="Take it out of the branch's history (`git rev-list --objects BRANCH` names the file of an id), "
                "or use a repository of manifests alone.",
            )
        if kind == "disk":
            return LocalError(
                f"a fetch of {self._shown} cannot be kept in {self._directory.root}: {message}",
                hint="Check disk space and permissions of `agent.state_dir`.",
            )
        if kind == "damaged":
            return MirrorDamaged(f"the mirror {self._directory.root} is damaged: {message}")
        return SourceUnreachable(f"{self._shown}: {message}")
