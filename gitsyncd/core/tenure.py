"""Whose turn it is to write to a cluster: when a lease may be taken, and when one is handed on.

The rules are those of client-go's leader election (`k8s.io/client-go/tools/leaderelection`): no clock of another
machine is believed. A lease has expired when its record has not changed for its whole duration since *we* first saw it
so. The holder stops writing `MARGIN_S` before that moment can come, counted from before it asked for its last renewal.

Sharing is no election either: whoever holds two clusters more than a daemon that stands by hands one to it. Each
hand-over makes the division more even, so it ends; the API servers decide between two who act at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from gitsyncd.model.immutable import immutable
from gitsyncd.model.lease import Candidate, Lease

DURATION_S = 15.0
RENEW_S = 5.0
"""Twice may a renewal fail before writing stops."""
MARGIN_S = 3.0
"""For a write that was sent in the last moment to arrive, and for clocks that do not run equally fast."""
DEFER_S = 0.4
"""Per cluster that a daemon holds already, before it takes one more that has become free: the emptier come first."""
FORGET_S = 4 * RENEW_S
"""A candidate that has said nothing new for so long is taken for gone."""


def writes_until(asked_at: float) -> float:
    """Until when the holder may write (monotonic seconds), if it asked for the renewal that was granted then."""
    return asked_at + DURATION_S - MARGIN_S


def free_in(lease: Lease | None, *, me: str, unchanged_s: float, holder_is_gone: bool) -> float:
    """Seconds until the lease may be taken; 0 for now.

    `unchanged_s` is for how long this very record has been seen. `holder_is_gone` is knowledge from elsewhere that the
    holder's process has ended, and is not to be guessed.
    """
    if lease is None or lease.holder in {"", me} or holder_is_gone:
        return 0.0
    return max(0.0, lease.duration_s - unchanged_s)


@immutable
class Standing:
    """What is known of a daemon that would take a share."""

    holds: int
    beat: int
    heard_at: float
    """When it last said something new, in monotonic seconds."""
    given: int = 0
    """Clusters handed to it since then."""


def hear(known: Mapping[str, Standing], candidates: Mapping[str, Candidate], now: float) -> dict[str, Standing]:
    """What is known after one more look at some cluster's lease. What was said longer ago elsewhere changes nothing."""
    # Those that are gone are remembered for longer: their last word may still stand at another cluster.
    heard = {holder: standing for holder, standing in known.items() if now - standing.heard_at < 10 * FORGET_S}
    for holder, said in candidates.items():
        if holder not in heard or said.beat > heard[holder].beat:
            heard[holder] = Standing(holds=said.holds, beat=said.beat, heard_at=now)
    return heard


def heir(mine: int, standings: Mapping[str, Standing], among: Mapping[str, Candidate], now: float) -> str:
    """To whom of those that stand by at a cluster a daemon that holds `mine` should hand it; empty for nobody.

    The one with the fewest, by name among equals, if it is left with no more than we then have.
    """
    shares = sorted(
        (known.holds + known.given, holder)
        for holder, known in standings.items()
        if holder in among and _is_alive(known, now)
    )
    return shares[0][1] if shares and mine - shares[0][0] >= 2 else ""


def gone(standings: Mapping[str, Standing], candidates: Mapping[str, Candidate], now: float) -> list[str]:
    """Candidates at a cluster that are of daemons that are gone: their notes can be removed."""
    return sorted(holder for holder in candidates if holder not in standings or not _is_alive(standings[holder], now))


def _is_alive(standing: Standing, now: float) -> bool:
    return now - standing.heard_at < FORGET_S
