"""Which daemon may write to a cluster: the cluster's own word on it, as it stands in its `Lease`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from gitsyncd.model.immutable import immutable


@immutable
class Candidate:
    """A daemon that stands by and would take its share, as it says of itself."""

    holds: int
    """Clusters that it writes to now."""
    beat: int
    """Grows each time that it says so: one that no longer grows is of a daemon that is gone."""


@immutable
class Lease:
    """One reading of a Lease. Its times are never compared with a clock: only whether they have changed counts."""

    holder: str
    """Empty: nobody's."""
    renewed: str
    """As the holder wrote it."""
    duration_s: float
    """How long the holder may count on it after a renewal."""
    resource_version: str
    candidates: Mapping[str, Candidate] = field(default_factory=dict)
    """By holder; only where daemons share the clusters among themselves."""
