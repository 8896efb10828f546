"""A Git repository in memory, the mirror of it, and a renderer of its files: JSON, so that no child process is needed."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from gitsyncd.model.errors import ManifestInvalid, RevisionNotFound
from gitsyncd.model.manifest import Document, Origin
from gitsyncd.model.source import File, Revision, Snapshot
from tests.engine.fields import Json
from tests.engine.virtualtime import BEGIN

BROKEN = "broken"
"""In place of a list of objects: a file that cannot be read."""

Content = Mapping[str, Sequence[Json] | str]
"""Folder to the objects in it."""


@dataclass(frozen=True, slots=True)
class Commit:
    id: str
    parent: str | None
    files: Content
    trailers: tuple[str, ...] = ()


class Repo:
    """What somebody pushes to. Satisfies the port `Mirror`, too: nothing lies between the two but `faults`."""

    def __init__(self) -> None:
        self.commits: dict[str, Commit] = {}
        self.heads: dict[str, str] = {}
        self.fault: Callable[[Sequence[str]], Exception | None] = lambda _: None
        """Asked at each look at the remote."""
        self.asked: Counter[str] = Counter()
        self._numbers = 0

    # --- what people do ------------------------------------------------------------------------------------------

    def commit(
        self, files: Content, *, branch: str = "main", parent: str | None = "", trailers: tuple[str, ...] = ()
    ) -> str:
        """A commit on the head of the branch, or on `parent` (None: on nothing), pushed. Only these folders are in it."""
        self._numbers += 1
        name = hashlib.sha1(f"{self._numbers}".encode(), usedforsecurity=False).hexdigest()
        before = self.heads.get(branch) if parent == "" else parent
        self.commits[name] = Commit(name, before, dict(files), trailers)
        self.heads[branch] = name
        return name

    # --- the port ------------------------------------------------------------------------------------------------

    async def update(self, branches: Sequence[str]) -> Mapping[str, str | None]:
        self.asked["update"] += 1
        if (error := self.fault(branches)) is not None:
            raise error
        return {branch: self.heads.get(branch) for branch in branches}

    async def revision(self, source: str, branch: str, commit: str) -> Revision:
        begin_so = [name for name in self.commits if name.startswith(commit)]
        if len(begin_so) != 1:
            raise RevisionNotFound(f"no commit {commit}")
        (commit,) = begin_so
        approvals = self.commits[commit].trailers
        return Revision(source=source, branch=branch, commit=commit, committed_at=BEGIN, approvals=approvals)

    async def descends(self, commit: str, ancestor: str) -> bool:
        at: str | None = commit
        while at is not None:
            if at == ancestor:
                return True
            at = self.commits[at].parent
        return False

    async def tree_id(self, commit: str, path: str) -> str:
        self.asked["tree"] += 1
        return hashlib.sha1(self._content(commit, path), usedforsecurity=False).hexdigest()

    async def touching(self, path: str, commit: str, *, since: str | None = None) -> Sequence[str]:
        if commit not in self.commits:
            raise RevisionNotFound(f"no commit {commit}")
        found: list[str] = []
        at: str | None = commit
        while at is not None and not (since is not None and await self.descends(since, at)):
            parent = self.commits[at].parent
            if self._wanted(at, path) != (self._wanted(parent, path) if parent else None):
                found.append(at)
            at = parent if since is not None else None
        return found

    async def snapshot(self, commit: str, path: str) -> Snapshot:
        content = self._content(commit, path)
        self.asked["snapshot"] += 1
        file = File(
            path=f"{path}/all.json", blob=hashlib.sha1(content, usedforsecurity=False).hexdigest(), content=content
        )
        return Snapshot(path=path, tree=file.blob, files=(file,))

    async def close(self) -> None: ...

    def _wanted(self, commit: str, path: str) -> bytes | None:
        try:
            return self._content(commit, path)
        except RevisionNotFound:
            return None

    def _content(self, commit: str, path: str) -> bytes:
        files = self.commits[commit].files
        if path == "" and path not in files:
            return orjson.dumps(files)
        if path not in files:
            raise RevisionNotFound(f"there is no path {path!r} in {commit}")
        return orjson.dumps(files[path])


class Renderer:
    """Satisfies the port `Renderer`."""

    def __init__(self) -> None:
        self.fault: Callable[[Snapshot], Exception | None] = lambda _: None
        self.renders = 0
        self.go = asyncio.Event()
        """Cleared: renderings do not come to an end."""
        self.go.set()

    async def render(self, snapshot: Snapshot | Awaitable[Snapshot], *, tree: str = "") -> tuple[Document, ...]:
        if not isinstance(snapshot, Snapshot):
            snapshot = await snapshot
        self.renders += 1
        await self.go.wait()
        if (error := self.fault(snapshot)) is not None:
            raise error
        documents = []
        for file in snapshot.files:
            objects = orjson.loads(file.content)
            if objects == BROKEN:
                raise ManifestInvalid("this is no manifest", file=file.path, line=1)
            for number, body in enumerate(objects):
                documents.append(
                    Document(
                        origin=Origin(file=file.path, line=number + 1),
                        api_version=body["apiVersion"],
                        kind=body["kind"],
                        namespace=body["metadata"].get("namespace", ""),
                        name=body["metadata"]["name"],
                        body=orjson.dumps(body),
                    )
                )
        return tuple(documents)
