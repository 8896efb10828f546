"""What a live object is reduced to: a record of some 0.3 kB. Bodies are not kept."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from gitsyncd.model.immutable import immutable
from gitsyncd.model.report import Health


class Writer(StrEnum):
    """Classes of field managers; who is in which is a table, `core.writers`."""

    US = "us"
    PERSON = "person"
    DELIVERY = "delivery"
    CONTROLLER = "controller"
    UNKNOWN = "unknown"


@immutable
class Mark:
    """What the marks on a live object say about its owner: `docs/reference/marks.md`."""

    agent: str
    target: str
    """The target's name, without the cluster."""
    describes_itself: bool
    """False on a copy: `gitsyncd.dev/id` names another object."""


@immutable
class Addition:
    """Fields that one other manager added and Git does not name.

    Scope: that manager's own entry, never a subresource.
    """

    manager: str
    writer: Writer
    operation: str
    """`Apply` or `Update`, as in managedFields."""
    at: datetime | None
    keys: tuple[tuple[str, ...], ...] = ()
    """The same fields as path elements of managedFields."""
    fields: tuple[str, ...]
    """At most 20 paths, as the API server writes them in conflicts."""
    keep: bool = False
    """A known safe verb (`kubectl rollout restart`): reported, never removed. Its fields stand in no other addition."""


@immutable
class Blame:
    """Who last wrote certain fields, as far as managedFields tell: the client, not the human."""

    manager: str | None
    """None when nobody can be named: a delete leaves no trace."""
    writer: Writer | None = None
    operation: str = ""
    at: datetime | None = None


@immutable
class Observed:
    """One live object, as far as planning needs to know it."""

    uid: str
    resource_version: str
    mark: Mark | None = None
    """None without the label `gitsyncd.dev/agent`."""
    entry_hash: str = ""
    """Empty when our manager has no entry."""
    projection_hash: str = ""
    additions: tuple[Addition, ...] = ()
    takeover: bool = False
    """Entries of client-side tools stand in managedFields that have to be taken over before a field can disappear."""
    reconcile_disabled: bool = False
    prune_disabled: bool = False
    prune_needs_approval: bool = False
    scaled: bool = False
    """Somebody used the subresource `scale` on it: an autoscaler, or a person with the verb for it."""
    controlled: bool = False
    """Has a controller among its owner references: never pruned."""
    deleting: bool = False
    health: Health | None = None
