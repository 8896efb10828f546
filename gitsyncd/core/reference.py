"""References to images: which registry, which repository, which tag, which digest.

Names without a registry are Docker Hub's, as every container runtime has it (github.com/distribution/reference,
normalize.go). Texts only; nothing is asked.
"""

from __future__ import annotations

import re
from typing import Final

from gitsyncd.model.immutable import immutable

DOCKER_HUB: Final = "docker.io"
_HUB_SERVER: Final = "registry-1.docker.io"
"""Which Docker Hub's API really is at (docs.docker.com/reference/api/registry)."""

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_HOST: Final = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
)
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_MAX_NAME: Final = 255


@immutable
class ImageName:
    """`registry.example.com/team/front`: a registry and a repository of it."""

    host: str
    """With the port, where one is named; `docker.io` for Docker Hub."""
    repository: str

    @property
    def server(self) -> str:
        """Whom to ask."""
        return _HUB_SERVER if self.host == DOCKER_HUB else self.host

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}"


@immutable
class Reference:
    """What may stand in a manifest; tag and digest may be empty. `name` is as it was written."""

    name: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def image_name(text: str) -> ImageName:
    """Raises `ValueError` with what is wrong."""
    first, slash, rest = text.partition("/")
    # The first part is a host if it could be nothing else.
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        host, repository = first, rest
    else:
        host, repository = DOCKER_HUB, text
    if host in {"index.docker.io", DOCKER_HUB}:
        host = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    if not _HOST.fullmatch(host):
        raise ValueError(f"`{host}` is no name of a registry")
    if len(text) > _MAX_NAME or not _REPOSITORY.fullmatch(repository):
        raise ValueError(f"`{repository}` is no name of a repository: small letters, digits, and . _ - / between them")
    return ImageName(host=host, repository=repository)


def beginning(prefix: str, name: ImageName) -> str:
    """What a prefix says of this name, written out in full; empty where it is no prefix of it, in whole components."""
    prefix = prefix.removesuffix("/")
    try:
        # Written as images are: `docker.io/library`, `team` for Docker Hub's `team`. Of two parts, since a name of
        # one part is completed there.
        start = str(image_name(f"{prefix}/x/x")).removesuffix("/x/x")
    except ValueError:
        return ""
    return start if f"{name}/".startswith(f"{start}/") else ""


def reference(text: str) -> Reference:
    """Raises `ValueError` where it is none."""
    rest, at, digest = text.partition("@")
    # A colon before the last slash belongs to a port.
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    if at and not is_digest(digest):
        raise ValueError(f"`{digest}` is no digest")
    if (colon and name != rest and not is_tag(tag)) or (not tag and rest.endswith(":")):
        raise ValueError(f"`{tag}` is no tag")
    image_name(name)
    return Reference(name=name, tag=tag, digest=digest)


def is_tag(text: str) -> bool:
    return bool(_TAG.fullmatch(text))


def is_digest(text: str) -> bool:
    return bool(_DIGEST.fullmatch(text))
