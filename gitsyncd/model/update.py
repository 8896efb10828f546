"""Writing to a repository: who writes what where, and what came of it.

Facts only. What is written is decided in `core`; how a commit is made and pushed is the business of the Git edge, and
requests to merge that of the forges' edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from gitsyncd.model.image import ImageChange
from gitsyncd.model.immutable import immutable
from gitsyncd.model.source import Repository


@immutable
class Author:
    """In whose name commits are made: author and committer."""

    name: str
    email: str


class KeyKind(StrEnum):
    SSH = "ssh"
    OPENPGP = "openpgp"


@immutable
class SigningKey:
    """A private key by file, read at each use."""

    kind: KeyKind
    file: Path


class Forge(StrEnum):
    """Whose API is spoken for pull requests."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"


@immutable
class PullRequest:
    """One rolling request to merge, from the branch that is pushed to the branch that is followed."""

    forge: Forge
    token_file: Path
    labels: tuple[str, ...] = ()


@immutable
class MergeRequest:
    """What is asked of whoever may merge. GitLab's word, which says what it is; others call it a pull request."""

    head: str
    """The branch that is to be merged."""
    base: str
    title: str
    body: str
    """Markdown."""
    labels: tuple[str, ...] = ()


@immutable
class Update:
    """Where the choices of some policies are written."""

    name: str
    source: str
    repository: Repository
    """With the credentials that may write."""
    branch: str
    """What is followed, and written where nothing else is said."""
    timeout: timedelta
    """Of one conversation with the remote."""
    author: Author
    paths: tuple[str, ...] = ()
    """Files and folders that may be changed, from the root; empty for all."""
    policies: tuple[str, ...] = ()
    message: str = "{summary}"
    signing: SigningKey | None = None
    push_branch: str = ""
    """The branch that is pushed; empty for `branch` itself."""
    pull_request: PullRequest | None = None
    max_commits_per_hour: int = 12

    @property
    def pushed(self) -> str:
        return self.push_branch or self.branch


@immutable
class Tip:
    """A branch as the remote has it now: its commit, and the files that were asked for."""

    commit: str
    files: Mapping[str, bytes] = field(repr=False)
    """Content by path from the root."""
    others: str = ""
    """A commit of somebody else's on the branch of its own that would be pushed; empty where there is none."""


@immutable
class Restored:
    """The content that a path had in some commit."""

    commit: str
    over: str
    """A commit that the path must still be equal to, or nothing is written: what gives way was looked at there."""


@immutable
class Proposal:
    """What a commit on top of a tip would change. What changes nothing makes no commit."""

    message: str
    """Whole: subject, body, trailers."""
    changes: Sequence[ImageChange] = ()
    """What it does, for whoever tells of it once it is written."""
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """New content by path; everything else stays. A new file is an ordinary one, an old one keeps its mode."""
    restored: Mapping[str, Restored] = field(default_factory=dict)
    """By path of a folder (or file, or empty for the root): what it gets, exactly."""


@immutable
class Written:
    """A commit that the remote has taken."""

    commit: str
    branch: str
    parent: str
    """The tip that it stands on."""
    attempts: int
    """1 when no race was lost."""
    changes: Sequence[ImageChange] = ()
    """Those of the proposal."""
    late: bool = False
    """Whether it was pushed by an earlier call, which could not tell that it arrived."""
