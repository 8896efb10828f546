"""How long to wait: between failed turns, between looks at a remote that is silent, between reverts of a fight."""

from __future__ import annotations

from datetime import timedelta

from gitsyncd.model.immutable import immutable

_MAX_EXPONENT = 30
"""Far beyond every cap, and far from what a float or a timedelta cannot hold."""


def next_delay(failures: int, *, base: timedelta, cap: timedelta, jitter: float = 0.0) -> timedelta:
    """`base` after the first failure, doubled by each further one up to `cap`, and never below `base`.

    `jitter` in [0, 1) adds up to a tenth, so that what failed together does not come back together.
    """
    grown = base.total_seconds() * 2 ** min(max(failures - 1, 0), _MAX_EXPONENT)
    return timedelta(seconds=min(grown, max(cap, base).total_seconds()) * (1 + 0.1 * jitter))


FIGHT_REVERTS = 5
FIGHT_WINDOW_S = 60.0
FIGHT_BASE_S = 2.0
FIGHT_FACTOR = 3.0
FIGHT_CAP_S = 300.0
_AFTER_S = 1.0
"""Past the moment at which a fight can be over: a look at just that moment would find it going on."""


@immutable(kw_only=False)
class Fight:
    """The reverts of one object. Times are seconds of a monotonic clock."""

    reverts: tuple[float, ...] = ()
    """Within the last minute, oldest first."""
    level: int = 0
    """0 while there is no fight; each further revert raises it."""
    until: float = 0.0
    """The next revert waits until then."""
    manager: str | None = None
    total: int = 0
    """Reverts since the fight began."""

    @property
    def fighting(self) -> bool:
        return self.level > 0


def reverted(fight: Fight, now: float, manager: str | None) -> Fight:
    """After one more revert.

    More than five in a minute are a fight, and then each waits three times as long as the last, up to five minutes.
    """
    recent = (*(at for at in fight.reverts if now - at < FIGHT_WINDOW_S), now)
    if not fight.fighting and len(recent) <= FIGHT_REVERTS:
        return Fight(reverts=recent, manager=manager, total=len(recent))
    delay = min(FIGHT_BASE_S * FIGHT_FACTOR ** min(fight.level, _MAX_EXPONENT), FIGHT_CAP_S)
    return Fight(
        reverts=recent,
        level=fight.level + 1,
        until=now + delay,
        manager=manager or fight.manager,
        total=fight.total + 1,
    )


def is_forgotten(fight: Fight, now: float) -> bool:
    """Reverts that led to no fight say nothing any more once the last of them is a minute old."""
    return not fight.fighting and (not fight.reverts or now - fight.reverts[-1] >= FIGHT_WINDOW_S)


def is_over(fight: Fight, now: float) -> bool:
    """A fight is over when nobody wrote for a minute after the wait had ended."""
    return fight.fighting and now > fight.until + FIGHT_WINDOW_S


def next_look(fight: Fight, now: float) -> float:
    """When an object in a fight has to be looked at next: at the end of its wait, then once it may be over."""
    return fight.until if now < fight.until else fight.until + FIGHT_WINDOW_S + _AFTER_S
