"""How many requests to have in flight to one API server: found out from how long its answers take.

A server has a rate that more requests at once cannot raise: they only queue. The part of a request's time that exceeds
the least that such a request ever took was spent in that queue, so of `limit` requests in flight about
`limit * (1 - least / time)` are queueing (TCP Vegas). That queue is kept at a length that keeps the server busy: some
dozen on one that is near, and, since time on the way is no queueing, many more in flight on one that is far.

A refusal (429) or a time limit that ran out halves it at once, and what was cut grows back slowly. All times are
seconds.
"""

from __future__ import annotations

from dataclasses import replace

from gitsyncd.model.immutable import immutable

CAP = 32
"""More has only added latency on every API server that was tried."""

START = 8
"""Before anything is known."""

QUEUE = (12.0, 16.0)
"""Requests that may queue: widened below the first, narrowed above the second. With 16 in flight an API server on two
cores gives 89 to 95 % of its best rate. Latency alone never takes the limit below this: how long a request takes
depends on the object, too."""

GROWTH = 0.25
"""Of the limit, in each round trip of all requests in flight."""

REGROWTH_S = 1.0
"""Between two steps of one while a cut is not forgotten."""

CUT_FORGOTTEN_S = 60.0

_SMOOTHING = 0.1
"""The weight of one answer."""

_PERIOD_S = 30.0
"""The least time of this period and of the one before counts: a path that has become longer is believed after that."""


@immutable(kw_only=False)
class Least:
    """The least time that a request of one sort took."""

    now: float
    before: float
    """In the period before this one."""
    until: float
    """When this period ends."""

    @property
    def value(self) -> float:
        return min(self.now, self.before)


@immutable
class Pace:
    """The limit of one API server, and what it was derived from."""

    cap: int
    limit: float
    share: float = 1.0
    """Of the time of a request, what it takes when nothing queues; smoothed."""
    cut_at: float = float("-inf")
    grown_at: float = float("-inf")
    """The last step since that cut."""

    @property
    def width(self) -> int:
        """Requests that may be in flight."""
        return int(self.limit)


def initial(cap: int) -> Pace:
    return Pace(cap=cap, limit=float(min(START, cap)))


def seen(least: Least | None, took: float, now: float) -> Least:
    """After one more answer of the same sort."""
    if least is None:
        return Least(took, took, now + _PERIOD_S)
    if now >= least.until:
        return Least(took, least.now, now + _PERIOD_S)
    return Least(took, least.before, least.until) if took < least.now else least


def answered(pace: Pace, *, share: float, now: float) -> Pace:
    """After an answer that came while the limit was used up: what it says of a wider limit is known only then."""
    smooth = pace.share + _SMOOTHING * (share - pace.share)
    queue = pace.limit * (1.0 - smooth)
    low, high = QUEUE
    if queue > high:
        limit = max(pace.limit - GROWTH, 1.0)
    elif queue < low and pace.limit < pace.cap:
        return _grown(pace, smooth, now)
    else:
        limit = pace.limit
    return replace(pace, limit=limit, share=smooth)


def _grown(pace: Pace, share: float, now: float) -> Pace:
    if now - pace.cut_at >= CUT_FORGOTTEN_S:
        return replace(pace, limit=min(pace.limit + GROWTH, float(pace.cap)), share=share)
    if now - max(pace.cut_at, pace.grown_at) < REGROWTH_S:
        return replace(pace, share=share)
    return replace(pace, limit=min(pace.limit + 1.0, float(pace.cap)), share=share, grown_at=now)


def refused(pace: Pace, *, sent_at: float, now: float) -> Pace:
    """After a 429, or a time limit that ran out.

    Requests that were already on their way at the last cut say nothing new.
    """
    if sent_at <= pace.cut_at:
        return pace
    return replace(pace, limit=max(pace.limit / 2.0, 1.0), cut_at=now, grown_at=now)
