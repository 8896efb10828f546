"""The files below one path of one commit, from tree objects. Works on an open store; blocking.

Trees are never written out as files, and still no name is let through that would be dangerous if somebody did:
a repository that holds one is refused as a whole, and the error names the entry. What does not hold manifests is looked
at by name only and never read.
"""

from __future__ import annotations

import re
import stat
import time
import unicodedata
from collections.abc import Iterator

from dulwich.objects import parse_tree

from gitsyncd.edges.git.caps import Caps, in_words
from gitsyncd.edges.git.format import BLOB, GITLINK, TREE
from gitsyncd.edges.git.history import beyond, read_commit
from gitsyncd.edges.git.store import ObjectStore
from gitsyncd.model.errors import ConfigError, ManifestInvalid, RevisionNotFound, SourceTooLarge
from gitsyncd.model.immutable import immutable
from gitsyncd.model.source import File, Snapshot

_SUFFIXES = (".yaml", ".yml", ".json")
_NAMES = frozenset({"Kustomization"})
_IGNORED_BY_HFS = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])
"""Characters that HFS+ drops from names, so that `.g\u200cit` becomes `.git` (CVE-2014-9390)."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
"""The category Cc of Unicode, all of it."""
_LINK_DEPTH = 10


@immutable(kw_only=False)
class Entry:
    """One entry of a tree object."""

    name: str
    mode: int
    id: str

    @property
    def is_tree(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


def normal_path(path: str) -> tuple[str, ...]:
    """The parts of a path as people write it (`./apps/web/`). Raises `ConfigError` when it leaves the repository."""
    parts = tuple(part for part in path.split("/") if part not in {"", "."})
    if path.startswith("/") or ".." in parts:
        raise ConfigError(f"the path {path!r} leaves the repository", hint="Write it from the repository's root.")
    return parts


def locate(store: ObjectStore, caps: Caps, commit: str, path: str) -> Entry:
    """What `path` is in `commit`: a folder, or one file. Raises `RevisionNotFound`, `SourceTooLarge`."""
    parts = normal_path(path)
    entry = Entry("", 0o040000, read_commit(store, commit).tree)
    for position, part in enumerate(parts):
        entries = {
            child.name: child for child in read_tree(store, entry.id, "/".join(parts[:position]), caps.tree_bytes)
        }
        if part not in entries:
            raise _no_path(path, commit)
        entry = entries[part]
        if not entry.is_tree and position < len(parts) - 1:
            raise _no_path(path, commit)
    if not (entry.is_tree or entry.is_file):
        kind = "a link" if entry.is_link else "a submodule"
        raise RevisionNotFound(f"path {path!r} is {kind} in sha1:{commit}", hint="Name a folder or a file.")
    return entry


def identity(store: ObjectStore, caps: Caps, commit: str, path: str) -> str:
    """Of what `path` is in `commit`; empty where nothing is there that could hold manifests."""
    try:
        return locate(store, caps, commit, path).id
    except (RevisionNotFound, ManifestInvalid):
        return ""


def touching(
    store: ObjectStore, caps: Caps, path: str, commit: str, *, since: str | None = None, most: int
) -> list[str]:
    """Commits that `commit` has and `since` has not, and that changed `path` against their first parent; newest first.

    Without `since` it is about that one commit alone. At most so many are told. Raises `RevisionNotFound`.
    """
    found: list[str] = []
    alone = [(commit, read_commit(store, commit).parents)]
    for name, parents in alone if since is None else beyond(store, commit, since):
        before = identity(store, caps, parents[0], path) if parents else ""
        if identity(store, caps, name, path) != before:
            found.append(name)
        if len(found) == most:
            break
    return found


def _no_path(path: str, commit: str) -> RevisionNotFound:
    return RevisionNotFound(
        f"path {path!r} is not in sha1:{commit}",
        hint="Check `path` of the target, or that the folder was committed and pushed.",
    )


def read_tree(store: ObjectStore, tree: str, path: str, max_bytes: int) -> list[Entry]:
    """The entries of one tree object, unchecked. `path` is for messages. Raises `SourceTooLarge`, `ManifestInvalid`."""
    if (size := store.size(tree)) > max_bytes:
        raise SourceTooLarge(
            f"the folder {path or '/'} is a list of {in_words(size)}, and {in_words(max_bytes)} are allowed",
            hint="Divide it into folders.",
        )
    content = store.get(tree, TREE)
    entries = []
    try:
        for name, mode, object_id in parse_tree(content, 20):
            entries.append(Entry(_text(name, path), mode, object_id.decode("ascii")))
    except ManifestInvalid:
        raise
    except Exception as error:
        # Its bytes are those that the id names: it was made like this.
        raise ManifestInvalid("not a folder that Git could have written", file=path or "/") from error
    return entries


def _text(name: bytes, path: str) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        shown = name.decode("utf-8", "backslashreplace")
        raise ManifestInvalid("the name is not UTF-8", file=_join(path, shown), hint="Rename the file.") from None


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def why_refused(name: str) -> str:
    """What is wrong with the name of an entry; empty when nothing is."""
    if name in {"", ".", ".."}:
        return "is no name for a file"
    if "/" in name or "\\" in name:
        return "holds a path separator"
    if _CONTROL.search(name):
        return "holds a control character"
    # NTFS: trailing dots and spaces and alternate streams are dropped, and git~1 is the short name of .git.
    plain = name.translate(_IGNORED_BY_HFS).split(":")[0].rstrip(" .").casefold()
    if plain in {".git", "git~1"}:
        return "is a name that Git keeps for itself"
    return ""


class _Walk:
    """One look at the files below one path."""

    def __init__(self, store: ObjectStore, caps: Caps, root: str, base: str) -> None:
        self._store = store
        self._caps = caps
        self._root = root
        self._base = base
        self._entries = 0
        self._seen: dict[str, dict[str, Entry]] = {}
        """Folders by id, as they were walked: links are looked up in them, however many there are."""
        self._ends = _deadline(caps)
        self._links: list[tuple[str, Entry]] = []

    def files(self) -> Iterator[tuple[str, str]]:
        """Path (from the repository's root) and blob of every manifest file; links last."""
        yield from self._folder(self._root, self._base, 0)
        for path, link in self._links:
            _in_time(self._ends, self._caps, self._base)
            blob = self._target_of(path, link)
            if is_manifest(path):
                yield path, blob

    def _folder(self, tree: str, path: str, depth: int) -> Iterator[tuple[str, str]]:
        if depth > self._caps.depth:
            raise SourceTooLarge(f"{path} is more than {self._caps.depth} folders deep")
        _in_time(self._ends, self._caps, self._base)
        entries = read_tree(self._store, tree, path, self._caps.tree_bytes)
        self._entries += len(entries)
        if self._entries > self._caps.files:
            raise SourceTooLarge(
                f"more than {self._caps.files} files and folders below {self._base or '/'}",
                hint="Give targets narrower paths.",
            )
        _refuse_twins(entries, path)
        self._seen[tree] = {entry.name: entry for entry in entries}
        for entry in entries:
            here = _join(path, entry.name)
            if reason := why_refused(entry.name):
                raise ManifestInvalid(f"the name {reason}", file=ascii(here)[1:-1], hint="Rename or remove the entry.")
            if entry.is_tree:
                yield from self._folder(entry.id, here, depth + 1)
            elif entry.is_link:
                self._links.append((here, entry))
            elif entry.mode == GITLINK:
                raise ManifestInvalid(
                    "a submodule, whose files are in another repository",
                    file=here,
                    hint="Submodules are not followed: copy the files, or make the other repository a source.",
                )
            elif not entry.is_file:
                raise ManifestInvalid(f"an entry of the unknown mode {entry.mode:o}", file=here)
            elif is_manifest(here):
                yield here, entry.id

    def _target_of(self, path: str, link: Entry) -> str:
        """The blob of the regular file below the same path that a link leads to."""
        current, entry = path, link
        for _ in range(_LINK_DEPTH):
            if self._store.size(entry.id) > 4096:
                raise ManifestInvalid("a link with a target of more than 4096 bytes", file=path)
            text = self._store.get(entry.id, BLOB).decode("utf-8", "surrogateescape")
            current = self._resolve(path, current, text)
            found = self._look_up(current)
            if found is None:
                raise ManifestInvalid(f"a link to {text!r}, which is not there", file=path)
            if found.is_file:
                return found.id
            if not found.is_link:
                raise ManifestInvalid(
                    f"a link to the folder {text!r}", file=path, hint="Only links to files are followed."
                )
            entry = found
        raise ManifestInvalid("a link that leads back to itself", file=path)

    def _resolve(self, path: str, current: str, text: str) -> str:
        parts = current.split("/")[:-1]
        least = len(self._base.split("/")) if self._base else 0
        for part in text.split("/"):
            if part == "..":
                parts = parts[:-1] if len(parts) > least else None  # type: ignore[assignment]
            elif part not in {"", "."}:
                parts.append(part)
            if parts is None:
                break
        if text.startswith("/") or not text or parts is None:
            raise ManifestInvalid(
                f"a link to {text!r}, outside of {self._base or 'the repository'}",
                file=path,
                hint="Links are followed below the target's path only.",
            )
        return "/".join(parts)

    def _look_up(self, path: str) -> Entry | None:
        below = path.split("/")[len(self._base.split("/")) if self._base else 0 :]
        entry = Entry("", 0o040000, self._root)
        for part in below:
            if not entry.is_tree:
                return None
            # Everything below the path was walked before the first link is looked at.
            found = self._seen[entry.id].get(part)
            if found is None:
                return None
            entry = found
        return entry


def _deadline(caps: Caps) -> float:
    return time.monotonic() + caps.read_seconds


def _in_time(ends: float, caps: Caps, base: str) -> None:
    """Deltas can make every object as dear as the largest one that is allowed: a thread must not be lost to that."""
    if time.monotonic() > ends:
        raise SourceTooLarge(
            f"reading what is below {base or '/'} takes longer than {caps.read_seconds:g} s",
            hint="Give targets narrower paths, and keep large files in another repository.",
        )


def _refuse_twins(entries: list[Entry], path: str) -> None:
    """Names that are one and the same where case or the form of accents does not count."""
    seen: dict[str, str] = {}
    for entry in entries:
        key = unicodedata.normalize("NFC", entry.name.casefold())
        if key in seen:
            raise ManifestInvalid(
                f"the same name as {seen[key]!r} but for case or accents",
                file=_join(path, entry.name),
                hint="Rename one.",
            )
        seen[key] = entry.name


def is_manifest(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith(_SUFFIXES) or name in _NAMES


def snapshot(store: ObjectStore, caps: Caps, commit: str, path: str) -> Snapshot:
    """Every manifest file below `path`: `*.yaml`, `*.yml`, `*.json` and `Kustomization`, by path. Others are not read.

    A path that names one file gives that file, whatever its name. Raises `RevisionNotFound`, `ManifestInvalid`,
    `SourceTooLarge`, `MirrorDamaged`.
    """
    base = "/".join(normal_path(path))
    entry = locate(store, caps, commit, path)
    names = [(base, entry.id)] if entry.is_file else sorted(_Walk(store, caps, entry.id, base).files())
    files, total, ends = [], 0, _deadline(caps)
    for name, blob in names:
        _in_time(ends, caps, base)
        size = store.size(blob)
        if size > caps.manifest_bytes:
            raise SourceTooLarge(
                f"it is {in_words(size)}, and a manifest may have {in_words(caps.manifest_bytes)}",
                subject=name,
                hint="Split the file.",
            )
        total += size
        if total > caps.snapshot_bytes:
            raise SourceTooLarge(
                f"the manifests below {base or '/'} have more than {in_words(caps.snapshot_bytes)}",
                hint="Give targets narrower paths.",
            )
        files.append(File(path=name, blob=blob, content=store.get(blob, BLOB)))
    return Snapshot(path=base, tree=entry.id, files=tuple(files))
