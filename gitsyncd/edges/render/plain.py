"""Plain YAML and JSON files to documents. The files are read in a child process; this process never parses YAML.

What was read is kept by path and blob for as long as snapshots use it, so that a commit costs what it changes.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import orjson

from gitsyncd.edges.child.command import Limits, python_module
from gitsyncd.edges.child.process import ChildAhead, ChildResult, Ending, run_child, started_ahead
from gitsyncd.model.errors import ManifestInvalid, RendererFailed, RenderError, RendererTimedOut
from gitsyncd.model.immutable import immutable
from gitsyncd.model.manifest import Document, Origin
from gitsyncd.model.source import File, Snapshot

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_NOT_YET: Final = {
    "kustomization.yaml": "kustomize",
    "kustomization.yml": "kustomize",
    "Kustomization": "kustomize",
    "Chart.yaml": "Helm",
}
_PATHS_KEPT: Final = 1_000
_WORKER: Final = python_module("gitsyncd.edges.render.worker")

FileKey = tuple[str, str]
"""Path and blob."""


@immutable
class RenderLimits:
    """What one snapshot may cost."""

    file_bytes: int = 4 << 20
    total_bytes: int = 256 << 20
    objects: int = 50_000
    output_bytes: int = 128 << 20
    memory_bytes: int = 768 << 20
    """Of the child's address space. It holds one file at a time."""
    deadline: timedelta = timedelta(minutes=2)
    poison: timedelta = timedelta(minutes=10)
    """How long a tree that killed the child is not tried again."""
    children: int = 2
    """At once, over all snapshots."""


DEFAULT_LIMITS: Final = RenderLimits()


@immutable(kw_only=False)
class _Failure:
    """An error of a file, kept to be raised afresh."""

    error: type[RenderError]
    message: str
    file: str = ""
    line: int = 0
    hint: str = ""

    def raised(self, others: int = 0) -> RenderError:
        more = f" (and {others} more {'file' if others == 1 else 'files'})" if others else ""
        return self.error(self.message + more, file=self.file, line=self.line, hint=self.hint)


@dataclass(slots=True)
class _Kept:
    """What is known of the last snapshot of one path."""

    tree: str = ""
    documents: tuple[Document, ...] | None = None
    files: Mapping[FileKey, tuple[Document, ...] | _Failure] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class PlainRenderer:
    """Satisfies the port `Renderer`. One for all snapshots; may be called for several at once."""

    def __init__(self, limits: RenderLimits = DEFAULT_LIMITS, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that only grow."""
        self._limits = limits
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._poison: dict[str, tuple[float, _Failure]] = {}
        self._children = asyncio.Semaphore(limits.children)
        """At work. Taken last of all: whoever waits for it holds the lock of a path."""
        self._has_ahead = False
        """Whether a child was started ahead. Of targets that ask at once for the same files one reads them for all."""

    async def render(self, snapshot: Snapshot | Awaitable[Snapshot], *, tree: str = "") -> tuple[Document, ...]:
        """All documents in the order of the files' names. A child is started while a snapshot is awaited, unless its
        `tree` is one that was rendered.

        Raises `ManifestInvalid` with the first file that is wrong, `RendererFailed` and `RendererTimedOut` with the
        file that the child was at, and what the making raises. Equal trees give the same tuple.
        """
        if isinstance(snapshot, Snapshot):
            return await self._rendered(snapshot, None)
        if tree and any(kept.tree == tree and kept.documents is not None for kept in self._kept.values()):
            return await self._rendered(await snapshot, None)
        async with self._ahead() as child:
            return await self._rendered(await snapshot, child)

    @asynccontextmanager
    async def _ahead(self) -> AsyncIterator[ChildAhead | None]:
        """One that waits for files; none while another one does."""
        if self._has_ahead:
            yield None
            return
        self._has_ahead = True
        try:
            async with started_ahead(
                _WORKER, limits=self._child_limits(), max_output=self._limits.output_bytes
            ) as child:
                yield child
        finally:
            self._has_ahead = False

    async def _rendered(self, snapshot: Snapshot, ahead: ChildAhead | None) -> tuple[Document, ...]:
        kept = self._remember(snapshot.path)
        async with kept.lock:
            if kept.documents is None or kept.tree != snapshot.tree:
                self._refuse_poison(snapshot.tree)
                kept.documents = None
                kept.documents = await self._render(snapshot, kept, ahead)
                kept.tree = snapshot.tree
            return kept.documents

    async def _render(self, snapshot: Snapshot, kept: _Kept, ahead: ChildAhead | None) -> tuple[Document, ...]:
        files = _manifest_files(snapshot)
        _check_sizes(files, self._limits)
        missing = [file for file in files if (file.path, file.blob) not in kept.files]
        read = await self._read(snapshot, missing, ahead) if missing else {}
        # Only what this snapshot uses is kept: memory follows what is managed.
        kept.files = {key: read[key] if key in read else kept.files[key] for key in map(_key, files)}
        failures = [outcome for outcome in kept.files.values() if isinstance(outcome, _Failure)]
        if failures:
            raise failures[0].raised(others=len(failures) - 1)
        documents = tuple(
            document for outcome in kept.files.values() if not isinstance(outcome, _Failure) for document in outcome
        )
        if len(documents) > self._limits.objects:
            raise ManifestInvalid(
                f"{len(documents):,} objects in one target; at most {self._limits.objects:,} are read",
                hint="Divide the path among several targets.",
            )
        return documents

    def _remember(self, path: str) -> _Kept:
        kept = self._kept.setdefault(path, _Kept())
        self._kept.move_to_end(path)
        if len(self._kept) > _PATHS_KEPT:
            self._kept.popitem(last=False)
        return kept

    def _refuse_poison(self, tree: str) -> None:
        """A tree that killed the child would kill it again: not before some time has passed."""
        now = self._clock()
        self._poison = {tree: entry for tree, entry in self._poison.items() if entry[0] > now}
        if tree in self._poison:
            raise self._poison[tree][1].raised()

    async def _read(
        self, snapshot: Snapshot, files: Sequence[File], ahead: ChildAhead | None
    ) -> dict[FileKey, tuple[Document, ...] | _Failure]:
        """Have a child read these files. Raises `RendererFailed`, `RendererTimedOut`."""
        async with self._children:
            if ahead is not None:
                result = await ahead.run(_frames(files), deadline=self._limits.deadline)
            else:
                result = await run_child(
                    _WORKER,
                    stdin=_frames(files),
                    limits=self._child_limits(),
                    deadline=self._limits.deadline,
                    max_output=self._limits.output_bytes,
                )
        answer = _Answer(files)
        answer.take(result.stdout)
        if not (result.succeeded and answer.complete):
            failure = _death(result, answer.current, self._limits)
            if answer.current is not None:  # else it was not the files that it died of
                self._poison[snapshot.tree] = (self._clock() + self._limits.poison.total_seconds(), failure)
            raise failure.raised()
        return answer.outcomes

    def _child_limits(self) -> Limits:
        return Limits(
            memory_bytes=self._limits.memory_bytes,
            # Behind the deadline: what ends by that is told as too slow, what the kernel kills might be anything.
            cpu_seconds=math.ceil(self._limits.deadline.total_seconds()) + 1,
        )


class _Answer:
    """The child's lines, as far as they came."""

    def __init__(self, files: Sequence[File]) -> None:
        self._files = files
        self.outcomes: dict[FileKey, tuple[Document, ...] | _Failure] = {}
        self.current: File | None = None
        self.complete = False

    def take(self, output: bytes) -> None:
        """What the child said, to the end or to where it died. A child that says nonsense did not complete."""
        try:
            self._take(iter(output.split(b"\n")))
        except (ValueError, TypeError, IndexError, AssertionError):
            self.complete = False

    def _take(self, lines: Iterator[bytes]) -> None:
        documents: list[Document] = []
        for line in lines:
            if not line:
                continue
            what, *facts = orjson.loads(line)
            if what == "object":
                documents.append(self._document(facts, next(lines, b"")))
                continue
            if what == "error":
                self.outcomes[_key(self._at)] = _Failure(ManifestInvalid, facts[1], self._at.path, facts[0], facts[2])
                continue
            if self.current is not None:
                self.outcomes.setdefault(_key(self.current), tuple(documents))
            documents = []
            self.complete = what == "end"
            self.current = None if self.complete else self._files[facts[0]]

    @property
    def _at(self) -> File:
        assert self.current is not None
        return self.current

    def _document(self, facts: Sequence[str | int], body: bytes) -> Document:
        line, api_version, kind, namespace, name = facts
        # The same few thousand times each: kept once.
        return Document(
            origin=Origin(file=self._at.path, line=int(line)),
            api_version=sys.intern(str(api_version)),
            kind=sys.intern(str(kind)),
            namespace=sys.intern(str(namespace)),
            name=str(name),
            body=body,
        )


def _key(file: File) -> FileKey:
    return file.path, file.blob


def _frames(files: Sequence[File]) -> Iterator[bytes]:
    for file in files:
        yield len(file.content).to_bytes(4, "big") + file.content


def _manifest_files(snapshot: Snapshot) -> list[File]:
    """The files that hold manifests, by name. Hidden files and folders do not count. Raises `ManifestInvalid`."""
    found = []
    base = f"{snapshot.path}/" if snapshot.path else ""
    for file in sorted(snapshot.files, key=lambda file: file.path):
        parts = file.path.removeprefix(base).split("/")
        name = parts[-1]
        # Neither folders above the path hide a file, nor does the name of a file that the path names itself.
        if file.path != snapshot.path and any(part.startswith(".") for part in parts):
            continue
        if tool := _NOT_YET.get(name):
            raise ManifestInvalid(
                f"{tool} is not supported yet",
                file=file.path,
                line=1,
                hint="Render it to plain YAML and commit the result.",
            )
        if name.endswith(_SUFFIXES):
            found.append(file)
    return found


def _check_sizes(files: Sequence[File], limits: RenderLimits) -> None:
    for file in files:
        if len(file.content) > limits.file_bytes:
            raise ManifestInvalid(
                f"the file has {len(file.content):,} bytes; at most {limits.file_bytes:,} are read",
                file=file.path,
                line=1,
            )
    total = sum(len(file.content) for file in files)
    if total > limits.total_bytes:
        raise ManifestInvalid(
            f"the manifests have {total:,} bytes together; at most {limits.total_bytes:,} are read",
            hint="Divide the path among several targets.",
        )


def _death(result: ChildResult, file: File | None, limits: RenderLimits) -> _Failure:
    """Why the child did not finish. Its standard error may quote a Secret and is not shown."""
    path = file.path if file else ""
    if result.ending is Ending.TIMED_OUT:
        seconds = limits.deadline.total_seconds()
        return _Failure(
            RendererTimedOut,
            f"reading the manifests took longer than {seconds:g} s",
            path,
            hint="Nothing to do if the machine was busy; otherwise split the file or divide the path among targets.",
        )
    if result.ending is Ending.OVERFLOWED:
        return _Failure(
            RendererFailed,
            f"the manifests come to more than {limits.output_bytes:,} bytes of JSON",
            path,
            hint="Divide the path among several targets; look for aliases that repeat much.",
        )
    if result.ending is Ending.OUT_OF_MEMORY:
        why = f"reading the manifests needs more than {limits.memory_bytes >> 20:,} MiB of memory"
    else:
        why = f"the process that reads manifests died ({result})"
    return _Failure(RendererFailed, why, path, hint="The file may be hostile: look at it, split it or take it out.")
