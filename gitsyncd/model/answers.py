"""What an API server is asked for and says, as far as more than its edge has to know: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from gitsyncd.model.ids import ObjectType, ResourceType
from gitsyncd.model.immutable import immutable


@immutable
class ClusterIdentity:
    """Who answers: UID of the namespace `kube-system`, and the server's version."""

    uid: str
    version: str
    resource_version: str = ""
    """Of the store at this moment: lower than one seen before means that an older state was put back."""


@immutable
class Discovery:
    """Every kind at every served version that can be got and listed."""

    resources: Mapping[ObjectType, ResourceType]
    stale: frozenset[str] = frozenset()
    """Groups with an API that does not answer: what is missing of them is unknown, and never gone."""


@immutable
class Listing:
    """Objects of one kind, decoded, and the resourceVersion from which a watch sees everything after them."""

    items: tuple[Any, ...]
    resource_version: str


@immutable
class WatchEvent:
    """One hint. `kind` is `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`, which has a `resource_version` only."""

    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    object: bytes = field(repr=False)
    """The object as raw JSON, decoded only when wanted; empty for a bookmark."""


@immutable
class ApplyOptions:
    """How one server-side apply is sent."""

    force: bool = True
    dry_run: bool = False
    resource_version: str = ""
    """When given, the server answers `Changed` if the object has moved on."""
    uid: str = ""
    """When given, the server answers `Changed` if the object is gone or another one. With the version alone it would
    create an object that is gone."""
