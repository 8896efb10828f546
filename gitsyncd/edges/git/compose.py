"""Commits, made from the objects of a mirror and what somebody proposes: no work tree, no index, nothing on disk.

What is not changed keeps its id, whatever its name or mode. Works on an open store; blocking. Does not belong here:
where a commit goes, and who is asked for it.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from io import BytesIO

from dulwich.object_format import SHA1
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tree
from dulwich.pack import write_pack_objects

from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.format import BLOB, TREE
from gitsyncd.edges.git.history import read_commit
from gitsyncd.edges.git.store import ObjectStore
from gitsyncd.edges.git.tree import Entry, identity, is_manifest, normal_path, read_tree, why_refused
from gitsyncd.model.errors import ManifestInvalid, PushContended, SourceTooLarge
from gitsyncd.model.image import MARK_SIGN
from gitsyncd.model.immutable import immutable
from gitsyncd.model.update import Author, Proposal

_FILE = 0o100644
_FOLDER = 0o040000


@immutable
class Draft:
    """A commit that is not pushed yet, and the pack with all that is new in it."""

    commit: str
    pack: bytes = field(repr=False)


@immutable(kw_only=False)
class _Content:
    """What a path gets: an entry of another tree, new bytes, or (neither) nothing."""

    entry: Entry | None = None
    content: bytes | None = None


# --- Reading ---------------------------------------------------------------------------------------------------------
def readable_files(store: ObjectStore, caps: Caps, commit: str, paths: Sequence[str]) -> dict[str, bytes]:
    """Regular manifest files at or below these paths, by path from the root; all of the tree for no path.

    Not a view of what would be applied: links, submodules and names that no target could have are passed over, as are
    paths that are not there and, unless they are marked, files too large to be manifests.
    Raises `SourceTooLarge`, `MirrorDamaged`.
    """
    found: dict[str, bytes] = {}
    total = 0
    for path in paths or [""]:
        entry = _entry(store, caps, commit, path)
        for name, blob in _walk(store, caps, entry, "/".join(normal_path(path)), 0) if entry else ():
            if name in found:
                continue
            content = store.get(blob, BLOB)
            if len(content) > caps.manifest_bytes and MARK_SIGN not in content:
                continue
            found[name] = content
            total += len(found[name])
            if total > caps.snapshot_bytes or len(found) > caps.files:
                raise SourceTooLarge(
                    "the files that may be changed are too many, or too large", hint="Give the update narrower `paths`."
                )
    return found


def _walk(store: ObjectStore, caps: Caps, entry: Entry, path: str, depth: int) -> list[tuple[str, str]]:
    if entry.is_file:
        return [(path, entry.id)] if is_manifest(path) else []
    if not entry.is_tree or depth > caps.depth:
        return []
    found = []
    for child in _children(store, caps, entry.id, path):
        if not why_refused(child.name):
            found += _walk(store, caps, child, f"{path}/{child.name}" if path else child.name, depth + 1)
    return found


def _children(store: ObjectStore, caps: Caps, tree: str, path: str) -> list[Entry]:
    try:
        return read_tree(store, tree, path, caps.tree_bytes)
    except ManifestInvalid:
        return []  # a name that is not UTF-8: nothing in that folder can be a manifest of ours


def _entry(store: ObjectStore, caps: Caps, commit: str, path: str) -> Entry | None:
    """What a path is in a commit; None where it is not there."""
    entry = Entry("", _FOLDER, read_commit(store, commit).tree)
    for part in normal_path(path):
        if not entry.is_tree:
            return None
        children = {child.name: child for child in _children(store, caps, entry.id, "")}
        if part not in children:
            return None
        entry = children[part]
    return entry


# --- Writing ---------------------------------------------------------------------------------------------------------
def compose(
    store: ObjectStore,
    caps: Caps,
    proposal: Proposal,
    *,
    base: str,
    parents: Sequence[str],
    author: Author,
    now: datetime,
    sign: Callable[[bytes], bytes] | None,
) -> Draft | None:
    """A commit whose tree is that of `base` with what is proposed. None where its tree is that of its first parent.

    Raises `RevisionNotFound` for a commit to restore from that the mirror does not have, `ConfigError` for a path that
    leaves the repository, `PushContended` where a path to restore has changed, `MirrorDamaged`.
    """
    changes: dict[tuple[str, ...], _Content] = {
        normal_path(path): _Content(content=content) for path, content in proposal.files.items()
    }
    for path, restored in proposal.restored.items():
        if identity(store, caps, base, path) != identity(store, caps, restored.over, path):
            raise PushContended(
                f"somebody has just changed {path or '/'}: it is not what it was in {restored.over[:12]}",
                hint="Look at what they did, and ask again if it is still meant.",
            )
        changes[normal_path(path)] = _Content(entry=_entry(store, caps, restored.commit, path))
    new: dict[str, ShaFile] = {}
    root = Entry("", _FOLDER, read_commit(store, base).tree)
    if () in changes:
        whole = changes.pop(()).entry
        root = whole if whole is not None and whole.is_tree else root
    tree = _changed(store, root, changes, new)
    tree_id = tree.id if tree is not None else _add(new, Tree())
    if tree_id == read_commit(store, parents[0]).tree:
        return None
    commit_object = _commit(tree_id, parents, proposal.message, author, now)
    if sign is not None:
        commit_object.gpgsig = sign(commit_object.as_raw_string())
    pack = BytesIO()
    write_pack_objects(pack, [commit_object, *new.values()], SHA1, deltify=False)
    return Draft(commit=commit_object.id.decode(), pack=pack.getvalue())


def _commit(tree: str, parents: Sequence[str], message: str, author: Author, now: datetime) -> Commit:
    found = Commit()
    found.tree = ObjectID(tree.encode())
    found.parents = [ObjectID(parent.encode()) for parent in parents]
    found.author = found.committer = f"{author.name} <{author.email}>".encode()
    found.author_time = found.commit_time = int(now.timestamp())
    found.author_timezone = found.commit_timezone = 0
    found.message = (message.rstrip("\n") + "\n").encode()
    return found


def _changed(
    store: ObjectStore, folder: Entry | None, changes: Mapping[tuple[str, ...], _Content], new: dict[str, ShaFile]
) -> Entry | None:
    """The folder with these changes below it; None for one that nothing is left of. New objects go to `new`."""
    if not changes:
        return folder
    tree = Tree.from_string(store.get(folder.id, TREE)) if folder is not None and folder.is_tree else Tree()
    below: dict[str, dict[tuple[str, ...], _Content]] = {}
    for path, change in changes.items():
        below.setdefault(path[0], {})[path[1:]] = change
    for name, inner in sorted(below.items()):
        key = name.encode()
        before = Entry(name, tree[key][0], tree[key][1].decode()) if key in tree else None
        # A path that is replaced whole comes first, what lies below it after that.
        if () in inner:
            before = _replaced(inner.pop(()), before, new)
        after = _changed(store, before, inner, new)
        if after is None:
            if key in tree:
                del tree[key]
        else:
            tree[key] = (after.mode, ObjectID(after.id.encode()))
    if len(tree) == 0:
        return None
    return Entry(folder.name if folder else "", _FOLDER, _add(new, tree))


def _replaced(change: _Content, before: Entry | None, new: dict[str, ShaFile]) -> Entry | None:
    if change.content is None:
        return change.entry
    mode = before.mode if before is not None and stat.S_ISREG(before.mode) else _FILE
    return Entry("", mode, _add(new, Blob.from_string(change.content)))


def _add(new: dict[str, ShaFile], made: ShaFile) -> str:
    name = made.id.decode()
    new[name] = made
    return name
