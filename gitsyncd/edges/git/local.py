"""A repository on this machine (`file://`), bare or with a work tree: where its parts are, and its heads. Reading only.

Its configuration is never read. The objects are read in the fetch child (`export`), since they are as little trusted
as a server's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gitsyncd.model.errors import ConfigError, RevisionNotFound, SourceDenied, SourceUnreachable
from gitsyncd.model.immutable import immutable

_ID = re.compile(r"[0-9a-f]{40}")
_SYMBOLIC = re.compile(r"ref: (refs/heads/\S+)")
_PACKED = re.compile(r"([0-9a-f]{40}) refs/heads/(\S+)")
_REF_BYTES = 4096
_PACKED_REFS_BYTES = 64 << 20


@immutable(kw_only=False)
class LocalRepository:
    """The folder with `objects` and `refs` of a local repository."""

    git_dir: Path

    @property
    def objects(self) -> Path:
        return self.git_dir / "objects"


def path_of(url: str) -> Path:
    """Raises `ConfigError` for a URL with a host or a relative path."""
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not path.is_absolute() or "\0" in str(path):
        raise ConfigError(f"{url} is not a URL such as file:///srv/git/fleet.git")
    return path


def find(path: Path) -> LocalRepository:
    """Raises `SourceUnreachable` when there is none, `SourceDenied`, `RevisionNotFound` for an unsupported one."""
    try:
        git_dir = _git_dir(path)
    except PermissionError as error:
        raise SourceDenied(f"{path} may not be read by the agent's user") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SourceUnreachable(f"{path} cannot be read: {error}") from error
    if git_dir is None:
        raise SourceUnreachable(f"{path} is not a Git repository", hint="Check `url` of this source.")
    if (git_dir / "shallow").exists():
        raise RevisionNotFound(
            f"{path} is a shallow clone, and ancestry needs the whole history",
            hint=f"Run `git -C {path} fetch --unshallow`.",
        )
    if (git_dir / "reftable").exists():
        raise RevisionNotFound(
            f"{path} keeps its refs as a reftable, which is not supported",
            hint="Serve it over https, or run `git refs migrate --ref-format=files`.",
        )
    return LocalRepository(git_dir)


def _git_dir(path: Path) -> Path | None:
    for start in (path / ".git", path):
        candidate = start
        if candidate.is_file():
            text = _small_text(candidate)
            if not text.startswith("gitdir: "):
                return None
            candidate = candidate.parent / text[8:].strip()
        common = candidate / "commondir"  # a linked work tree
        if common.is_file():
            candidate = candidate / _small_text(common).strip()
        if (candidate / "objects").is_dir() and (candidate / "refs").is_dir():
            return candidate.resolve()
    return None


def _small_text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_REF_BYTES).decode("utf-8")


def heads(repository: LocalRepository, branches: Sequence[str]) -> dict[str, str]:
    """Commits of those branches that exist. Raises `SourceUnreachable`."""
    try:
        # Loose refs first: when they are packed in between, the packed file is the one that is current.
        found = {branch: _loose(repository.git_dir, branch) for branch in branches}
        if missing := {branch for branch, commit in found.items() if commit is None}:
            found |= _packed(repository.git_dir, missing)
    except (OSError, UnicodeDecodeError) as error:
        raise SourceUnreachable(f"the refs of {repository.git_dir} cannot be read: {error}") from error
    return {branch: commit for branch, commit in found.items() if commit}


def _loose(git_dir: Path, branch: str) -> str | None:
    ref = f"refs/heads/{branch}"
    for _ in range(5):
        try:
            text = _small_text(git_dir / ref).strip()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        if _ID.fullmatch(text):
            return text
        match = _SYMBOLIC.fullmatch(text)
        if not match or ".." in match[1]:
            return None
        ref = match[1]
    return None


def _packed(git_dir: Path, wanted: set[str]) -> dict[str, str]:
    found = {}
    try:
        with (git_dir / "packed-refs").open("rb") as file:
            for line in file.read(_PACKED_REFS_BYTES).decode("utf-8", "replace").splitlines():
                if (match := _PACKED.fullmatch(line)) and match[2] in wanted:
                    found[match[2]] = match[1]
    except FileNotFoundError:
        pass
    return found
