"""Where desired state comes from: a branch of a Git repository, and one commit of it."""

from __future__ import annotations

from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from gitsyncd.model.hook import Hook
from gitsyncd.model.immutable import immutable


class OnRewind(StrEnum):
    """What to do with a head that does not descend from the admitted commit."""

    HOLD = "hold"
    FOLLOW = "follow"


@immutable
class PasswordAuth:
    """HTTP: a user and a password, or a token in its place."""

    username: str
    password_file: Path


@immutable
class BearerAuth:
    """HTTP: a token in a header of its own."""

    token_file: Path


@immutable
class CertificateAuth:
    """HTTPS: a client certificate and its key, PEM."""

    cert_file: Path
    key_file: Path


@immutable
class SshAuth:
    """SSH: a private key, and the host keys that are trusted."""

    key_file: Path
    known_hosts_file: Path
    passphrase_file: Path | None = None
    username: str = ""
    """Where the address names none; empty for `git`."""


GitAuth = PasswordAuth | BearerAuth | CertificateAuth | SshAuth
"""Credentials by file; the files are read at each use, so that replacing them needs no restart."""


@immutable
class Repository:
    """What one conversation with a remote needs. Sources that share it share one mirror and one conversation."""

    url: str
    auth: GitAuth | None = None
    ca_file: Path | None = None


@immutable
class Source:
    """A named branch of a repository and how to follow it."""

    name: str
    repository: Repository
    branch: str
    interval: timedelta
    timeout: timedelta
    """The whole of one look at the remote, a fetch included."""
    on_rewind: OnRewind = OnRewind.HOLD
    webhook: Hook | None = None
    """Who may say that something was pushed."""


@immutable
class Revision:
    """One commit of one branch. `committed_at` is the committer's clock, in UTC."""

    source: str
    branch: str
    commit: str
    """40 hexadecimal digits."""
    committed_at: datetime
    approvals: tuple[str, ...] = field(default=())
    """Values of the commit's `Gitsyncd-Approve` trailers, such as `web@eu-1 prune=12`."""

    def __str__(self) -> str:
        return f"{self.branch}@sha1:{self.commit}"


@immutable
class File:
    """One regular file of a tree. `blob` identifies its content."""

    path: str
    """From the root of the repository, with `/`."""
    blob: str
    content: bytes = field(repr=False)


@immutable
class Snapshot:
    """The files below one path of one commit. Equal `tree` means equal files."""

    path: str
    tree: str
    files: tuple[File, ...]
