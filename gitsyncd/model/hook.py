"""Bells that others ring over HTTP: who may, how they prove it, and what a delivery speaks of.

A delivery never says what to apply, only *look again*: facts here name what is configured.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from gitsyncd.model.immutable import immutable


class HookKind(StrEnum):
    """Whose way to sign and to say what happened."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"
    BITBUCKET = "bitbucket"
    AZURE = "azure"
    GENERIC = "generic"
    DOCKER_HUB = "dockerhub"
    GHCR = "ghcr"
    HARBOR = "harbor"
    QUAY = "quay"


SOURCE_KINDS = frozenset(
    {HookKind.GITHUB, HookKind.GITLAB, HookKind.GITEA, HookKind.BITBUCKET, HookKind.AZURE, HookKind.GENERIC}
)
REGISTRY_KINDS = frozenset({HookKind.DOCKER_HUB, HookKind.GHCR, HookKind.HARBOR, HookKind.QUAY, HookKind.GENERIC})


@immutable
class Hook:
    """One sender. The secret is read at each use."""

    kind: HookKind
    secret_file: Path


@immutable(kw_only=False)
class News:
    """What a delivery speaks of: branches, or images by their whole name. `everything`: it does not say."""

    names: frozenset[str] = frozenset()
    everything: bool = False

    def concerns(self, name: str) -> bool:
        return self.everything or name in self.names

    def __bool__(self) -> bool:
        return self.everything or bool(self.names)


NOTHING = News()
EVERYTHING = News(everything=True)
