"""Which revision of a target ran when, and how it fared."""

from __future__ import annotations

from datetime import datetime

from gitsyncd.model.immutable import immutable


@immutable
class Passage:
    """One revision of one target. Moments are in UTC, each the first of its kind; None for what did not happen."""

    revision: str
    """`branch@sha1:<40 hex>`: the first that wants this."""
    content: str = ""
    """The identity of what it wants, see `core.history.identity`; empty where it could not be read."""
    admitted: datetime | None = None
    applied: datetime | None = None
    """When the first whole turn of it was over, whatever came of it."""
    in_sync: datetime | None = None
    healthy: datetime | None = None
    failed: datetime | None = None
    """While it was never healthy: when it was first seen to fail."""
    error: str = ""
    images: tuple[str, ...] | None = None
    """Of every container, sorted; None where that is not known any more."""

    @property
    def commit(self) -> str:
        return self.revision.rpartition(":")[2]

    @property
    def is_good(self) -> bool:
        """Whether one may go back to it."""
        return self.in_sync is not None and self.healthy is not None


@immutable
class History:
    """The newest first."""

    passages: tuple[Passage, ...] = ()
    damage: str = ""
    """Why nothing is known of what was before; empty nearly always."""
