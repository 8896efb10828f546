"""A local folder read as if it were the tree of a commit: for `plan --dir`, before anything is committed."""

from __future__ import annotations

import os
from hashlib import sha1
from pathlib import Path

from gitsyncd.edges.git.caps import Caps
from gitsyncd.model.errors import RevisionNotFound, SourceTooLarge
from gitsyncd.model.source import File, Snapshot

_READ = (".yaml", ".yml", ".json")
_NAMED = frozenset({"Kustomization", "Chart.yaml"})


def read_folder(folder: Path, path: str, caps: Caps | None = None) -> Snapshot:
    """The files below `folder`, named as below `path` of a repository. Symbolic links are not followed.

    Raises `RevisionNotFound` when it is no folder, `SourceTooLarge` for a file above the cap.
    """
    caps = caps or Caps()
    if not folder.is_dir():
        raise RevisionNotFound(
            f"{folder} is no folder", hint="Give --dir the folder of the repository, or of the target."
        )
    files = []
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(_READ) or name in _NAMED:
                files.append(_read(Path(directory, name), folder, path, caps))
    tree = sha1(b"".join(f"{file.path}\0{file.blob}\n".encode() for file in files), usedforsecurity=False).hexdigest()
    return Snapshot(path=path, tree=f"folder-{tree}", files=tuple(files))


def _read(file: Path, folder: Path, path: str, caps: Caps) -> File:
    name = "/".join(part for part in (path, file.relative_to(folder).as_posix()) if part)
    if file.is_symlink() or not file.is_file():
        return File(path=name, blob="none", content=b"")
    if file.stat().st_size > caps.manifest_bytes:
        raise SourceTooLarge(f"{name} is larger than {caps.manifest_bytes} bytes", hint="Move large files elsewhere.")
    content = file.read_bytes()
    blob = sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return File(path=name, blob=blob, content=content)
