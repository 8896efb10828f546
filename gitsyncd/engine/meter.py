"""Counting what happens, when it happens: in memory, for as long as the process lives.

Belongs here: what no later look could tell. What can be told from the state of the loops is told when it is asked for:
`measure`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING

from gitsyncd.model.errors import (
    GitsyncdError,
    MirrorDamaged,
    RevisionNotFound,
    SourceDenied,
    SourceTooLarge,
    SourceUnreachable,
)
from gitsyncd.model.metric import REVERTS, TARGET_TURNS, Histogram

if TYPE_CHECKING:
    from datetime import datetime

    from gitsyncd.model.observed import Writer
    from gitsyncd.model.plan import DriftKind, Guarded

OK = "ok"
_RESULTS: dict[type[GitsyncdError], str] = {
    SourceUnreachable: "unreachable",
    SourceDenied: "denied",
    RevisionNotFound: "not-found",
    SourceTooLarge: "too-large",
    MirrorDamaged: "damaged",
}


class Meter:
    """One for the daemon. Targets are `name@cluster`."""

    def __init__(self) -> None:
        self.turns: defaultdict[str, Histogram] = defaultdict(partial(Histogram, TARGET_TURNS.buckets))
        self.reverts: defaultdict[str, Histogram] = defaultdict(partial(Histogram, REVERTS.buckets))
        self.reverted: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        """By target, then by kind and writer."""
        self.refused: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """By target, then by reason."""
        self.polls: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """By source, then by result."""
        self.in_sync_at: dict[str, datetime] = {}

    def turned(self, target: str, seconds: float) -> None:
        self.turns[target].observe(seconds)

    def undid(self, target: str, kind: DriftKind, writer: Writer, seconds: float) -> None:
        """One change made on the cluster was undone."""
        self.reverted[target][kind, writer] += 1
        self.reverts[target].observe(seconds)

    def refuses(self, target: str, reason: Guarded) -> None:
        self.refused[target][reason] += 1

    def polled(self, source: str, error: GitsyncdError | None) -> None:
        """The remote was asked; with what was wrong with the answer."""
        self.polls[source][OK if error is None else _RESULTS.get(type(error), "error")] += 1
