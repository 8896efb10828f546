"""What gitsyncd has recorded that it owns on one cluster for one target. The record lives in that cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from gitsyncd.model.ids import ObjectId
from gitsyncd.model.immutable import immutable


class EntryState(StrEnum):
    """How sure the record is."""

    PENDING = "pending"
    """Written ahead of the first write: the object may or may not exist, under any UID."""
    LIVE = "live"
    DELETING = "deleting"
    """The delete was accepted; the entry stays until a read says that the object is gone."""


@immutable
class Entry:
    """One owned object. Hashes are those of the API server's answer to our last apply, never of the text in Git."""

    api_version: str
    state: EntryState
    uid: str = ""
    """Empty while pending."""
    digest: str = ""
    """Of the manifest last applied."""
    entry_hash: str = ""
    """Of our own `managedFields` entry."""
    projection_hash: str = ""
    """Of the live object projected on the fields that our apply set."""
    commit: str = ""
    """The commit at which this object was last written for Git's sake."""
    path: str = ""
    prune: bool = True
    """What the manifest last applied said: a delete is excluded by the live object or by this."""


@immutable
class Inventory:
    """All entries of one target on one cluster."""

    target: str
    """`name@cluster`."""
    entries: Mapping[ObjectId, Entry] = field(default_factory=dict)
    serial: int = 0
    """Counts writes; a lower one than seen before means that the cluster was restored from a backup."""
    cluster_uid: str = ""
    """UID of `kube-system` when this was last written; empty when never."""
    commit: str = ""
    """The last commit that a turn of this target began to apply: newer ones must descend from it."""
    trusted: bool = True
    """False when it was lost and rebuilt from marks: such a turn prunes nothing."""
    damage: str = ""
    """What of the record in the cluster could not be read; `entries` then holds what could. Empty nearly always."""
