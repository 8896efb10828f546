"""Bells that others ring over HTTP: who may, and how they prove it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One sender. The secret is read at each use."""

    kind: HookKind
    secret_file: Path
