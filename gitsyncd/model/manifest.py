"""What Git wants: documents as they were read, and manifests as they will be sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from gitsyncd.model.ids import ObjectId, ObjectType
from gitsyncd.model.immutable import immutable


@immutable
class Origin:
    """The place in the repository that a person has to open."""

    file: str
    line: int = 1
    """Of the document's first key, counted from 1."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@immutable
class Document:
    """One object as its file says it, before a cluster gave it scope, namespace and marks.

    `body` is JSON with the meaning that Kubernetes gives the YAML. `List` kinds are already unfolded, and `apiVersion`,
    `kind` and `metadata.name` are known to be non-empty strings.
    """

    origin: Origin
    api_version: str
    kind: str
    namespace: str
    name: str
    body: bytes = field(repr=False)


class Apply(StrEnum):
    """`gitsyncd.dev/apply`: how an object is applied."""

    OVERRIDE = "override"
    MERGE = "merge"
    """As override, but what other tools added to the object stays theirs."""
    IF_NOT_PRESENT = "if-not-present"
    IGNORE = "ignore"


@immutable
class Controls:
    """What the annotations of one manifest ask for: `docs/reference/annotations.md`."""

    reconcile: bool = True
    prune: bool = True
    prune_needs_approval: bool = False
    apply: Apply = Apply.OVERRIDE
    recreate: bool = False
    """Delete and create where a field is immutable."""
    wave: int = 0
    depends_on: tuple[ObjectId, ...] = ()


DEFAULT_CONTROLS = Controls()


@immutable
class Manifest:
    """One object exactly as it will be sent: namespace settled, marks on, fields that others rightly own left out."""

    id: ObjectId
    api_version: str
    body: bytes = field(repr=False)
    digest: str
    """Of `body`; keyed for Secrets, so that a stored digest does not help to guess a value."""
    origin: Origin
    controls: Controls = DEFAULT_CONTROLS
    yields: tuple[str, ...] = ()
    """JSON pointers of fields that others may own: their value is kept once the object is live."""
    left_out: str = ""
    """What of Git's text is not sent, and why, in words for the plan; empty nearly always."""

    @property
    def type(self) -> ObjectType:
        return ObjectType(api_version=self.api_version, kind=self.id.kind)


@immutable
class Desired:
    """Everything that Git wants of one target, and what could not be told."""

    manifests: Mapping[ObjectId, Manifest]
    unknown: Mapping[ObjectId, Manifest] = field(default_factory=dict)
    """Objects whose kind this server does not serve and whose CRD is not in the same set: each fails alone."""
    waits: Mapping[ObjectId, frozenset[ObjectId]] = field(default_factory=dict)
    """What each object has to wait for, of the same set."""
    stages: Mapping[ObjectId, tuple[int, int]] = field(default_factory=dict)
    """Wave and stage of each object."""
